/* conv_narrow.h - convolutions of few channels, whose kernels may have wide gaps. */
#ifndef CONV_NARROW_H
#define CONV_NARROW_H

#include "lib/kernels/table.h"

/* Whether it is one. */
bool KR_NAME(kr_narrow)(const struct kr_conv *);
size_t KR_NAME(kr_narrow_workspace)(const struct kr_conv *);
void KR_NAME(kr_narrow_forward)(const struct kr_conv *, const struct kr_out *, void *workspace);

#endif
