/* The frame is one thing: all of it is one state, that of the process, which nobody else may
 * touch. */
#include "tools/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "formats/atomic.h"
#include "lib/base/number.h"

bool tool_verbose;

static struct {
    const char *name, *usage, *input, *uses;
    int argc;
    char **argv;
    bool no_history, to_stream, ahead, progress, own_progress;
    struct tns_reader *in;
    struct tns_writer *out;
    struct tns_meta begun; /* header of a stream that starts here */
    char history[4096];
    const char *step;     /* what the digest takes of it, or NULL: all */
    bool changes_nothing; /* neither takes a line */
    int segment;
    uint64_t seen;
    struct tns_files *files; /* the input, where it is none of one descriptor */
    double started, shown;
} tool;

double tool_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- messages -------------------------------------------------------------------------------- */

static void say(const struct tns_record *rec, const char *kind, const char *fmt, va_list ap)
{
    char text[1024], place[256] = "";
    const char *c = rec ? tns_get(&rec->meta, "case") : NULL;
    const char *s = rec ? tns_get(&rec->meta, "slice") : NULL;
    vsnprintf(text, sizeof text, fmt, ap);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    if (rec) {
        const char *file = NULL;
        const uint64_t n = tool.in ? tns_number_in_file(tool.in, &file) : 0;
        snprintf(place, sizeof place,
                 c ? "%.100s: record %llu (%.64s%s%.12s): " : "%.100s: record %llu: ",
                 file         ? file
                 : tool.input ? tool.input
                              : "stdin",
                 (unsigned long long)n, c, s ? " slice " : "", s ? s : "");
    }
    if (tool.progress && tool.shown > 0)
        fputs("\r\033[K", stderr);
    fprintf(stderr, "%s: %s%s%s\n", tool.name, kind, place, text);
}

#define SAY(rec, kind)                                                                             \
    do {                                                                                           \
        va_list ap;                                                                                \
        va_start(ap, fmt);                                                                         \
        say(rec, kind, fmt, ap);                                                                   \
        va_end(ap);                                                                                \
    } while (0)

/* Of threads that fail at once one speaks, and the others wait for the end. */
static bool (*silent)(void);

void tool_ask_to_die(bool (*f)(void))
{
    silent = f;
}

static void one_dies(void)
{
    static atomic_flag taken = ATOMIC_FLAG_INIT;
    static _Thread_local bool dying;
    while (!dying && atomic_flag_test_and_set(&taken))
        pause();
    dying = true;
    if (silent && silent())
        exit(1);
}

void tool_die(const char *fmt, ...)
{
    one_dies();
    SAY(NULL, "");
    exit(1);
}

void tool_die_at(const struct tns_record *rec, const char *fmt, ...)
{
    one_dies();
    SAY(rec, "");
    exit(1);
}

void tool_warn(const char *fmt, ...)
{
    SAY(NULL, "warning: ");
}

void tool_warn_at(const struct tns_record *rec, const char *fmt, ...)
{
    SAY(rec, "warning: ");
}

void tool_say(const char *fmt, ...)
{
    SAY(NULL, "");
}

void tool_note(const char *fmt, ...)
{
    if (tool_verbose)
        SAY(NULL, "");
}

void tool_misuse(const char *fmt, ...)
{
    SAY(NULL, "");
    exit(2);
}

void tool_usage(void)
{
    fprintf(stderr, "usage: %s %s\n", tool.name, tool.usage);
    exit(2);
}

const char *tool_name(void)
{
    return tool.name;
}

void tool_call_itself(const char *name)
{
    tool.name = name;
}

/* --- arguments ------------------------------------------------------------------------------- */

/* Nothing half written is left behind by a process that is asked to end. */
static void end(int sig)
{
    afile_sweep();
    signal(sig, SIG_DFL);
    raise(sig);
}

/* What a tool asks for is what it takes: threads share one heap, and large blocks, which grow with
 * the slices, are given back when they are freed instead of leaving holes. */
static void plain_memory(void)
{
#ifdef M_ARENA_MAX
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_TRIM_THRESHOLD, 128 << 10);
#endif
}

