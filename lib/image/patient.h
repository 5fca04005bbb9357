/* patient.h - whom a case shows, told by its name. */
#ifndef PATIENT_H
#define PATIENT_H

/* Writes the patient of a case into `out`, which has room for the case's name and a NUL.
 *
 * BraTS 2023 and later call a case BraTS-COHORT-PATIENT-TIMEPOINT, where the cohort is one or more
 * words (GLI, MEN-RT) and the last two fields are numbers: BraTS-GLI-00005-001 is a later scan of
 * BraTS-GLI-00005. In any other scheme (BraTS20_Training_001, BraTS2021_00000, BRATS_457,
 * BraTS-GoAT-00012, which has one number) a case is its own patient. */
void img_patient(const char *name, char *out);

#endif
