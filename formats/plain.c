/* Files are opened without waiting for a writer or a line, and asked what they are before they are
 * read. */
#include "formats/plain.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *plain_error(int code)
{
    return code == EISDIR   ? "is a directory (wanted a regular file)"
           : code == ESPIPE ? "is a pipe or a device (wanted a regular file)"
                            : strerror(code);
}

FILE *plain_open(const char *path, char *why, size_t size)
{
    struct stat st;
    FILE *f = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd >= 0 && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))
        snprintf(why, size, "%s: %s", path, plain_error(S_ISDIR(st.st_mode) ? EISDIR : ESPIPE));
    else if (fd < 0 || !(f = fdopen(fd, "r")))
        snprintf(why, size, "%s: %s", path, strerror(errno));
    if (!f && fd >= 0)
        close(fd);
    return f;
}