void tool_start(int argc, char **argv, const char *usage)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    /* A closed 0, 1 or 2 would be given to the next file that is opened. */
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            exit(1);
    plain_memory();
    tool_leave_as_confined();
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is an error of write */
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (signal(ends[i], end) == SIG_IGN)
            signal(ends[i], SIG_IGN);
    tool.name = slash ? slash + 1 : argc > 0 ? argv[0] : "?";
    tool.usage = usage;
    tool.argc = argc;
    tool.argv = argv;
    tool.started = tool_now();
}

/* Files that are mapped, and what is said of one that was cut. The last of them lies wherever none
 * of the others does. */
static struct mapped {
    const char *from;
    size_t bytes, length;
    char text[1200];
} mapped[TOOL_MAPS];
static int maps;

static void cut(int sig, siginfo_t *info, void *context)
{
    static atomic_flag taken = ATOMIC_FLAG_INIT;
    (void)context;
    if (info->si_code != BUS_ADRERR) {
        signal(sig, SIG_DFL);
        raise(sig);
        return;
    }
    while (atomic_flag_test_and_set(&taken)) /* another thread says it */
        pause();
    const struct mapped *m = mapped;
    while (m < mapped + maps - 1 && (uintptr_t)info->si_addr - (uintptr_t)m->from >= m->bytes)
        m++;
    afile_sweep();
    (void)!write(2, m->text, m->length);
    _exit(1);
}

void tool_maps(const char *path)
{
    struct sigaction a = {.sa_sigaction = cut, .sa_flags = SA_SIGINFO};
    if (!maps || mapped[maps - 1].from)
        maps++;
    struct mapped *m = &mapped[maps - 1];
    int n = snprintf(m->text, sizeof m->text,
                     "%s: %.1000s: cannot be read any more (was it cut while it is in use?)\n",
                     tool.name, path);
    m->length = n < 0 ? 0 : (size_t)n < sizeof m->text ? (size_t)n : sizeof m->text - 1;
    sigaction(SIGBUS, &a, NULL);
}

void tool_mapped(const void *from, size_t bytes)
{
    mapped[maps - 1].from = from;
    mapped[maps - 1].bytes = bytes;
}

void tool_share_cores(void)
{
    if (getenv("OMP_WAIT_POLICY") || setenv("OMP_WAIT_POLICY", "passive", 1) ||
        setenv("OMP_STACKSIZE", "1M", 0))
        return;
    execv("/proc/self/exe", tool.argv);
    /* Where that cannot be done the threads spin. */
}

int tool_cores(int most)
{
    const char *asked = getenv("OMP_NUM_THREADS");
    long n = asked ? strtol(asked, NULL, 10) : 0;
    cpu_set_t set;
    if (n < 1)
        n = sched_getaffinity(0, sizeof set, &set) ? sysconf(_SC_NPROCESSORS_ONLN)
                                                   : CPU_COUNT(&set);
    return n < 1 ? 1 : n > most ? most : (int)n;
}

/* What tool_getopt is told, for getopt_long; the text is cut where it stands. */
#define COMMON "-h --help -H --no-history -v --verbose -V --version"

static int put_options(char *text, char letters[static 128], struct option longs[static 64])
{
    int n = 0;
    char *l = letters, *at = text, *word, *name;
    while ((word = strsep(&at, " ")) && (name = strsep(&at, " "))) {
        char *takes = strchr(name, '=');
        *l++ = word[1];
        if (takes)
            *takes = 0, *l++ = ':';
        if (name[1]) /* (one of before, without a name) */
            longs[n++] =
                (struct option){name + 2, takes ? required_argument : no_argument, 0, word[1]};
    }
    *l = 0;
    longs[n] = (struct option){0};
    return n;
}

