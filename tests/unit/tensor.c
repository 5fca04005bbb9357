/* Tensors: many elements at once are what each is by itself, and what lies outside a range is
 * found. */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "lib/base/tensor.h"
#include "tests/lib/tap.h"

enum { ALL = 65536 };

static void test_half_floats(void)
{
    static uint16_t bits[ALL];
    static float many[ALL];
    for (int i = 0; i < ALL; i++)
        bits[i] = (uint16_t)i;
    for (enum dtype d = DT_F16; d <= DT_BF16; d++) {
        struct tensor t = {.dtype = d, .rank = 1, .dim = {ALL}, .data = bits};
        int differ = 0;
        tensor_to_f32(&t, 1, ALL - 1, many + 1);
        tensor_to_f32(&t, 0, 1, many);
        for (int i = 0; i < ALL; i++) {
            float one = d == DT_F16 ? f16_to_f32(bits[i]) : bf16_to_f32(bits[i]);
            differ += memcmp(&one, &many[i], sizeof one) != 0;
        }
        ok(!differ, "%s: all 65536 patterns, in bulk as one by one (%d differ)", dtype_name(d),
           differ);
    }
}

static void test_outside(void)
{
    static double data[3000];
    for (enum dtype d = DT_U8; d < DT_COUNT; d++) {
        struct tensor t = {.dtype = d, .rank = 2, .dim = {3, 1000}, .data = data};
        static const size_t places[] = {0, 1023, 1024, 2999};
        bool found = true;
        memset(data, 0, sizeof data);
        for (size_t i = 0; i < 3000; i++)
            tensor_set(&t, i, (double)(i % 100));
        ok(tensor_find_outside(&t, 0, 99) == 3000, "%s: the ends of a range are within it",
           dtype_name(d));
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            double was = tensor_get(&t, places[i]);
            tensor_set(&t, places[i], 101);
            found &= tensor_find_outside(&t, 0, 100) == places[i];
            tensor_set(&t, places[i], was);
        }
        ok(found, "%s: what is above is found, wherever it lies", dtype_name(d));
        if (d != DT_U8) {
            tensor_set(&t, 1500, -1);
            ok(tensor_find_outside(&t, 0, 100) == 1500, "%s: and what is below", dtype_name(d));
        }
        if (d < DT_F16)
            continue;
        static const double odd[] = {NAN, INFINITY, -INFINITY, 1e300};
        for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
            tensor_set(&t, 1500, odd[i]);
            ok(tensor_find_outside(&t, -FLT_MAX, FLT_MAX) == 1500, "%s: %g is no float's number",
               dtype_name(d), odd[i]);
        }
    }
}

int main(void)
{
    test_half_floats();
    test_outside();
    return done_testing();
}
