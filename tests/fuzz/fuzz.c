/* What all harnesses share: how a broken promise is told, and input as a file. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void fuzz_broken(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: broken: %s\n", file, line, what);
    abort();
}

int fuzz_file(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    FUZZ_HOLDS(fd >= 0);
    FUZZ_HOLDS(write(fd, data, size) == (ssize_t)size);
    FUZZ_HOLDS(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}