int tool_getopt(const char *options)
{
    char text[640], letters[128];
    struct option longs[64];
    snprintf(text, sizeof text, "%s%s" COMMON, options, *options ? " " : "");
    const int n = put_options(text, letters, longs);
    int c;
    while ((c = getopt_long(tool.argc, tool.argv, letters, longs, NULL)) != -1)
        if (c == 'h') {
            printf("usage: %s %s\n", tool.name, tool.usage);
            for (int i = 0; i < n; i++)
                printf("  -%c, --%s%s\n", longs[i].val, longs[i].name, longs[i].has_arg ? "=" : "");
            printf("man %s tells more\n", tool.name);
            exit(fflush(stdout) ? 1 : 0);
        } else if (c == 'V') {
            printf("%s\n", GLIOPIPE_VERSION);
            exit(fflush(stdout) ? 1 : 0);
        } else if (c == 'v') {
            tool_verbose = true;
        } else if (c == 'H') {
            tool.no_history = true;
        } else if (c == '?') {
            tool_usage();
        } else {
            return c;
        }
    return -1;
}

void tool_no_operands(void)
{
    if (optind < tool.argc)
        tool_misuse("operand '%s': none is taken (input comes from standard input)",
                    tool.argv[optind]);
}

long tool_int(char letter, const char *text, long lo, long hi)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (errno || end == text || *end || v < lo || v > hi)
        tool_misuse("-%c: (wanted a whole number from %ld to %ld, got '%s')", letter, lo, hi, text);
    return v;
}

double tool_double(char letter, const char *text, double lo, double hi)
{
    char *end;
    double v;
    if (!number_read(text, &end, &v) || *end || !(v >= lo && v <= hi))
        tool_misuse("-%c: (wanted a number from %g to %g, got '%s')", letter, lo, hi, text);
    return v;
}

int tool_label(char letter, const char *text, const char **at)
{
    char *end;
    errno = 0;
    long v = strtol(*at, &end, 10);
    if (errno || end == *at || v < 0 || v > 255 || (*end && *end != ','))
        tool_misuse("-%c: (wanted labels such as 1,3, got '%s')", letter, text);
    end += *end == ',';
    *at = *end ? end : NULL;
    return (int)v;
}

unsigned long long tool_size(char letter, const char *text)
{
    static const char units[] = "KMGT";
    char *end;
    double v;
    bool number = number_read(text, &end, &v);
    const char *u = *end ? strchr(units, *end & ~0x20) : NULL;
    if (u)
        v = ldexp(v, 10 * (int)(u - units + 1)), end++;
    if (u && *end == 'i')
        end++;
    if (u && (*end == 'B' || *end == 'b'))
        end++;
    if (!number || *end || !(v >= 1 && v <= 0x1p62))
        tool_misuse("-%c: (wanted a size such as 750M or 2G, got '%s')", letter, text);
    return (unsigned long long)v;
}

void *tool_alloc(size_t bytes)
{
    void *p;
    if (posix_memalign(&p, 64, bytes ? bytes : 1))
        tool_die("out of memory (wanted %zu bytes)", bytes);
    return p;
}

char *tool_copy(const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        tool_die("out of memory");
    return copy;
}

uint32_t tool_add_name(struct names *set, const char *text)
{
    uint32_t i = names_add(set, text);
    if (i == NAMES_NONE)
        tool_die("out of memory");
    return i;
}

pthread_t tool_thread(void *(*run)(void *))
{
    pthread_attr_t attr;
    pthread_t t;
    if (pthread_attr_init(&attr) || pthread_attr_setstacksize(&attr, 256 << 10) ||
        pthread_create(&t, &attr, run, NULL))
        tool_die("cannot start a thread");
    pthread_attr_destroy(&attr);
    return t;
}

/* --- streams --------------------------------------------------------------------------------- */

static _Noreturn void in_failed(void)
{
    if (tool.files)
        tool_die("%s", tns_why(tool.in));
    tool_die("%s: %s", tool.input, tns_why(tool.in));
}

static _Noreturn void out_failed(void)
{
    if (tool.in && *tns_why(tool.in)) /* what was passed on from there */
        in_failed();
    tool_die("stdout: %s", tns_writer_why(tool.out));
}

static void widen(int fd)
{
#ifdef F_SETPIPE_SZ
    (void)!fcntl(fd, F_SETPIPE_SZ, 1 << 20); /* a courtesy to speed; a refusal does not matter */
#else
    (void)fd;
#endif
}

