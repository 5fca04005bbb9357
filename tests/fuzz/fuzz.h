/* fuzz.h - what the harnesses share. Each is a file NAME.c with LLVMFuzzerTestOneInput (libFuzzer);
 * the same file with replay.c is a program that runs it over the files named on the command
 * line. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

/* A descriptor of a file in memory with these bytes, at its start; aborts if there is none to be
 * had. */
int fuzz_file(const uint8_t *data, size_t size);

/* Aborts, naming the place, if a promise is broken. */
#define FUZZ_HOLDS(condition) ((condition) ? (void)0 : fuzz_broken(#condition, __FILE__, __LINE__))
_Noreturn void fuzz_broken(const char *what, const char *file, int line);

#endif
