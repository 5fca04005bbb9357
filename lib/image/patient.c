#include "lib/image/patient.h"

#include <string.h>

#define DIGITS "0123456789"

void img_patient(const char *name, char *out)
{
    static const char prefix[] = "BraTS-";
    const char *time = strrchr(name, '-'), *number = time;
    size_t keep = strlen(name);
    while (number && number > name && number[-1] >= '0' && number[-1] <= '9')
        number--;
    if (number && number < time && number > name + sizeof prefix - 1 && number[-1] == '-' &&
        number[-2] != '-' && !strncmp(name, prefix, sizeof prefix - 1) && time[1] &&
        !time[1 + strspn(time + 1, DIGITS)])
        keep = (size_t)(time - name);
    memmove(out, name, keep);
    out[keep] = 0;
}