/* In a pipeline the last tool alone shows progress: they would write over each other's line. */
static bool watched(void)
{
    struct stat st;
    return isatty(2) && !(fstat(1, &st) == 0 && S_ISFIFO(st.st_mode));
}

struct tns_files *tool_files(char *const *path, int n, const char *else_wanted)
{
    char why[512];
    struct tns_files *f = tns_files_new();
    if (!f)
        tool_die("out of memory");
    for (int i = 0; i < n; i++) {
        const int e = tns_files_add(f, path[i], why, sizeof why);
        if (e == TNS_EINVALID && else_wanted)
            tool_misuse("%s%s", why, else_wanted);
        if (e)
            tool_die("%s", why);
    }
    for (int i = 0; i < n && tns_files_count(f) > TNS_OPEN; i++) /* not all of them stay open */
        tool_keeps_reading(path[i]);
    return f;
}

static void begin_in(struct tns_files *files)
{
    struct stat st;
    char *const folder = "/dev/stdin";
    tool.input = "stdin";
    tool.files = files;
    if (!files && isatty(0))
        tool_misuse("stdin: is a terminal (wanted a stream from a pipe or a file)");
    if (!files && !fstat(0, &st) && S_ISDIR(st.st_mode))
        tool.files = tool_files(&folder, 1, NULL);
    widen(0);
    if (!(tool.in = tool.files ? tns_reader_files(tool.files) : tns_reader_new(0)))
        tool_die("out of memory");
    tool.progress = watched();
}

void tool_promise(void)
{
    if (tool.out)
        return;
    if (isatty(1))
        tool_misuse("stdout: is a terminal (a stream is no text; pipe it on or redirect it)");
    widen(1);
    if (!(tool.out = tns_writer_new(1)))
        tool_die("out of memory");
    if (tns_promise(tool.out))
        out_failed();
}

static void begin_out(const char *fmt, va_list ap)
{
    /* A name that it was installed under (glio-recode) does to the records what its own does. */
    const char *prefix = strrchr(tool.name, '-');
    int n = snprintf(tool.history, sizeof tool.history, "%s ", prefix ? prefix + 1 : tool.name);
    if (vsnprintf(tool.history + n, sizeof tool.history - (size_t)n, fmt, ap) <= 0)
        tool.history[n - 1] = 0; /* no options, no blank */
    tool.to_stream = true;
    tool_promise();
}

/* What becomes of the records shows in the header, with -H too. */
static void write_header(struct tns_meta *m)
{
    if (!tool.changes_nothing && tns_sign(m, tool.step ? tool.step : tool.history))
        tool_die("the header's digest cannot take this step: %s", tool.history);
    if (!tool.changes_nothing && !tool.no_history && tns_append(m, "history", tool.history))
        tool_die("the history cannot take this line: %s", tool.history);
    if (tns_write_header(tool.out, m))
        out_failed();
}

void tool_open_files(struct tns_files *files)
{
    begin_in(files);
    tool_confine();
}

void tool_open_in(void)
{
    begin_in(NULL);
    tool_confine();
}

void tool_open(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    begin_out(fmt, ap);
    va_end(ap);
    if (!tool.in)
        begin_in(NULL);
    tool_confine();
}

void tool_open_out(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    begin_out(fmt, ap);
    va_end(ap);
    tool.progress = watched();
    if (!tool.no_history && tns_set(&tool.begun, "generator", "gliopipe " GLIOPIPE_VERSION))
        tool_die("out of memory");
    tool_confine();
}

void tool_signs(const char *step)
{
    tool.step = step;
}

void tool_changes_nothing(void)
{
    tool.changes_nothing = true;
}

void tool_packs(int level)
{
    if (tns_writer_pack(tool.out, level))
        tool_die("out of memory");
}

struct tns_meta *tool_header(void)
{
    if (!tool.in)
        return &tool.begun;
    if (tns_begin(tool.in))
        in_failed();
    return tns_header(tool.in);
}

int tool_segment(void)
{
    return tns_segment(tool.in);
}

