# dicoms.py - DICOM as scanners send it, by pydicom: series(...) writes a series, a file a slice or one with frames.
import os
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SECRET = "SECRET"  # in all that tells whom it shows
PLANES = {"ax": ((1, 0, 0), (0, 1, 0), (0, 0, 1)), "sag": ((0, 1, 0), (0, 0, -1), (1, 0, 0)), "cor": ((1, 0, 0), (0, 0, -1), (0, 1, 0))}


def study(who="A"):
    """What the series of one study have in common."""
    d = Dataset()
    d.PatientName, d.PatientID, d.AccessionNumber = f"{SECRET}^{who}", f"{SECRET}ID{who}", f"{SECRET}ACC"
    d.PatientBirthDate, d.StudyDate, d.SeriesDate, d.AcquisitionDate = "19010203", "19991231", "19991231", "19991231"
    d.StudyTime = d.SeriesTime = d.AcquisitionTime = "112233"
    d.PatientSex, d.StudyID, d.ReferringPhysicianName = "O", f"{SECRET}S", f"{SECRET}^DOCTOR"
    d.InstitutionName, d.StudyDescription = f"{SECRET} HOSPITAL", f"{SECRET} STUDY"
    d.Modality, d.Manufacturer, d.MagneticFieldStrength = "MR", "GE MEDICAL SYSTEMS", 3
    d.StudyInstanceUID, d.FrameOfReferenceUID = generate_uid(entropy_srcs=[who, "study"]), generate_uid(entropy_srcs=[who, "frame"])
    return d


def item(**tags):
    d = Dataset()
    for k, v in tags.items():
        setattr(d, k, v)
    return Sequence([d])


def series(folder, base, number, description, volume, first, mm, plane="ax", drop=(), frames=False, planes=None, **tags):
    """volume[column, row, slice] in the plane's axes (LPS); first: mm of its first voxel. planes: a plane a slice, for localisers."""
    os.makedirs(folder, exist_ok=True)
    uid, n = generate_uid(entropy_srcs=[base.StudyInstanceUID, str(number), description]), volume.shape[2]
    positions, files = [], []
    for i in range(n):
        row, column, normal = (np.array(v, float) for v in PLANES[planes[i] if planes else plane])
        positions.append(([float(v) for v in np.array(first) + normal * mm[2] * i], [*row, *column]))
    made = []
    for i in [0] if frames else [i for i in range(n) if i not in drop]:
        d = Dataset()
        d.update(base)
        d.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1" if frames else "1.2.840.10008.5.1.4.1.1.4"
        d.SeriesInstanceUID, d.SOPInstanceUID = uid, generate_uid(entropy_srcs=[uid, str(i)])
        d.SeriesNumber, d.InstanceNumber, d.AcquisitionNumber, d.SeriesDescription, d.ProtocolName = number, i + 1, 1, description, description
        d.ImageType, d.ScanningSequence, d.SequenceVariant, d.MRAcquisitionType = ["ORIGINAL", "PRIMARY", "M", "NONE"], "SE", "NONE", "2D"
        d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 1
        d.BitsAllocated, d.BitsStored, d.HighBit = 16, 16, 15
        d.Columns, d.Rows = volume.shape[:2]
        for k, v in tags.items():
            setattr(d, k, v)
        if frames:
            d.NumberOfFrames = n
            d.ContentDate, d.ContentTime = "19991231", "112233"
            d.SharedFunctionalGroupsSequence = item(
                PixelMeasuresSequence=item(PixelSpacing=[mm[1], mm[0]], SliceThickness=mm[2], SpacingBetweenSlices=mm[2]),
                MRImageFrameTypeSequence=item(FrameType=["ORIGINAL", "PRIMARY", "M", "NONE"]))
            uid_d = generate_uid(entropy_srcs=[uid, "dimension"])
            d.DimensionOrganizationSequence = item(DimensionOrganizationUID=uid_d)
            group = []
            for j, (at, axes) in enumerate(positions):
                if j in drop:
                    continue
                g = Dataset()
                g.FrameContentSequence = item(DimensionIndexValues=[1, j + 1], StackID="1", InStackPositionNumber=j + 1, FrameAcquisitionNumber=1)
                g.PlanePositionSequence, g.PlaneOrientationSequence = item(ImagePositionPatient=at), item(ImageOrientationPatient=axes)
                group.append(g)
            d.NumberOfFrames = len(group)
            d.PerFrameFunctionalGroupsSequence = Sequence(group)
            pixels = volume[:, :, [j for j in range(n) if j not in drop]].transpose(2, 1, 0)
        else:
            d.ImagePositionPatient, d.ImageOrientationPatient = positions[i]
            d.PixelSpacing, d.SliceThickness, d.SpacingBetweenSlices = [mm[1], mm[0]], mm[2], mm[2]
            pixels = volume[:, :, i].T
        d.PixelData = np.ascontiguousarray(pixels.astype("<i2")).tobytes()
        d.file_meta = FileMetaDataset()
        d.file_meta.MediaStorageSOPClassUID, d.file_meta.MediaStorageSOPInstanceUID = d.SOPClassUID, d.SOPInstanceUID
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.is_little_endian, d.is_implicit_VR = True, False
        d.save_as(f"{folder}/IM{number:02d}{i:04d}", write_like_original=False)
        made.append(d)
    return made
