#!/usr/bin/python3
"""What `nii2slices -t | recode -s brats2017 | znorm | crop -m 16` does, with nibabel and numpy: slices with tumour
of all cases, z-scores over each case's non-zero voxels, labels recoded, cropped to the brain's box grown to a
multiple of 16, as raw bytes on standard output.  nibabel_stream.py CASE...
"""
import glob
import os
import sys

import nibabel as nib
import numpy as np

RECODE = np.array([0, 1, 2, 0, 3], np.uint8)


def grow(lo, hi, size, multiple=16):
    want = min(-(-(hi - lo) // multiple) * multiple, size)
    lo = max(0, min(lo - (want - (hi - lo)) // 2, size - want))
    return slice(lo, lo + want)


def case(folder):
    def volume(kind):
        return nib.load(glob.glob(f"{folder}/*_{kind}.nii.gz")[0])
    image = np.stack([np.asarray(volume(m).dataobj).astype(np.float32) for m in ("flair", "t1", "t1ce", "t2")])
    label = RECODE[np.asarray(volume("seg").dataobj).astype(np.uint8)]
    brain = (image != 0).any(0)
    for channel in image:
        inside = channel != 0
        values = channel[inside]
        channel[inside] = (values - values.mean(dtype=np.float64)) / values.std(dtype=np.float64)
    rows, columns = (np.flatnonzero(brain.any(axis)) for axis in ((1, 2), (0, 2)))
    box = grow(rows[0], rows[-1] + 1, brain.shape[0]), grow(columns[0], columns[-1] + 1, brain.shape[1])
    for z in np.flatnonzero(label.any((0, 1))):
        sys.stdout.buffer.write(np.ascontiguousarray(image[:, box[0], box[1], z].transpose(0, 2, 1)))
        sys.stdout.buffer.write(np.ascontiguousarray(label[box[0], box[1], z].T))


for folder in sys.argv[1:]:
    case(os.path.normpath(folder))
