/* Descriptions of networks: any text becomes operations or is refused with one line, in a time that
 * its length bounds. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <string.h>

#include "lib/nn/text.h"

static const char *const ops[] = {
    "input", "convolution", "transposed_convolution", "max_pool", "concat", "add", "batch_norm",
    "relu",  "dropout",     "attention_score",        "gate",     "head",   "loss"};

static const char *op(void *ctx, int i)
{
    (void)ctx;
    return i < (int)(sizeof ops / sizeof *ops) ? ops[i] : NULL;
}

static int channels(void *ctx, int value)
{
    FUZZ_HOLDS(value >= 0 && value < *(int *)ctx);
    return value % 7;
}

/* An odd operation is refused now and then. */
static int emit(void *ctx, const struct nn_line *l, char *why, size_t size)
{
    int *values = ctx;
    FUZZ_HOLDS(*values < NN_TEXT_OPS && l->line > 0 && l->ins >= 0 && l->ins <= NN_IN);
    FUZZ_HOLDS(strlen(l->name) <= NN_TEXT_NAME && l->attrs >= 0 && l->attrs <= NN_ATTRS);
    for (int i = 0; i < l->ins; i++)
        FUZZ_HOLDS(l->in[i] >= 0 && l->in[i] < *values);
    for (int i = 0; i < l->attrs; i++)
        for (int k = 0; k < l->attr[i].count; k++)
            FUZZ_HOLDS(isfinite(l->attr[i].value[k]) && l->attr[i].count <= 3);
    if (l->attrs == 3 && l->attr[0].value[0] == 7) {
        snprintf(why, size, "%s: (wanted another number)", l->attr[0].name);
        return -1;
    }
    return (*values)++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int values = 0;
    const struct nn_taker to = {&values, emit, channels, op};
    const struct nn_setting set = {"base", 3};
    char why[512] = "";
    if (nn_text((const char *)data, size, "x.yaml", &set, size % 2, &to, why, sizeof why))
        FUZZ_HOLDS(*why && !strchr(why, '\n'));
    else
        FUZZ_HOLDS(values > 0);
    return 0;
}
