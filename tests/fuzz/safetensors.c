/* Model files: whatever is accepted keeps the format's promises. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "formats/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[512] = "";
    struct st_file f;
    unsigned char *copy = aligned_alloc(64, (size + 63) / 64 * 64 + 64);
    FUZZ_HOLDS(copy != NULL);
    memcpy(copy, data, size);
    if (st_parse(&f, copy, size, why, sizeof why) == 0) {
        st_close(&f);
    } else {
        FUZZ_HOLDS(*why && !strchr(why, '\n'));
    }
    free(copy);
    return 0;
}
