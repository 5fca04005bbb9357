/* probe.c - preloaded into a tool, tries at every read of its input what a hijacked parser would
 * try, and writes down what came of it.
 *
 * PROBE_LOG=FILE  one line for each read: "FD CALL=ERROR CALL=ERROR ...", where FD is the
 * descriptor
 * ("text" for a stdio stream) and ERROR is ok or the number's name. PROBE_SECRET is a file that no
 * tool was told to read, PROBE_NEW a name outside of every output directory.
 *
 * Every attempt is a system call of its own, so that no library stands between. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *secret, *new;
static int out = -1;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("PROBE_LOG");
    secret = getenv("PROBE_SECRET");
    new = getenv("PROBE_NEW");
    if (path && secret && new)
        out = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
                           0666);
}

static size_t note(char *text, size_t n, size_t size, const char *what, long result)
{
    const char *error = result >= 0 ? "ok" : strerrorname_np(errno);
    return n + (size_t)snprintf(text + n, size - n, " %s=%s", what, error ? error : "?");
}

static long close_if(long fd)
{
    if (fd >= 0)
        syscall(SYS_close, fd);
    return fd;
}

static long start_process(void)
{
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        syscall(SYS_exit_group, 0);
    return pid;
}

static long map_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? -1 : munmap(p, 4096);
}

static void try(const char *where)
{
    char text[512];
    char *none[] = {NULL};
    int kept = errno;
    size_t n = (size_t)snprintf(text, sizeof text, "%s", where);
    if (out < 0)
        return;
#define TRY(what, call) n = note(text, n, sizeof text, what, call)
    TRY("open", close_if(syscall(SYS_openat, AT_FDCWD, secret, O_RDONLY)));
    TRY("create", close_if(syscall(SYS_openat, AT_FDCWD, new, O_WRONLY | O_CREAT, 0666)));
    TRY("rename", syscall(SYS_renameat2, AT_FDCWD, secret, AT_FDCWD, new, 0));
    TRY("unlink", syscall(SYS_unlinkat, AT_FDCWD, secret, 0));
    TRY("socket", close_if(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0)));
    TRY("unix", close_if(syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0)));
    TRY("exec", syscall(SYS_execve, "/nonexistent", none, none));
    TRY("fork", start_process());
    TRY("kill", syscall(SYS_kill, getppid(), 0));
    TRY("ptrace", syscall(SYS_ptrace, PTRACE_PEEKUSER, 1, 0, 0));
    TRY("code", map_code());
    text[n++] = '\n';
    if (syscall(SYS_write, out, text, n) < 0)
        out = -1;
    errno = kept;
}

static void try_fd(int fd)
{
    char where[16];
    snprintf(where, sizeof where, "%d", fd);
    if (fd != out)
        try(where);
}

ssize_t read(int fd, void *p, size_t n)
{
    try_fd(fd);
    return syscall(SYS_read, fd, p, n);
}

ssize_t pread(int fd, void *p, size_t n, off_t at)
{
    try_fd(fd);
    return syscall(SYS_pread64, fd, p, n, at);
}

ssize_t pread64(int fd, void *p, size_t n, off_t at)
{
    return pread(fd, p, n, at);
}

void *mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
    if (fd >= 0) /* a model */
        try_fd(fd);
    return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, off);
}

void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
    return mmap64(at, n, prot, flags, fd, off);
}

int fsync(int fd)
{
    try("fsync");
    return (int)syscall(SYS_fsync, fd);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

size_t fread(void *p, size_t size, size_t n, FILE *f)
{
    try("text");
    return REAL(fread)(p, size, n, f);
}

int getc(FILE *f)
{
    static FILE *last;
    if (f != last) /* once a file */
        try("text");
    last = f;
    return REAL(getc)(f);
}
