/* why.c - what went wrong, in one line. */
#include "lib/nn/handle.h"

#include <stdarg.h>
#include <stdio.h>

int nn_fail(struct nn *nn, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(nn->why, sizeof nn->why, fmt, ap);
    va_end(ap);
    return nn->failed = code;
}

const char *nn_why(const struct nn *nn)
{
    return nn->why;
}
