/* A switch outside of the loops, so that each is a vector's. */
#include "lib/image/load.h"

#define LOAD(type)                                                                                 \
    do {                                                                                           \
        const type *restrict in = (const type *)t->data + first;                                   \
        double *restrict to = out;                                                                 \
        _Pragma("omp simd") for (size_t i = 0; i < n; i++) to[i] = (double)in[i];                  \
    } while (0)

void img_load(const struct tensor *t, size_t first, size_t n, double *out)
{
    switch (t->dtype) {
    case DT_U8:
        LOAD(uint8_t);
        break;
    case DT_I16:
        LOAD(int16_t);
        break;
    case DT_I32:
        LOAD(int32_t);
        break;
    case DT_F32:
        LOAD(float);
        break;
    case DT_F64:
        LOAD(double);
        break;
    default:
        for (size_t i = 0; i < n; i++)
            out[i] = tensor_get(t, first + i);
    }
}
