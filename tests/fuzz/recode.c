/* Arguments of recode: taken or told to be wrong in one line; what is taken names a scheme. */
#include "tests/fuzz/args.h"

#include "tools/recode.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    opt.inverse = false;
    opt.cavity = IMG_NONE;
    opt.scheme = NULL;
    if (run_arguments((const char *)data, size) == 0) {
        FUZZ_HOLDS(opt.scheme && img_scheme(opt.scheme->name) == opt.scheme);
        FUZZ_HOLDS(opt.cavity == IMG_NONE || opt.scheme->cavity);
    }
    return 0;
}
