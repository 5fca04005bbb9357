/* replay.c - runs a harness over files: FILE..., each once. Prints TAP. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max)
{
    (void)data, (void)max;
    return size;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        uint8_t *b = malloc(1 << 24);
        size_t n = f && b ? fread(b, 1, 1 << 24, f) : 0;
        if (!f || !b)
            return perror(argv[i]), 1;
        uint8_t *exact = malloc(n ? n : 1); /* so that a read past the end is seen */
        for (size_t k = 0; exact && k < n; k++)
            exact[k] = b[k];
        LLVMFuzzerTestOneInput(exact, n);
        free(exact);
        free(b);
        fclose(f);
        printf("ok %d - %s\n", i, argv[i]);
        fflush(stdout);
    }
    printf("1..%d\n", argc - 1);
    return 0;
}
