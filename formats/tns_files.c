/* Streams that lie in several files; few of these are open at once. */
#include "formats/tns.h"
#include "formats/tns_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ONLY_REGULAR = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY };

/* Which file a name was when it was added. */
struct tns_file {
    char *name;
    uint64_t device, inode, size, seconds;
    long nanoseconds;
};

struct tns_files {
    struct tns_file *file;
    uint32_t count, room;
    int fd[TNS_OPEN]; /* of file of[i], if it is not -1; a file has one place */
    uint32_t of[TNS_OPEN];
};

struct tns_files *tns_files_new(void)
{
    struct tns_files *f = calloc(1, sizeof *f);
    for (int i = 0; f && i < TNS_OPEN; i++)
        f->fd[i] = -1;
    return f;
}

void tns_files_free(struct tns_files *f)
{
    if (!f)
        return;
    for (int i = 0; i < TNS_OPEN; i++)
        if (f->fd[i] >= 0)
            close(f->fd[i]);
    for (uint32_t i = 0; i < f->count; i++)
        free(f->file[i].name);
    free(f->file);
    free(f);
}

uint32_t tns_files_count(const struct tns_files *f)
{
    return f->count;
}

const char *tns_files_name(const struct tns_files *f, uint32_t i)
{
    return f->file[i].name;
}

uint64_t tns_files_size(const struct tns_files *f, uint32_t i)
{
    return f->file[i].size;
}

static int told(char *why, size_t size, const char *path, int code, const char *what)
{
    snprintf(why, size, "%s: %s", path, what);
    return code;
}

/* A descriptor, and what it is of; or an error. */
static int open_path(const char *path, struct stat *st, char *why, size_t size)
{
    const int fd = open(path, ONLY_REGULAR);
    if (fd >= 0 && !fstat(fd, st))
        return fd;
    const int e = told(why, size, path, TNS_EIO, strerror(errno));
    if (fd >= 0)
        close(fd);
    return e;
}

static void note(struct tns_file *to, const struct stat *st)
{
    to->device = (uint64_t)st->st_dev;
    to->inode = (uint64_t)st->st_ino;
    to->size = (uint64_t)st->st_size;
    to->seconds = (uint64_t)st->st_mtim.tv_sec;
    to->nanoseconds = st->st_mtim.tv_nsec;
}

/* A file, which is open already: it stays so while there is a place for it. */
static int add_file(struct tns_files *f, char *name, int fd, const struct stat *st, char *why,
                    size_t size)
{
    if (!S_ISREG(st->st_mode))
        return told(why, size, name, TNS_EINVALID, "is no regular file");
    if ((uint64_t)st->st_size >> TNS_FILE_SHIFT)
        return told(why, size, name, TNS_EIO, "too large");
    if (f->count == TNS_FILES)
        return told(why, size, name, TNS_EIO, "too many files (cat joins streams)");
    if (f->count == f->room) {
        const uint32_t room = f->room ? 2 * f->room : 16;
        struct tns_file *more = realloc(f->file, room * sizeof *more);
        if (!more)
            return told(why, size, name, TNS_ENOMEM, "out of memory");
        f->file = more;
        f->room = room;
    }
    struct tns_file *to = &f->file[f->count];
    note(to, st);
    to->name = name;
    if (f->count < TNS_OPEN) {
        f->fd[f->count] = fd;
        f->of[f->count] = f->count;
    } else {
        close(fd);
    }
    f->count++;
    return 0;
}

static int chosen(const struct dirent *e)
{
    const size_t n = strlen(e->d_name);
    return *e->d_name != '.' && n > 4 && !strcmp(e->d_name + n - 4, ".tns");
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int add_one(struct tns_files *f, const char *path, bool folders, char *why, size_t size);

static int add_folder(struct tns_files *f, const char *path, char *why, size_t size)
{
    struct dirent **entry;
    char file[4096];
    const int n = scandir(path, &entry, chosen, by_bytes);
    const size_t len = strlen(path);
    int e = n < 0    ? told(why, size, path, TNS_EIO, strerror(errno))
            : n == 0 ? told(why, size, path, TNS_EIO, "is a directory without *.tns")
                     : 0;
    for (int i = 0; i < n; i++) {
        if (!e && (size_t)snprintf(file, sizeof file, "%s%s%s", path,
                                   len && path[len - 1] == '/' ? "" : "/",
                                   entry[i]->d_name) >= sizeof file)
            e = told(why, size, path, TNS_EIO, "a name is too long");
        if (!e)
            e = add_one(f, file, false, why, size);
        free(entry[i]);
    }
    if (n >= 0)
        free(entry);
    return e;
}

static int add_one(struct tns_files *f, const char *path, bool folders, char *why, size_t size)
{
    struct stat st;
    const int fd = open_path(path, &st, why, size);
    if (fd < 0)
        return fd;
    if (folders && S_ISDIR(st.st_mode)) {
        close(fd);
        return add_folder(f, path, why, size);
    }
    char *name = strdup(path);
    const int e = name ? add_file(f, name, fd, &st, why, size)
                       : told(why, size, path, TNS_ENOMEM, "out of memory");
    if (e) {
        close(fd);
        free(name);
    }
    return e;
}

int tns_files_add(struct tns_files *f, const char *path, char *why, size_t size)
{
    return add_one(f, path, true, why, size);
}

int tns_files_open(struct tns_files *f, uint32_t i, char *why, size_t size)
{
    const uint32_t place = i % TNS_OPEN;
    struct tns_file now = {0}, *was = &f->file[i];
    struct stat st;
    if (f->fd[place] >= 0 && f->of[place] == i)
        return f->fd[place];
    const int fd = open_path(was->name, &st, why, size);
    if (fd < 0)
        return fd;
    note(&now, &st);
    if (now.device != was->device || now.inode != was->inode || now.size != was->size ||
        now.seconds != was->seconds || now.nanoseconds != was->nanoseconds) {
        close(fd);
        return told(why, size, was->name, TNS_EIO, "has changed since it was first read");
    }
    if (f->fd[place] >= 0)
        close(f->fd[place]);
    f->fd[place] = fd;
    f->of[place] = i;
    return fd;
}
