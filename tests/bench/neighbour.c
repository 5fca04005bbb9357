/* neighbour [MIB]: streams through so much memory (512), reading and writing, until it is killed:
 * what a process on another core does to a cache that both share. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    enum { LINE = 64 / sizeof(uint64_t) };
    const size_t n = ((size_t)(argc > 1 ? atoi(argv[1]) : 512) << 20) / sizeof(uint64_t);
    volatile uint64_t *p = calloc(n, sizeof *p);
    if (!p || !n) {
        fprintf(stderr, "usage: neighbour [MIB]\n");
        return 2;
    }
    for (;;)
        for (size_t i = 0; i < n; i += LINE)
            p[i]++;
}
