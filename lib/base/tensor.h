/* tensor.h - the one noun of the project: a named array in memory.
 *
 * Row-major, last dimension contiguous. `image` is (4,H,W), `label` and `pred` are (H,W), `prob` is
 * (C,H,W). A struct tensor never owns its data: who fills it in says who frees it. */
#ifndef TENSOR_H
#define TENSOR_H

#include <stddef.h>
#include <stdint.h>

#define TENSOR_MAX_RANK 8
#define TENSOR_MAX_NAME 64 /* bytes with the final NUL */

enum dtype { DT_U8, DT_I16, DT_I32, DT_F16, DT_BF16, DT_F32, DT_F64, DT_COUNT };

struct tensor {
    char name[TENSOR_MAX_NAME];
    enum dtype dtype;
    int rank;
    uint32_t dim[TENSOR_MAX_RANK];
    void *data;
};

/* Bytes of one element; 0 for a value outside the enum. */
size_t dtype_size(enum dtype);

/* "u8", "i16", ... ; NULL for a value outside the enum. */
const char *dtype_name(enum dtype);

/* Number of elements (1 for rank 0), and bytes. The caller has made sure that the product fits. */
size_t tensor_count(const struct tensor *);
size_t tensor_bytes(const struct tensor *);

/* Element i as a double, whatever the dtype; and the reverse, rounded to nearest and saturated for
 * integers. For bulk work convert rows with tensor_to_f32 / tensor_from_f32. */
double tensor_get(const struct tensor *, size_t i);
void tensor_set(struct tensor *, size_t i, double value);

/* n elements from element `first` on, converted to or from float. */
void tensor_to_f32(const struct tensor *, size_t first, size_t n, float *out);
void tensor_from_f32(struct tensor *, size_t first, size_t n, const float *in);

/* The first element that does not lie within lo..hi, as no NaN does, or the count. Values are
 * compared as floats. */
size_t tensor_find_outside(const struct tensor *, float lo, float hi);

/* Scalar conversions, round to nearest even (IEEE 754 binary16; bfloat16). */
float f16_to_f32(uint16_t);
uint16_t f32_to_f16(float);
float bf16_to_f32(uint16_t);
uint16_t f32_to_bf16(float);

/* The nearest that bf16 holds, ties to even; for loops over many. */
static inline float bf16_rounded(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {f};
    const uint32_t even = (v.u + 0x7fff + (v.u >> 16 & 1)) & 0xffff0000, nan = v.u | 0x400000;
    v.u = (v.u & 0x7fffffff) > 0x7f800000 ? nan & 0xffff0000 : even;
    return v.f;
}

#endif
