/* patient.h - whom a case shows, told by its name. */
#ifndef PATIENT_H
#define PATIENT_H

/* Writes the patient of a case into `out`, which has room for the case's name and a NUL.
 *
 * Where names hold a session too, the patient is what stands before it: BraTS-GLI-00005-001 (BraTS
 * 2023 and later; the cohort is one word or two, the last two fields are numbers),
 * UPENN-GBM-00001_21, UCSF-PDGM-0004_FU001d, in capitals or not, and whatever stands before an
 * underscore and a session (session.h): sub-01_ses-02, Patient-003_week-000. In any other scheme
 * (BraTS20_Training_001, BraTS2021_00000, BRATS_457, BraTS-GoAT-00012, which has one number) a case
 * is its own patient. */
void img_patient(const char *name, char *out);

#endif