void tool_own_progress(void)
{
    tool.own_progress = true;
}

void tool_progress(const char *fmt, ...)
{
    double t = tool_now();
    va_list ap;
    if (!isatty(2) || (fmt && t - tool.shown < 0.5) || (!fmt && tool.shown <= 0))
        return;
    fputs("\r", stderr);
    if (fmt) {
        tool.progress = true; /* a message clears the line first */
        tool.shown = t;
        fprintf(stderr, "%s: ", tool.name);
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
    }
    fputs("\033[K", stderr);
}

static void show_progress(void)
{
    double t = tool_now();
    if (tool.own_progress || t - tool.shown < 0.5 || t - tool.started < 1)
        return;
    tool.shown = t;
    fprintf(stderr, "\r%s: %llu records, %.0f a second\033[K", tool.name,
            (unsigned long long)tool.seen, (double)tool.seen / (t - tool.started));
}

/* Gives each segment of the input its own in the output. */
static void follow_segment(void)
{
    for (; tool.to_stream && !tool.ahead && tool.segment < tns_segment(tool.in); tool.segment++)
        if (tool.segment + 1 == tns_segment(tool.in))
            write_header(tns_header(tool.in));
}

void tool_read_ahead(void)
{
    tool.ahead = true;
}

void tool_write_segment(struct tns_meta *header)
{
    write_header(header);
}

static bool next(struct tns_record *rec, bool hop)
{
    uint64_t offset;
    int e;
    while ((e = hop ? tns_hop(tool.in, rec, &offset) : tns_next(tool.in, rec)) == 1) {
        follow_segment();
        tool.seen++;
        if (tool.progress)
            show_progress();
        if (!tool.to_stream || tool.ahead || !tns_is_mark(rec))
            return true;
        tool_write(rec);
    }
    if (e < 0)
        in_failed();
    follow_segment();
    return false;
}

void tool_uses(const char *names)
{
    tool.uses = names;
}

bool tool_front(struct tns_record *rec)
{
    return next(rec, false);
}

void tool_take(struct tns_record *rec, const char *names)
{
    if (!tool.to_stream && names)
        tns_keep(rec, names);
    if (tns_take(tool.in, rec, names))
        in_failed();
}

bool tool_read(struct tns_record *rec)
{
    bool more = tool_front(rec);
    if (more)
        tool_take(rec, tool.uses);
    return more;
}

bool tool_hop(struct tns_record *rec)
{
    return next(rec, true);
}

void tool_write(struct tns_record *rec)
{
    if (!tool.in && !tool.segment) {
        tool.segment = 1;
        write_header(&tool.begun);
    }
    if (!tool.in) {
        tool.seen++;
        if (tool.progress)
            show_progress();
    }
    tool_write_to(tool.out, "stdout", rec);
}

void tool_write_to(struct tns_writer *to, const char *name, struct tns_record *rec)
{
    int e = tns_write(to, rec);
    if (e == TNS_EINVALID)
        tool_die_at(rec, "%s", tns_writer_why(to));
    if (e && rec->from == tool.in && tool.in && *tns_why(tool.in)) /* what was passed on */
        in_failed();
    if (e && rec->from && *tns_why(rec->from))
        tool_die("%s: %s", name, tns_why(rec->from));
    if (e)
        tool_die("%s: %s", name, tns_writer_why(to));
}

struct tensor *tool_need(struct tns_record *rec, const char *name, enum dtype dtype, int rank)
{
    struct tensor *t = tns_tensor(rec, name);
    if (!t)
        tool_die_at(rec, "no tensor '%s'", name);
    if (t->rank != rank)
        tool_die_at(rec, "tensor '%s': wrong rank (wanted %d, got %d)", name, rank, t->rank);
    if (dtype != DT_COUNT && t->dtype != dtype)
        tool_die_at(rec, "tensor '%s': wrong type (wanted %s, got %s)", name, dtype_name(dtype),
                    dtype_name(t->dtype));
    return t;
}

