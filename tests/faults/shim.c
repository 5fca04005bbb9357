/* shim.c - preloaded into a tool, makes the system fail at a chosen moment.
 *
 * - FAULT=KIND:N: the N-th call (from 1) of that kind fails; KIND is read, write, open, rename,
 *   fsync, mmap or alloc;
 * - FAULT=short:SEED: every read and write moves only a part of what was asked for, 1 byte or more;
 * - FAULT_COUNT=FILE: at the end, the number of calls of each kind, "KIND N" a line.
 *
 * Only calls that the program and its libraries make through the dynamic linker are seen, and those
 * of stdio on standard output and on files opened for reading; the loader's own are not, nor what a
 * library does as it is loaded: libgfortran, which OpenBLAS brings, then ends the process with two
 * lines of its own. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { READ, WRITE, OPEN, RENAME, FSYNC, MMAP, ALLOC, KINDS };
static const char *const names[KINDS] = {"read",  "write", "open", "rename",
                                         "fsync", "mmap",  "alloc"};
static const int codes[KINDS] = {EIO, ENOSPC, EMFILE, EIO, EIO, ENOMEM, ENOMEM};

static atomic_long calls[KINDS];
static long target[KINDS];
static atomic_ulong shorten; /* state of the generator; 0: off */
static int ready, report = -1;
static _Thread_local int loading;

static FILE *stream(int fd, const char *mode);

__attribute__((constructor)) static void begin(void)
{
    const char *f = getenv("FAULT");
    const char *path = getenv("FAULT_COUNT");
    if (path) { /* opened now: the tool may give up that right */
        int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        report = fcntl(fd, F_DUPFD_CLOEXEC, 100);
        syscall(SYS_close, fd);
    }
    if (f && !strncmp(f, "short:", 6))
        shorten = strtoul(f + 6, NULL, 10) * 2 + 1;
    for (int k = 0; f && k < KINDS; k++) {
        size_t n = strlen(names[k]);
        if (!strncmp(f, names[k], n) && f[n] == ':')
            target[k] = strtol(f + n + 1, NULL, 10);
    }
    stdout = stream(1, "w") ?: stdout;
    ready = 1;
}

__attribute__((destructor)) static void end(void)
{
    char text[256];
    int n = 0;
    ready = 0;
    for (int k = 0; k < KINDS; k++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s %ld\n", names[k], (long)calls[k]);
    if (report >= 0 && syscall(SYS_write, report, text, (size_t)n) == n)
        syscall(SYS_close, report);
}

/* A confined tool ends before the ends of its libraries. */
void _exit(int status)
{
    end();
    syscall(SYS_exit_group, status);
    __builtin_unreachable();
}

static int fails(enum kind k)
{
    if (loading)
        return 0;
    if (!ready || ++calls[k] != target[k])
        return 0;
    errno = codes[k];
    return 1;
}

static size_t part(size_t n)
{
    unsigned long s = shorten;
    if (!s || n < 2)
        return n;
    s = s * 6364136223846793005u + 1442695040888963407u;
    shorten = s | 1;
    return 1 + (s >> 33) % n;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void *dlopen(const char *path, int flags)
{
    loading = 1;
    void *handle = REAL(dlopen)(path, flags);
    loading = 0;
    return handle;
}

ssize_t read(int fd, void *p, size_t n)
{
    return fails(READ) ? -1 : syscall(SYS_read, fd, p, part(n));
}

ssize_t pread(int fd, void *p, size_t n, off_t at)
{
    return fails(READ) ? -1 : syscall(SYS_pread64, fd, p, part(n), at);
}

ssize_t pread64(int fd, void *p, size_t n, off_t at)
{
    return pread(fd, p, n, at);
}

ssize_t write(int fd, const void *p, size_t n)
{
    return fd == 2        ? syscall(SYS_write, fd, p, n)
           : fails(WRITE) ? -1
                          : syscall(SYS_write, fd, p, part(n));
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
    if (fails(WRITE))
        return -1;
    if (shorten && n > 0 && v->iov_len)
        return syscall(SYS_write, fd, v->iov_base, part(v->iov_len));
    return syscall(SYS_writev, fd, v, n);
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, int) : 0;
    va_end(ap);
    return fails(OPEN) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, int) : 0;
    va_end(ap);
    return fails(OPEN) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, int) : 0;
    va_end(ap);
    return fails(OPEN) ? -1 : (int)syscall(SYS_openat, dir, path, flags, mode);
}

/* stdio's own calls do not go through the linker; those of these streams do. */
static ssize_t stream_read(void *fd, char *p, size_t n)
{
    return read((int)(intptr_t)fd, p, n);
}

static ssize_t stream_write(void *fd, const char *p, size_t n)
{
    size_t done = 0;
    while (done < n) { /* stdio takes a short count of its own streams for an error */
        ssize_t r = write((int)(intptr_t)fd, p + done, n - done);
        if (r <= 0)
            break;
        done += (size_t)r;
    }
    return (ssize_t)done;
}

static int stream_close(void *fd)
{
    return close((int)(intptr_t)fd);
}

static FILE *stream(int fd, const char *mode)
{
    return fopencookie((void *)(intptr_t)fd, mode,
                       (cookie_io_functions_t){stream_read, stream_write, NULL, stream_close});
}

static struct {
    FILE *file;
    int fd;
} last_opened;

FILE *fopen(const char *path, const char *mode)
{
    if (fails(OPEN))
        return NULL;
    if (*mode != 'r' || strchr(mode, '+'))
        return REAL(fopen)(path, mode);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    last_opened.fd = fd;
    return last_opened.file = fd < 0 ? NULL : stream(fd, "r");
}

FILE *fdopen(int fd, const char *mode)
{
    if (*mode != 'r' || strchr(mode, '+'))
        return REAL(fdopen)(fd, mode);
    last_opened.fd = fd;
    return last_opened.file = stream(fd, "r");
}

int fileno(FILE *f)
{
    return last_opened.file && f == last_opened.file ? last_opened.fd : REAL(fileno)(f);
}

int rename(const char *from, const char *to)
{
    return fails(RENAME) ? -1 : REAL(rename)(from, to);
}

int renameat(int a, const char *from, int b, const char *to)
{
    return fails(RENAME) ? -1 : REAL(renameat)(a, from, b, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
    return fails(RENAME) ? -1 : REAL(renameat2)(a, from, b, to, flags);
}

int fsync(int fd)
{
    return fails(FSYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return fails(FSYNC) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
    return fails(MMAP) ? MAP_FAILED : (void *)syscall(SYS_mmap, at, n, prot, flags, fd, off);
}

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

void *malloc(size_t n)
{
    return fails(ALLOC) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    return fails(ALLOC) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    return fails(ALLOC) ? NULL : __libc_realloc(p, n);
}

int posix_memalign(void **out, size_t align, size_t n)
{
    if (fails(ALLOC))
        return ENOMEM;
    *out = __libc_memalign(align, n);
    return *out ? 0 : ENOMEM;
}

void *aligned_alloc(size_t align, size_t n)
{
    return fails(ALLOC) ? NULL : __libc_memalign(align, n);
}
