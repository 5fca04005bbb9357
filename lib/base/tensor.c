/* Elements one by one for whoever looks at a few, rows at once for the rest; both round alike.
 *
 * Halves are converted here and not by the compiler's _Float16: clang 14 has none on x86-64, GCC's
 * took 15 times as long for a row (30 ms for 4 million against 2), and NaNs came out otherwise. */
#include "lib/base/tensor.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[DT_COUNT] = {
    [DT_U8] = {"u8", 1},     [DT_I16] = {"i16", 2}, [DT_I32] = {"i32", 4}, [DT_F16] = {"f16", 2},
    [DT_BF16] = {"bf16", 2}, [DT_F32] = {"f32", 4}, [DT_F64] = {"f64", 8},
};

size_t dtype_size(enum dtype d)
{
    return (unsigned)d < DT_COUNT ? dtypes[d].size : 0;
}

const char *dtype_name(enum dtype d)
{
    return (unsigned)d < DT_COUNT ? dtypes[d].name : NULL;
}

size_t tensor_count(const struct tensor *t)
{
    size_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

size_t tensor_bytes(const struct tensor *t)
{
    return tensor_count(t) * dtype_size(t->dtype);
}

float bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

uint16_t f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Without branches: the product makes exponents, and subnormals, right. */
static inline float half(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, word;
    int32_t bits = (h & 0x7fff) << 13, scaled;
    float v;
    memcpy(&v, &bits, sizeof v);
    v *= 0x1p112f;
    memcpy(&scaled, &v, sizeof scaled);
    word = sign | (uint32_t)(bits < 0x0f800000 ? scaled : bits | 0x7f800000);
    memcpy(&v, &word, sizeof v);
    return v;
}

float f16_to_f32(uint16_t h)
{
    return half(h);
}

uint16_t f32_to_f16(float f)
{
    uint32_t u, sign;
    memcpy(&u, &f, 4);
    sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (u >= 0x477ff000)
        return (uint16_t)(sign | 0x7c00);
    if (u < 0x38800000) { /* subnormal: let the addition round */
        float magic = 0.5f, a;
        uint32_t r;
        memcpy(&a, &u, 4);
        a += magic;
        memcpy(&r, &a, 4);
        return (uint16_t)(sign | (r - 0x3f000000));
    }
    u += 0xc8000fff + (u >> 13 & 1);
    return (uint16_t)(sign | u >> 13);
}

double tensor_get(const struct tensor *t, size_t i)
{
    const char *p = t->data;
    int16_t s;
    int32_t l;
    uint16_t h;
    float f;
    double d;
    switch (t->dtype) {
    case DT_U8:
        return ((const uint8_t *)p)[i];
    case DT_I16:
        memcpy(&s, p + 2 * i, 2);
        return s;
    case DT_I32:
        memcpy(&l, p + 4 * i, 4);
        return l;
    case DT_F16:
        memcpy(&h, p + 2 * i, 2);
        return f16_to_f32(h);
    case DT_BF16:
        memcpy(&h, p + 2 * i, 2);
        return bf16_to_f32(h);
    case DT_F32:
        memcpy(&f, p + 4 * i, 4);
        return f;
    case DT_F64:
        memcpy(&d, p + 8 * i, 8);
        return d;
    default:
        return 0;
    }
}

static double clamp_round(double v, double lo, double hi)
{
    if (!(v > lo))
        return v != v ? 0 : lo;
    return v < hi ? nearbyint(v) : hi;
}

void tensor_set(struct tensor *t, size_t i, double v)
{
    char *p = t->data;
    int16_t s;
    int32_t l;
    uint16_t h;
    float f;
    switch (t->dtype) {
    case DT_U8:
        ((uint8_t *)p)[i] = (uint8_t)clamp_round(v, 0, 255);
        break;
    case DT_I16:
        s = (int16_t)clamp_round(v, INT16_MIN, INT16_MAX);
        memcpy(p + 2 * i, &s, 2);
        break;
    case DT_I32:
        l = (int32_t)clamp_round(v, INT32_MIN, INT32_MAX);
        memcpy(p + 4 * i, &l, 4);
        break;
    case DT_F16:
        h = f32_to_f16((float)v);
        memcpy(p + 2 * i, &h, 2);
        break;
    case DT_BF16:
        h = f32_to_bf16((float)v);
        memcpy(p + 2 * i, &h, 2);
        break;
    case DT_F32:
        f = (float)v;
        memcpy(p + 4 * i, &f, 4);
        break;
    case DT_F64:
        memcpy(p + 8 * i, &v, 8);
        break;
    default:
        break;
    }
}

static void widen_f16(const uint16_t *restrict in, size_t n, float *restrict out)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        out[i] = half(in[i]);
}

static void widen_bf16(const uint16_t *restrict in, size_t n, float *restrict out)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        out[i] = bf16_to_f32(in[i]);
}

void tensor_to_f32(const struct tensor *t, size_t first, size_t n, float *out)
{
    switch (t->dtype) {
    case DT_F16:
        widen_f16((const uint16_t *)t->data + first, n, out);
        break;
    case DT_BF16:
        widen_bf16((const uint16_t *)t->data + first, n, out);
        break;
    case DT_F32:
        memcpy(out, (const float *)t->data + first, n * sizeof *out);
        break;
    case DT_U8:
        for (size_t i = 0; i < n; i++)
            out[i] = ((const uint8_t *)t->data)[first + i];
        break;
    case DT_I16:
        for (size_t i = 0; i < n; i++)
            out[i] = ((const int16_t *)t->data)[first + i];
        break;
    default:
        for (size_t i = 0; i < n; i++)
            out[i] = (float)tensor_get(t, first + i);
    }
}

void tensor_from_f32(struct tensor *t, size_t first, size_t n, const float *in)
{
    if (t->dtype == DT_F32)
        memcpy((float *)t->data + first, in, n * sizeof *in);
    else
        for (size_t i = 0; i < n; i++)
            tensor_set(t, first + i, in[i]);
}

size_t tensor_find_outside(const struct tensor *t, float lo, float hi)
{
    enum { PIECE = 1024 };
    float piece[PIECE];
    size_t n = tensor_count(t);
    for (size_t i = 0; i < n; i += PIECE) {
        size_t m = n - i < PIECE ? n - i : PIECE;
        const float *v = (const float *)t->data + i;
        int inside = 1;
        if (t->dtype != DT_F32) {
            tensor_to_f32(t, i, m, piece);
            v = piece;
        }
#pragma omp simd reduction(& : inside)
        for (size_t k = 0; k < m; k++)
            inside &= (v[k] >= lo) & (v[k] <= hi);
        for (size_t k = 0; !inside && k < m; k++)
            if (!(v[k] >= lo && v[k] <= hi))
                return i + k;
    }
    return n;
}