bool tool_odd_value(const struct tensor *t, char why[128])
{
    size_t at = tensor_find_outside(t, -TOOL_MOST, TOOL_MOST), w = t->dim[2], h = t->dim[1];
    if (at == tensor_count(t))
        return false;
    snprintf(why, 128,
             "image: channel %zu, row %zu, column %zu: (wanted at most %g in size, got %g)",
             at / w / h, at / w % h, at % w, (double)TOOL_MOST, tensor_get(t, at));
    return true;
}

struct tensor *tool_need_image(struct tns_record *rec, enum dtype dtype)
{
    char why[128];
    struct tensor *t = tool_need(rec, "image", dtype, 3);
    if (tool_odd_value(t, why))
        tool_die_at(rec, "%s", why);
    return t;
}

const char *tool_need_key(struct tns_record *rec, const char *key)
{
    const char *v = tns_get(&rec->meta, key);
    if (!v)
        tool_die_at(rec, "no key '%s'", key);
    return v;
}

long tool_need_int(struct tns_record *rec, const char *key, long lo, long hi)
{
    long v;
    const char *text = tool_need_key(rec, key);
    if (!tns_get_int(&rec->meta, key, lo, hi, &v))
        tool_die_at(rec, "key '%s': (wanted a whole number from %ld to %ld, got '%.40s')", key, lo,
                    hi, text);
    return v;
}

const char *tool_fingerprint(struct tns_record *rec)
{
    static bool warned;
    const char *text = tns_get(&rec->meta, "fingerprint");
    if (text && !tns_is_fingerprint(text))
        tool_die_at(rec, "key 'fingerprint': (" TNS_FINGERPRINT ", got '%.80s')", text);
    if (!text && !warned && (tns_tensor(rec, "image") || tns_get(&rec->meta, "trained"))) {
        warned = true;
        tool_warn_at(rec, "no fingerprint: patients are compared by name alone");
    }
    return text;
}

void tool_need_numbers(struct tns_record *rec, const char *key, int n, double *out)
{
    const char *text = tool_need_key(rec, key);
    if (!tns_get_numbers(&rec->meta, key, n, out))
        tool_die_at(rec, "key '%s': (wanted %d numbers, got '%.40s')", key, n, text);
}

const char *tool_case_path(struct tns_record *rec, const char *dir, const char *suffix, ...)
{
    static char path[4096];
    const char *name = tool_need_key(rec, "case");
    char tail[256];
    va_list ap;
    va_start(ap, suffix);
    vsnprintf(tail, sizeof tail, suffix, ap);
    va_end(ap);
    if (!*name || *name == '.' || strchr(name, '/'))
        tool_die_at(rec, "key 'case' is no plain file name");
    if ((size_t)snprintf(path, sizeof path, "%s/%s%s", dir, name, tail) >= sizeof path)
        tool_die_at(rec, "the file name is too long");
    return path;
}

void tool_set_numbers(struct tns_record *rec, const char *key, int n, const double *v)
{
    if (tns_set_numbers(&rec->meta, key, n, v))
        tool_die("out of memory");
}

void tool_set(struct tns_record *rec, const char *key, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text || tns_set(&rec->meta, key, text))
        tool_die_at(rec, "key '%s' cannot take '%.40s'", key, text);
}

struct tensor *tool_add(struct tns_record *rec, const char *name, enum dtype dtype, int rank,
                        const uint32_t *dim)
{
    struct tensor *t = tns_add(rec, name, dtype, rank, dim);
    if (!t)
        tool_die_at(rec, "tensor '%s' cannot be added (too many or too large)", name);
    return t;
}

int tool_finish(void)
{
    if (tool.out && !tool.in && !tool.segment)
        write_header(&tool.begun);
    if (tool.out && tns_finish(tool.out))
        out_failed();
    if (fflush(stdout) || ferror(stdout) || close(1))
        tool_die("stdout: %s", strerror(errno));
    if (tool.progress && tool.shown > 0)
        fprintf(stderr, "\r\033[K");
    tns_reader_free(tool.in);
    tns_files_free(tool.files);
    tns_writer_free(tool.out);
    free(tool.begun.text);
    return 0;
}
