/* A table of the schemes in which data sets name their scans; what fits none is a patient by
 * itself. */
#include "lib/image/patient.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "lib/base/session.h"

/* Names that hold a patient and a scan session: # stands for digits, @ for letters and digits, *
 * for anything; the patient ends at |. All else is as it stands, but for capitals. */
static const char *const schemes[] = {
    "BraTS-@-#|-#",   /* BraTS 2023 and later */
    "BraTS-@-@-#|-#", /* its cohorts of two words: MEN-RT */
    "UPENN-GBM-#|_#", /* UPenn-GBM */
    "UCSF-PDGM-#|_*"  /* UCSF-PDGM: _FU001d, _nifti */
};

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool letter_or_digit(char c)
{
    return digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The length of the patient in a name of that scheme; 0 if it is of another. */
static size_t patient_length(const char *scheme, const char *name)
{
    const char *at = name, *end = name;
    for (; *scheme && *scheme != '*'; scheme++) {
        const char *from = at;
        if (*scheme == '|') {
            end = at;
        } else if (*scheme == '#' || *scheme == '@') {
            while (*scheme == '#' ? digit(*at) : letter_or_digit(*at))
                at++;
            if (at == from)
                return 0;
        } else if (strncasecmp(scheme, at++, 1) != 0) {
            return 0;
        }
    }
    return *scheme || !*at ? (size_t)(end - name) : 0;
}

void img_patient(const char *name, char *out)
{
    size_t keep = 0;
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes && !keep; i++)
        keep = patient_length(schemes[i], name);
    if (!keep)
        keep = strlen(name);
    for (size_t i = 1; i < keep; i++)
        if (name[i] == '_' && names_session(name + i + 1))
            keep = i;
    memmove(out, name, keep);
    out[keep] = 0;
}
