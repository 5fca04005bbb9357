/* atomic.h - a file that appears under its final name only when it is whole.
 *
 *     struct afile f;
 *     if (afile_open(&f, "model.safetensors", why, sizeof why) < 0) ...
 *     if (write_everything(f.fd) < 0) { afile_abort(&f); ... }
 *     if (afile_commit(&f, why, sizeof why) < 0) ...
 *
 * Bytes go to a temporary file beside the target (same directory, name starting with a dot). Commit
 * flushes it to the disk (where the file system can do that), renames it over the target and
 * flushes the directory: whoever opens the target, at any moment and after a crash, sees the whole
 * old file or the whole new one. Abort, and any failure of commit before the rename, removes the
 * temporary file. A process that is killed leaves it behind; it never counts as the target. (One
 * that is asked to end calls afile_sweep first; one that knows that nobody else writes to a target
 * calls afile_sweep_target.)
 *
 * A symbolic link is followed, so that the link stays; one that leads nowhere is refused. A target
 * that exists and is no regular file is refused: renaming over a device would remove the device.
 * Functions that can fail return 0, or -1 with one line of text in `why`. */
#ifndef ATOMIC_H
#define ATOMIC_H

#include <stddef.h>

struct afile {
    int fd;     /* write here, by any means; -1 when not open */
    char *temp; /* the temporary name, for a library that wants to open by name */
    char *path; /* the final name, links resolved */
};

__attribute__((warn_unused_result)) int afile_open(struct afile *, const char *path, char *why,
                                                   size_t size);

/* All n bytes, through short writes and interruptions. */
__attribute__((warn_unused_result)) int afile_write(struct afile *, const void *data, size_t n,
                                                    char *why, size_t size);

/* Flushes the file to the disk and closes it, so that only the name is missing: for those who give
 * many files their names together. After -1 the temporary file is gone. */
__attribute__((warn_unused_result)) int afile_seal(struct afile *, char *why, size_t size);

/* Whatever the outcome, the file is closed afterwards. */
__attribute__((warn_unused_result)) int afile_commit(struct afile *, char *why, size_t size);

/* Closes and removes; nothing to do when not open. */
void afile_abort(struct afile *);

/* A whole file at once: opened, written and committed, or not there. */
__attribute__((warn_unused_result)) int afile_put(const char *path, const void *data, size_t n,
                                                  char *why, size_t size);

/* Removes the temporary files of all that is open or sealed, for a process that is about to end;
 * async-signal-safe. */
void afile_sweep(void);

/* Removes what killed processes left behind of this target. Only under a lock that every writer of
 * the target takes. */
void afile_sweep_target(const char *path);

#endif
