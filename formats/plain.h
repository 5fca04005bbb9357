/* plain.h - a small file that is read by its name: settings, lists, dataset.json.
 *
 * Anything but a regular file is refused: a FIFO would be waited for, a device may never end. */
#ifndef PLAIN_H
#define PLAIN_H

#include <stdio.h>

/* NULL and "PATH: what" in why, if it cannot be opened or is no regular file. */
FILE *plain_open(const char *path, char *why, size_t size);

/* strerror(3), but in words of files for EISDIR and ESPIPE. */
const char *plain_error(int code);

#endif
