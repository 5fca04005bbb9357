/* Arguments of augment: taken or told to be wrong in one line; what is taken stays within the
 * operations' limits, and its history line, given as arguments, is taken again as the same. */
#include "tests/fuzz/args.h"

#include "tools/augment.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char first[sizeof history];
    memset(&opt, 0, sizeof opt);
    if (run_arguments((const char *)data, size))
        return 0;
    for (int i = 0; i < IMG_OPS; i++) {
        const struct img_range *r = &opt.op[i];
        FUZZ_HOLDS(r->p >= 0 && r->p <= 1);
        FUZZ_HOLDS(!(r->p > 0) || i == IMG_FLIP ||
                   (r->lo >= img_ops[i].min && r->lo <= r->hi && r->hi <= img_ops[i].max));
    }
    if (opt.labels && (strchr(opt.labels, ' ') || strlen(opt.labels) > 200))
        return 0; /* not to be told from two arguments */
    strcpy(first, history);
    for (char *p = history; *p; p++)
        *p = *p == ' ' ? '\n' : *p;
    char again[sizeof history];
    strcpy(again, history);
    memset(&opt, 0, sizeof opt);
    FUZZ_HOLDS(run_arguments(again, strlen(again)) == 0);
    FUZZ_HOLDS(!strcmp(first, history));
    return 0;
}
