/* number.c - strtod, and what of it is no number for us. */
#include "lib/base/number.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

bool number_read(const char *text, char **end, double *v)
{
    const char *p = text + (*text == '-' || *text == '+');
    *end = (char *)text;
    *v = 0;
    if (!isdigit((unsigned char)p[*p == '.']) || (*p == '0' && tolower((unsigned char)p[1]) == 'x'))
        return false;
    errno = 0;
    *v = strtod(text, end);
    return isfinite(*v) && !(errno && *v == 0);
}
