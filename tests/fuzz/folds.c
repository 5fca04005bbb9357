/* Fold manifests: any text is taken or refused with one line; what is taken is written and taken
 * again. */
#define _POSIX_C_SOURCE 200809L
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/folds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct folds f = {0}, g = {0};
    struct lines l = {.name = "x"};
    if (size == 0 || !(l.file = fmemopen((void *)data, size, "r")))
        return 0;
    int e = folds_read(&f, &l);
    fclose(l.file);
    if (e) {
        FUZZ_HOLDS(e == -1 && *l.why && !strchr(l.why, '\n'));
    } else {
        char *text = NULL;
        size_t n = 0;
        FILE *out = open_memstream(&text, &n);
        FUZZ_HOLDS(out != NULL);
        folds_sort_for_write(&f);
        folds_write(&f, out);
        FUZZ_HOLDS(fclose(out) == 0);
        struct lines again = {.name = "again", .file = fmemopen(text, n, "r")};
        FUZZ_HOLDS(again.file != NULL);
        FUZZ_HOLDS(folds_read(&g, &again) == 0);
        FUZZ_HOLDS(g.count == f.count && g.k == f.k && g.seed == f.seed);
        fclose(again.file);
        free(text);
    }
    folds_free(&f);
    folds_free(&g);
    return 0;
}
