/* The process gives up what it does not need, where the kernel can be asked: a seccomp filter names
 * the calls that are left, Landlock the files. Where either is missing the other stands alone, and
 * a tool runs the same without both.
 *
 * A call that is refused fails with EPERM (a file, by Landlock, with EACCES): what it was meant to
 * do does not happen, which is the point, and a C library that makes a call nobody here has thought
 * of gets an error it can report, temporary files are removed and the next tool learns of it. A
 * killed process would say nothing.
 *
 * libseccomp would write the filter too, with a thousand allocations and 0.35 ms for each start of
 * a tool; its version 2.5.4 loops forever where one of them fails. */
#include "tools/tool.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The sanitizers start processes, trace and map as no tool does. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SANITIZED
#endif
#endif

/* What the calls are for, from little to much: each level has those of the one before. */
enum level { NO_FILES, READ_FILES, WRITE_FILES, ALL };

static struct {
    enum level now, next; /* in force; asked for since */
    bool talks;           /* over connections that are open */
    int rules;            /* Landlock's, one more than the descriptor; 0: none yet */
    uint64_t rights;      /* those it knows */
} confined = {.now = ALL};

#ifdef SANITIZED

void tool_may_read(const char *path)
{
    (void)path;
}

void tool_may_write(const char *dir)
{
    (void)dir;
}

void tool_may_talk(void)
{
}

void tool_confine(void)
{
    (void)confined;
}

void tool_leave_as_confined(void)
{
}

void tool_keeps_reading(const char *path)
{
    (void)path;
}

#else

/* LLVM's OpenMP opens shared memory when it is first asked something. Weak: not every tool has
 * it. */
extern int omp_get_max_threads(void) __attribute__((weak));

/* It would remove that at its end, when it can reach no file any more: all that it is for is to
 * notice a second OpenMP that is loaded meanwhile. */
static void begin_openmp(void)
{
    char name[64];
    omp_get_max_threads();
    snprintf(name, sizeof name, "/dev/shm/__KMP_REGISTERED_LIB_%ld_%ld", (long)getpid(),
             (long)getuid());
    unlink(name);
}

/* Old kernels, emulators and containers answer with these; anything else is a fault. */
static bool absent(int error)
{
    return error == ENOSYS || error == EOPNOTSUPP || error == EINVAL || error == EPERM ||
           error == E2BIG;
}

static void check(int error)
{
    if (error && !absent(error))
        tool_die("cannot give up privileges: %s", strerror(error));
}

/* --- Landlock: linux/landlock.h, by number, since headers are often older than the kernel ------*/

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif

enum {
    L_WRITE_FILE = 1 << 1,
    L_READ_FILE = 1 << 2,
    L_READ_DIR = 1 << 3,
    L_REMOVE_FILE = 1 << 5,
    L_MAKE_DIR = 1 << 7,
    L_MAKE_REG = 1 << 8,
    L_TRUNCATE = 1 << 14, /* ABI 3 */
    L_OF_FILES = L_WRITE_FILE | L_READ_FILE | L_TRUNCATE
};

struct landlock_rules {
    uint64_t files, net, scoped; /* what is refused unless a rule allows it */
};

struct landlock_beneath {
    uint64_t allowed;
    int32_t fd;
} __attribute__((packed));

/* All rights over files; TCP; sockets without a name and signals to processes outside. */
static int landlock_begin(void)
{
    int abi, fd = -1;
    if (confined.rules)
        return confined.rules - 1;
    if ((abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, 1)) >= 1) {
        confined.rights = (1u << (abi >= 5 ? 16 : abi >= 3 ? 15 : abi == 2 ? 14 : 13)) - 1;
        struct landlock_rules r = {confined.rights, abi >= 4 ? 3 : 0, abi >= 6 ? 3 : 0};
        fd = (int)syscall(SYS_landlock_create_ruleset, &r, sizeof r, 0);
    }
    if (fd < 0)
        check(errno);
    confined.rules = fd + 1;
    return fd;
}

static void allow(const char *path, uint64_t rights)
{
    int rules = landlock_begin(), fd;
    struct stat st;
    if (rules < 0)
        return;
    if ((fd = open(path, O_PATH | O_CLOEXEC)) < 0 || fstat(fd, &st)) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
            tool_die("%s: %s", path, strerror(errno));
        return; /* whoever opens it will say why it cannot be opened */
    }
    rights &= confined.rights & (S_ISDIR(st.st_mode) ? UINT64_MAX : L_OF_FILES);
    struct landlock_beneath b = {rights, fd};
    if (syscall(SYS_landlock_add_rule, rules, 1, &b, 0) && errno != EBADFD) /* a pipe needs none */
        check(errno);
    close(fd);
}

