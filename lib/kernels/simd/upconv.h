/* upconv.h - transposed convolutions of any factors, in conv.c, for upconv.c. */
#ifndef UPCONV_H
#define UPCONV_H

#include "lib/kernels/table.h"

size_t KR_NAME(kr_upconv_any_workspace)(const struct kr_upconv *);
void KR_NAME(kr_upconv_any_forward)(const struct kr_upconv *, const struct kr_out *, void *);
void KR_NAME(kr_upconv_any_backward_data)(const struct kr_upconv *, const float *dy,
                                          const struct kr_dx *, void *);
void KR_NAME(kr_upconv_any_backward_weight)(const struct kr_upconv *, const float *dy, float *dw,
                                            float *dbias, void *);

#endif
