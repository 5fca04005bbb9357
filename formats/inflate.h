/* inflate.h - a file read from front to back, inflated on the way if it is gzip.
 *
 * A reader can be forked: the copy goes on from the same place, so a later pass need not begin at
 * the start of the file. Every member of a gzip file is checked against its CRC-32 and length.
 * Memory: about 150 KB for an open gzip file, whatever its size.
 *
 * Errors: a negative return, and inf_why gives the reason in words. */
#ifndef INFLATE_H
#define INFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct inflate;

/* Opens a regular file: gzip if it starts as such. NULL with errno set if the system says no, or
 * to EISDIR or ESPIPE for what is no regular file (plain.h has the words). */
struct inflate *inf_open(const char *path);
void inf_close(struct inflate *);

bool inf_is_gzip(const struct inflate *);
uint64_t inf_file_size(const struct inflate *);

/* Reads n bytes: returns n, or less if the (inflated) file ended, or -1. */
ssize_t inf_read(struct inflate *, void *buf, size_t n) __attribute__((warn_unused_result));

/* Passes over n bytes, like inf_read. Only a plain file is spared the reading. */
ssize_t inf_skip(struct inflate *, uint64_t n) __attribute__((warn_unused_result));

/* Goes through the rest of a gzip file, so that its checksum is checked to the end; 0 or -1. */
int inf_drain(struct inflate *) __attribute__((warn_unused_result));

/* A second reader at the same place; NULL if memory or descriptors are short. */
struct inflate *inf_fork(const struct inflate *);

/* Whether the file's size or time of change is another than when it was opened. */
bool inf_changed(const struct inflate *);

const char *inf_why(const struct inflate *);

#endif