static void landlock_end(void)
{
    int rules = landlock_begin();
    if (rules >= 0 && syscall(SYS_landlock_restrict_self, rules, 0))
        check(errno);
    if (rules >= 0)
        close(rules);
    confined.rules = 0;
}

/* --- seccomp -----------------------------------------------------------------------------------*/

#if defined __x86_64__
#define MACHINE AUDIT_ARCH_X86_64
#elif defined __aarch64__ && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define MACHINE AUDIT_ARCH_AARCH64
#elif defined __riscv && __riscv_xlen == 64
#define MACHINE AUDIT_ARCH_RISCV64
#endif

#ifdef MACHINE

/* clang-format off */
/* Descriptors that are open, memory, threads, time, the end. */
static const int basic[] = {
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_lseek, SYS_close,
    SYS_fstat, SYS_newfstatat, SYS_statx, SYS_fsync, SYS_fdatasync, SYS_ftruncate, SYS_flock,
    SYS_fadvise64, SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk, SYS_futex, SYS_rseq,
    SYS_set_robust_list, SYS_sched_yield, SYS_getcpu, SYS_sched_getaffinity, SYS_sched_setaffinity,
    SYS_gettid, SYS_getpid, SYS_clock_gettime, SYS_clock_getres, SYS_gettimeofday, SYS_nanosleep,
    SYS_clock_nanosleep, SYS_restart_syscall, SYS_sysinfo, SYS_getrandom, SYS_rt_sigaction,
    SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_exit, SYS_exit_group};

/* To find files; and to be confined once more, which takes nothing but gives up. */
static const int reading[] = {
#ifdef SYS_open /* what older machines have besides */
    SYS_stat, SYS_lstat, SYS_access, SYS_readlink,
#endif
    SYS_faccessat, SYS_faccessat2, SYS_readlinkat, SYS_getcwd, SYS_getdents64,
    SYS_landlock_create_ruleset, SYS_landlock_add_rule, SYS_landlock_restrict_self, SYS_seccomp};

static const int writing[] = {
#ifdef SYS_open
    SYS_open, SYS_unlink, SYS_rename, SYS_mkdir,
#endif
#ifdef SYS_renameat
    SYS_renameat,
#endif
    SYS_openat, SYS_unlinkat, SYS_renameat2, SYS_mkdirat};

/* Messages over connections that are there, and to learn which of them has some. */
static const int talking[] = {
#ifdef SYS_poll
    SYS_poll, SYS_epoll_wait,
#endif
    SYS_ppoll, SYS_pselect6, SYS_epoll_pwait, SYS_epoll_ctl, SYS_sendto, SYS_recvfrom, SYS_sendmsg,
    SYS_recvmsg, SYS_shutdown, SYS_getsockopt, SYS_setsockopt, SYS_getsockname, SYS_getpeername};
/* clang-format on */

/* The filter is a program that the kernel runs over a call's number and arguments. */
static struct sock_filter code[512];
static struct sock_fprog program = {.filter = code};

static void emit(int op, uint32_t k, uint8_t skip_if, uint8_t skip_unless)
{
    code[program.len++] = (struct sock_filter){(uint16_t)op, skip_if, skip_unless, k};
}

