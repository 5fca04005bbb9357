#include "formats/plain.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

FILE *plain_open(const char *path, char *why, size_t size)
{
    struct stat st;
    FILE *f = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd >= 0 && fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))
        snprintf(why, size, "%s: is %s (wanted a regular file)", path,
                 S_ISDIR(st.st_mode) ? "a directory" : "a pipe or a device");
    else if (fd < 0 || !(f = fdopen(fd, "r")))
        snprintf(why, size, "%s: %s", path, strerror(errno));
    if (!f && fd >= 0)
        close(fd);
    return f;
}
