/* entropy.c - sums of -p log p, four pixels at a time. */
#include "lib/image/entropy.h"

#include <float.h>
#include <math.h>

#include "lib/image/vmath.h"

static v4 part(v4 p)
{
    return p * v4_log(v4_max(p, V4(FLT_MIN)));
}

/* Of the pixels from the first on, as many as `bytes` hold. */
static inline void some(const struct targets *t, v4 scale, const float *prob, size_t n, float *out,
                        size_t bytes)
{
    v4 sum = V4(0.0f), p = sum;
    for (int k = 0; k < t->outputs; k++) {
        memcpy(&p, prob + (size_t)k * n, bytes);
        sum += part(p);
        if (t->regions)
            sum += part(V4(1.0f) - p);
    }
    sum = v4_min(v4_max(sum * scale, V4(0.0f)), V4(1.0f));
    memcpy(out, &sum, bytes);
}

void img_entropy(const struct targets *t, const float *prob, size_t n, float *out)
{
    const double most = t->regions ? t->outputs * log(2) : log(t->outputs);
    const v4 scale = V4(most > 0 ? (float)(-1 / most) : 0);
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        some(t, scale, prob + i, n, out + i, sizeof scale);
    if (i < n)
        some(t, scale, prob + i, n, out + i, (n - i) * sizeof *out);
}
