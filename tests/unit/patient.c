/* Patients by naming scheme. */
#include <string.h>

#include "lib/image/patient.h"
#include "tests/lib/tap.h"

int main(void)
{
    static const char *const table[][2] = {
        {"BraTS-GLI-00005-001", "BraTS-GLI-00005"},
        {"BraTS-GLI-00005-000", "BraTS-GLI-00005"},
        {"BraTS-MEN-RT-0146-1", "BraTS-MEN-RT-0146"},
        {"BraTS-GoAT-00012", "BraTS-GoAT-00012"},
        {"BraTS20_Training_001", "BraTS20_Training_001"},
        {"BraTS2021_00000", "BraTS2021_00000"},
        {"Brats18_2013_10_1", "Brats18_2013_10_1"},
        {"BRATS_457", "BRATS_457"},
        {"site-00005-001", "site-00005-001"},
        {"brats-met-00005-001", "brats-met-00005"},
        {"sub-01_ses-01", "sub-01"},
        {"sub-01_ses-02_run-1", "sub-01"},
        {"sub-NDAR1_ses-2", "sub-NDAR1"},
        {"sub-01", "sub-01"},
        {"sub-01_acq-high", "sub-01_acq-high"},
        {"ses-01", "ses-01"},
        {"_ses-01", "_ses-01"},
        {"Doe_week-3", "Doe"},
        {"Doe_WEEK-3_ses-1", "Doe"},
        {"UPENN-GBM-00001_11", "UPENN-GBM-00001"},
        {"UPENN-GBM-00001_21", "UPENN-GBM-00001"},
        {"UPENN-GBM-00001", "UPENN-GBM-00001"},
        {"UPENN-GBM-00001_11_x", "UPENN-GBM-00001_11_x"},
        {"UCSF-PDGM-0004", "UCSF-PDGM-0004"},
        {"UCSF-PDGM-0004_FU001d", "UCSF-PDGM-0004"},
        {"UCSF-PDGM-0004_nifti", "UCSF-PDGM-0004"},
        {"UCSF-PDGM-00041", "UCSF-PDGM-00041"},
        {"Patient-003_week-000", "Patient-003"},
        {"Patient-003_week-000-2", "Patient-003"},
        {"Patient-003", "Patient-003"},
        {"Patient-003_weekly", "Patient-003_weekly"},
        {"PatientID_0003_Timepoint_1", "PatientID_0003"},
        {"BraTS-00005-001", "BraTS-00005-001"},
        {"BraTS-GLI-00005-", "BraTS-GLI-00005-"},
        {"BraTS-GLI-00005-001a", "BraTS-GLI-00005-001a"},
        {"BraTS-GLI--001", "BraTS-GLI--001"},
        {"BraTS--00005-001", "BraTS--00005-001"},
        {"BraTS-", "BraTS-"},
        {"-1", "-1"},
        {"1-1", "1-1"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char out[64];
        img_patient(table[i][0], out);
        ok(!strcmp(out, table[i][1]), "'%s' shows '%s' (got '%s')", table[i][0], table[i][1], out);
    }
    return done_testing();
}
