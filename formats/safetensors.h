/* safetensors.h - named tensors in a file that is used where it lies: model files.
 *
 * formats/safetensors.md says what is accepted, section by section as safetensors.c checks it. The
 * reader maps the file read-only, so that processes share the weights and nothing is copied; it
 * believes nothing the file says before it has been checked against the file's own length, and
 * allocates no more than in proportion to the header's true bytes.
 *
 * Every function that can fail returns an st_error and puts one line of text into `why`. */
#ifndef SAFETENSORS_H
#define SAFETENSORS_H

#include "lib/base/tensor.h"

#include <stdbool.h>
#include <time.h>

enum st_error {
    ST_OK = 0,
    ST_IO = -1,          /* the system refused: errno's text, or out of memory */
    ST_FOREIGN = -2,     /* not a safetensors file at all */
    ST_CORRUPT = -3,     /* one, but broken: cut, padded, overlapping, malformed */
    ST_UNSUPPORTED = -4, /* well formed, but beyond a limit below or newer than this reader */
};

/* Limits. A header of a megabyte of metadata takes as much again while it is read, 200 bytes
 * for each value of a hostile one (json.h). */
#define ST_MAX_HEADER (16u << 20) /* bytes */
#define ST_MAX_TENSORS 65536
#define ST_ALIGN 64 /* the writer's; a reader asks only for that of the dtype */

struct st_pair {
    const char *key, *value; /* UTF-8, without NUL */
};

struct st_file {
    struct tensor *tensor; /* in the order of their bytes; data points into the file, read-only */
    int tensors;
    int others; /* tensors left out above: sound, but of a dtype that struct tensor has not (I64,
                   ...) */
    struct st_pair *meta; /* in the order of the file */
    int metas;
    /* private */
    const unsigned char *bytes;
    size_t size, checksum; /* checksum: where its digits stand, 0 for none */
    struct json_t *texts;  /* who owns those of meta */
    bool mapped;
    int fd; /* of the mapped file, and when it was last written */
    struct timespec written;
};

/* Maps a file and checks it whole, but for the values of the tensors. On failure nothing is held.
 * All pointers live until st_close. A file must not be cut or written while it is mapped (st_write
 * never does: it replaces by renaming): the one is a SIGBUS, the other st_changed tells. */
__attribute__((warn_unused_result)) int st_open(struct st_file *, const char *path, char *why,
                                                size_t size);

/* The same for a file in memory, which stays the caller's and must outlive the st_file. `bytes`
 * should be aligned to 8, as the tensors are used in place. */
__attribute__((warn_unused_result)) int st_parse(struct st_file *, const void *bytes, size_t n,
                                                 char *why, size_t size);
void st_close(struct st_file *);

/* Has a mapped file been written since it was opened? */
bool st_changed(const struct st_file *);

/* The checksum of the whole file as st_write stores it, whether it stands in the file or not. Reads
 * every byte. ST_OK or ST_IO. */
#define ST_PIECE ((size_t)4 << 20) /* of the file that is in memory meanwhile */
__attribute__((warn_unused_result)) int st_digest(const struct st_file *, char digits[17]);

/* Compares the whole file with the checksum that st_write stores: 1 it agrees, 0 the file has none
 * (another program's: who reads back what he wrote himself asks for 1), ST_CORRUPT it differs.
 * Reads every byte. */
__attribute__((warn_unused_result)) int st_check(const struct st_file *, char *why, size_t size);

/* The memory of what has been read is given back; it is read again when it is used. */
void st_forget(const struct st_file *);

/* By name; NULL when there is none. */
const char *st_meta(const struct st_file *, const char *key);

/* Writes a file that appears under its name only when it is whole and on the disk
 * (formats/atomic.h). The bytes depend on the arguments alone. Data starts on a multiple of 64
 * bytes; tensors whose size is a multiple of 64 bytes come first, so that all of them start on one
 * too; then the others, the wider dtypes first; otherwise in the order given. The checksum is added
 * as metadata `xxh3` (one that is given is replaced). What st_parse would refuse is refused and
 * leaves no file: names twice, invalid UTF-8, a tensor named __metadata__. */
__attribute__((warn_unused_result)) int st_write(const char *path, const struct st_pair *meta,
                                                 int metas, const struct tensor *tensor,
                                                 int tensors, char *why, size_t size);

#endif