static void load(size_t offset)
{
    emit(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void answer(int call, uint32_t what)
{
    emit(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1);
    emit(BPF_RET | BPF_K, what, 0, 0);
}

static void allow_all(const int *call, size_t n)
{
    for (size_t i = 0; i < n; i++)
        answer(call[i], SECCOMP_RET_ALLOW);
}

/* The call, if the bits of `mask` in its argument (the lower half of it) are those of `value`. */
static void allow_if(int call, int argument, uint32_t mask, uint32_t value)
{
    emit(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 5);
    load(offsetof(struct seccomp_data, args) + (size_t)argument * sizeof(uint64_t));
    emit(BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
    emit(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    emit(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    load(offsetof(struct seccomp_data, nr));
}

static void no_other_calls(enum level level)
{
    static const uint32_t whole = UINT32_MAX;
    const uint32_t changes = O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);
    long r;

    program.len = 0;
    load(offsetof(struct seccomp_data, arch));
    emit(BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0);
    emit(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    load(offsetof(struct seccomp_data, nr));
    allow_all(basic, sizeof basic / sizeof *basic);
    /* Threads, no processes. What clone3 is asked for lies in memory, which no filter sees: the C
     * library then takes clone. */
    allow_if(SYS_clone, 0, CLONE_THREAD, CLONE_THREAD);
    answer(SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
    /* Memory, no new code. */
    allow_if(SYS_mmap, 2, PROT_EXEC, 0);
    allow_if(SYS_mprotect, 2, PROT_EXEC, 0);
    /* Is it a terminal; what a descriptor is; a copy of one; its own end (abort). */
    allow_if(SYS_ioctl, 1, whole, TCGETS);
    allow_if(SYS_ioctl, 1, whole, TCGETS2);
    allow_if(SYS_ioctl, 1, whole, TIOCGWINSZ);
    allow_if(SYS_fcntl, 1, whole, F_GETFD);
    allow_if(SYS_fcntl, 1, whole, F_SETFD);
    allow_if(SYS_fcntl, 1, whole, F_GETFL);
    allow_if(SYS_fcntl, 1, whole, F_DUPFD_CLOEXEC);
    allow_if(SYS_fcntl, 1, whole, F_SETPIPE_SZ);
    allow_if(SYS_tgkill, 0, whole, (uint32_t)getpid());
    if (level >= READ_FILES) {
        allow_all(reading, sizeof reading / sizeof *reading);
        allow_if(SYS_prctl, 0, whole, PR_SET_NO_NEW_PRIVS);
        allow_if(SYS_openat, 2, changes, O_RDONLY);
#ifdef SYS_open
        allow_if(SYS_open, 1, changes, O_RDONLY);
#endif
    }
    if (confined.talks)
        allow_all(talking, sizeof talking / sizeof *talking);
    if (level >= WRITE_FILES)
        allow_all(writing, sizeof writing / sizeof *writing);
    emit(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM, 0, 0);

    /* All threads, should a preloaded library have made some. */
    r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    check(r > 0 ? EBUSY : r < 0 ? errno : 0);
}

#else

static void no_other_calls(enum level level)
{
    (void)level;
}

#endif

/* --- what tools call ---------------------------------------------------------------------------*/

static void ask(enum level level)
{
    if (confined.next < level)
        confined.next = level;
}

void tool_may_read(const char *path)
{
    ask(READ_FILES);
    allow(path, L_READ_FILE | L_READ_DIR);
}

/* What is read to the end. */
static char **kept;
static size_t keeps;

void tool_keeps_reading(const char *path)
{
    if (!(kept = realloc(kept, (keeps + 1) * sizeof *kept)))
        tool_die("out of memory");
    kept[keeps++] = tool_copy(path);
}

void tool_may_talk(void)
{
    confined.talks = true;
}

void tool_may_write(const char *dir)
{
    ask(WRITE_FILES);
    allow(dir, L_READ_FILE | L_READ_DIR | L_WRITE_FILE | L_TRUNCATE | L_REMOVE_FILE | L_MAKE_DIR |
                   L_MAKE_REG);
}

void tool_confine(void)
{
    if (confined.now == NO_FILES)
        return;
    for (size_t i = 0; i < keeps; i++)
        tool_may_read(kept[i]);
    enum level next = confined.next;
    if (omp_get_max_threads)
        begin_openmp();
    if (!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
        landlock_end();
        if (next < confined.now)
            no_other_calls(next);
    }
    confined.now = next < confined.now ? next : confined.now;
    confined.next = NO_FILES;
}

/* Behind all that the tool itself does at its end come the ends of libraries, who know of no
 * confinement: LLVM 16's OpenMP waits forever where a file cannot be opened. */
static void leave(int status, void *unused)
{
    (void)unused;
    if (confined.now == ALL)
        return;
    fflush(NULL);
    _exit(status);
}

void tool_leave_as_confined(void)
{
    on_exit(leave, NULL);
}

#endif

void tool_may_replace(const char *path)
{
    char *copy = strdup(path), *target = realpath(path, NULL);
    if (!copy)
        tool_die("out of memory");
    tool_may_write(dirname(copy));
    if (target)
        tool_may_write(dirname(target));
    free(copy);
    free(target);
}
