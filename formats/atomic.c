/* A list of the temporary names in use stands beside the files themselves: a signal may end the
 * process at any moment, and what it was writing goes then too. */
#include "formats/atomic.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(char *why, size_t size, const char *path, const char *what, int error)
{
    snprintf(why, size, "%s: %s: %s", path, what, strerror(error));
    return -1;
}

/* --- what lies about ---------------------------------------------------------------------------*/

/* The temporary names in use. Entries are never freed, so that a signal may come at any moment. */
struct entry {
    struct entry *next;
    atomic_bool used;
    size_t room;
    char name[];
};
static struct entry *_Atomic entries;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int note(const char *name)
{
    size_t n = strlen(name) + 1;
    pthread_mutex_lock(&lock);
    struct entry *e = entries;
    while (e && (e->used || e->room < n))
        e = e->next;
    if (!e && (e = malloc(sizeof *e + n))) {
        e->room = n;
        e->next = entries;
        e->used = false;
        entries = e;
    }
    if (e) {
        memcpy(e->name, name, n);
        e->used = true;
    }
    pthread_mutex_unlock(&lock);
    return e ? 0 : -1;
}

static void strike(const char *name)
{
    pthread_mutex_lock(&lock);
    for (struct entry *e = entries; e; e = e->next)
        if (e->used && !strcmp(e->name, name))
            e->used = false;
    pthread_mutex_unlock(&lock);
}

void afile_sweep(void)
{
    for (struct entry *e = entries; e; e = e->next)
        if (e->used)
            unlink(e->name);
}

void afile_sweep_target(const char *path)
{
    char *whole = realpath(path, NULL), *a = strdup(whole ? whole : path),
         *b = a ? strdup(a) : NULL;
    DIR *d = b ? opendir(dirname(a)) : NULL;
    const char *base = b ? basename(b) : "";
    size_t n = strlen(base);
    for (struct dirent *e; d && (e = readdir(d));) {
        const char *p = e->d_name, *tail = strrchr(p, '.');
        if (*p == '.' && !strncmp(p + 1, base, n) && p[n + 1] == '.' && tail &&
            !strcmp(tail, ".tmp") && (size_t)(tail - p) > n + 2 &&
            strspn(p + n + 2, "0123456789-") == (size_t)(tail - p) - n - 2)
            unlinkat(dirfd(d), p, 0);
    }
    if (d)
        closedir(d);
    free(a);
    free(b);
    free(whole);
}

/* --- one file ----------------------------------------------------------------------------------*/

int afile_open(struct afile *f, const char *path, char *why, size_t size)
{
    struct stat st;
    *f = (struct afile){.fd = -1};
    if (!*path || path[strlen(path) - 1] == '/') {
        snprintf(why, size, "'%s' does not name a file", path);
        return -1;
    }
    f->path = realpath(path, NULL);
    if (!f->path && errno == ENOENT && lstat(path, &st) < 0 && errno == ENOENT)
        f->path = strdup(path);
    if (!f->path)
        return fail(why, size, path, "cannot create", errno);
    if (stat(f->path, &st) == 0 && !S_ISREG(st.st_mode)) {
        snprintf(why, size, "%s: exists and is not a regular file", path);
        goto out;
    }
    const char *slash = strrchr(f->path, '/');
    int dir = slash ? (int)(slash - f->path + 1) : 0;
    for (unsigned i = 0; i < 1000 && f->fd < 0; i++) {
        free(f->temp);
        if (asprintf(&f->temp, "%.*s.%.200s.%ld-%u.tmp", dir, f->path, f->path + dir,
                     (long)getpid(), i) < 0) {
            f->temp = NULL;
            errno = ENOMEM;
            break;
        }
        if (note(f->temp)) {
            errno = ENOMEM;
            break;
        }
        f->fd = open(f->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (f->fd >= 0)
            break;
        int error = errno;
        strike(f->temp);
        errno = error;
        if (errno != EEXIST)
            break;
    }
    if (f->fd >= 0)
        return 0;
    fail(why, size, path, "cannot create", errno);
out:
    free(f->temp);
    free(f->path);
    *f = (struct afile){.fd = -1};
    return -1;
}

int afile_write(struct afile *f, const void *data, size_t n, char *why, size_t size)
{
    for (const char *p = data; n;) {
        ssize_t k = write(f->fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return fail(why, size, f->path, "cannot write", k < 0 ? errno : ENOSPC);
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

static void forget(struct afile *f)
{
    strike(f->temp);
    free(f->temp);
    free(f->path);
    *f = (struct afile){.fd = -1};
}

/* Some file systems cannot flush, files or directories, and say so; they then promise no more than
 * they do. */
static int flush(int fd)
{
    int r = fsync(fd);
    return r < 0 && (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP || errno == EOPNOTSUPP)
               ? 0
               : r;
}

/* After a rename the new name itself must reach the disk. */
static int flush_directory(const char *path)
{
    char *copy = strdup(path);
    if (!copy)
        return -1;
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
    free(copy);
    if (fd < 0)
        return -1;
    r = flush(fd);
    int error = errno;
    close(fd);
    errno = error;
    return r;
}

int afile_seal(struct afile *f, char *why, size_t size)
{
    int r = 0, closed;
    if (flush(f->fd) < 0)
        r = fail(why, size, f->path, "cannot flush", errno);
    closed = close(f->fd);
    f->fd = -1;
    if (!r && closed < 0)
        r = fail(why, size, f->path, "cannot close", errno);
    if (r < 0)
        afile_abort(f);
    return r;
}

int afile_commit(struct afile *f, char *why, size_t size)
{
    int r = 0;
    if (f->fd >= 0 && afile_seal(f, why, size) < 0)
        return -1;
    if (rename(f->temp, f->path) < 0) {
        r = fail(why, size, f->path, "cannot rename", errno);
        unlink(f->temp);
    } else if (flush_directory(f->path) < 0) {
        r = fail(why, size, f->path, "cannot flush the directory", errno);
    }
    forget(f);
    return r;
}

void afile_abort(struct afile *f)
{
    if (!f->temp)
        return;
    if (f->fd >= 0)
        close(f->fd);
    unlink(f->temp);
    forget(f);
}

int afile_put(const char *path, const void *data, size_t n, char *why, size_t size)
{
    struct afile f;
    if (afile_open(&f, path, why, size))
        return -1;
    if (afile_write(&f, data, n, why, size)) {
        afile_abort(&f);
        return -1;
    }
    return afile_commit(&f, why, size);
}
