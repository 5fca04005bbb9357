/* Transforms and origins: any bytes are taken, and can then be turned round, or are refused with
 * one line. The first byte says which; an origin lies behind a header that is sound. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "formats/nifti_write.h"
#include "formats/origin.h"
#include "formats/transform.h"

static void try_transform(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), why[NII_WHY] = "";
    struct affine a, back;

    FUZZ_HOLDS(text != NULL);
    memcpy(text, data, size);
    text[size] = 0;
    if (xfm_parse(text, "x.txt", &a, why))
        FUZZ_HOLDS(*why && !strchr(why, '\n'));
    else
        FUZZ_HOLDS(affine_inverse(&a, &back));
    free(text);
}

static void try_origin(const uint8_t *data, size_t size)
{
    const uint32_t grid[3] = {4, 4, 4};
    const double spacing[3] = {1, 1, 1};
    uint8_t *all = calloc(1, 360 + size);
    char why[NII_WHY] = "";
    struct origin *o = malloc(sizeof *o);
    struct affine back;
    int32_t bytes = (int32_t)size + 8, code = 6;

    FUZZ_HOLDS(all && o);
    nii_make_header(all, grid, 1, spacing, DT_U8, "");
    all[348] = 1;
    memcpy(all + 352, &bytes, 4);
    memcpy(all + 356, &code, 4);
    memcpy(all + 360, data, size);
    int found = origin_read(all, 360 + size, o, why);
    if (found < 0)
        FUZZ_HOLDS(*why && !strchr(why, '\n'));
    for (int i = 0; found > 0 && i < o->n; i++)
        FUZZ_HOLDS(*o->scan[i].name && affine_inverse(&o->scan[i].map, &back));
    free(o);
    free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size && data[0])
        try_origin(data + 1, size - 1);
    else if (size)
        try_transform(data + 1, size - 1);
    return 0;
}
