/* Properties of the stream codec: what is written is read, whatever it is; what is cut or flipped
 * is refused, wherever it is. */
#include "formats/tns.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/rng.h"
#include "tests/lib/tap.h"

/* An unnamed file with these bytes, at its start. */
static int file_of(const void *bytes, size_t n)
{
    int fd = memfd_create("tns", 0);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET))
        abort();
    return fd;
}

static unsigned char *bytes_of(int fd, size_t *n)
{
    off_t end = lseek(fd, 0, SEEK_END);
    unsigned char *b = malloc((size_t)end + 1);
    if (end < 0 || !b || pread(fd, b, (size_t)end, 0) != end || lseek(fd, 0, SEEK_SET))
        abort();
    *n = (size_t)end;
    return b;
}

/* A record that follows from a seed: keys, tensors of any dtype, rank and name. */
static void random_record(struct tns_record *rec, uint64_t seed, uint32_t most)
{
    struct rng r = rng_seed(seed);
    static const char *const values[] = {"", "a=b", "größe €", "0", "\t tab", "🧠"};
    char name[TENSOR_MAX_NAME];
    tns_clear(rec);
    for (uint64_t k = rng_below(&r, 6); k > 0; k--) {
        snprintf(name, sizeof name, "key.%d-%d_x", (int)k, (int)rng_below(&r, 100));
        if (tns_set(&rec->meta, name, values[rng_below(&r, 6)]))
            abort();
    }
    for (uint64_t k = rng_below(&r, 5); k > 0; k--) {
        uint32_t dim[8];
        int rank = (int)rng_below(&r, 9);
        for (int i = 0; i < rank; i++)
            dim[i] = 1 + (uint32_t)rng_below(&r, rank < 3 ? most : 3);
        snprintf(name, sizeof name, "t%d_%.*s", (int)k, (int)rng_below(&r, 50),
                 "a_long_name_for_a_tensor_with_many_letters_and_digits_012");
        struct tensor *t = tns_add(rec, name, (enum dtype)rng_below(&r, DT_COUNT), rank, dim);
        if (!t)
            abort();
        for (size_t i = 0; i < tensor_bytes(t); i++)
            ((unsigned char *)t->data)[i] = (unsigned char)rng_u64(&r);
    }
}

static bool same(const struct tns_record *a, struct tns_record *b)
{
    if (a->meta.len != b->meta.len ||
        (a->meta.len && memcmp(a->meta.text, b->meta.text, a->meta.len)) ||
        a->ntensors != b->ntensors)
        return false;
    for (int i = 0; i < a->ntensors; i++) {
        const struct tensor *s = &a->tensor[i], *t = tns_tensor(b, s->name);
        if (t != &b->tensor[i] || s->dtype != t->dtype || s->rank != t->rank ||
            memcmp(s->dim, t->dim, sizeof s->dim) || (uintptr_t)t->data % 64 ||
            memcmp(s->data, t->data, tensor_bytes(s)))
            return false;
    }
    return true;
}

/* Of `segments` segments, with `n` records in the first, one less in the next, and so on. */
static int write_segments(uint64_t seed, int segments, int n, uint32_t most)
{
    int fd = memfd_create("tns", 0);
    struct tns_writer *w = tns_writer_new(fd);
    struct tns_meta header = {0};
    struct tns_record rec = {0};
    int e = tns_append(&header, "history", "one") || tns_append(&header, "history", "two") ||
            tns_promise(w);
    uint64_t all = 0;
    for (int s = 0; s < segments; s++) {
        e |= tns_write_header(w, &header);
        for (int i = s; i < n; i++) {
            random_record(&rec, seed + all++, most);
            e |= tns_write(w, &rec);
        }
    }
    if (e | tns_finish(w) || lseek(fd, 0, SEEK_SET))
        abort();
    tns_release(&rec);
    tns_writer_free(w);
    free(header.text);
    return fd;
}

static int write_stream(uint64_t seed, int n, uint32_t most)
{
    return write_segments(seed, 1, n, most);
}

/* A whole record, as tns_next says. */
static int read_record(struct tns_reader *r, struct tns_record *rec)
{
    int e = tns_next(r, rec), taken = e == 1 ? tns_take(r, rec, NULL) : 0;
    return taken ? taken : e;
}

/* Reads (or hops) to the end or the first error: the number of records, or the error. */
static int read_all(int fd, bool hop)
{
    struct tns_reader *r = tns_reader_new(fd);
    struct tns_record rec = {0};
    uint64_t offset;
    int e, n = 0;
    while ((e = hop ? tns_hop(r, &rec, &offset) : read_record(r, &rec)) == 1)
        n++;
    if (e < 0 && !*tns_why(r))
        e = -100; /* an error without a word */
    tns_release(&rec);
    tns_reader_free(r);
    return e < 0 ? e : n;
}

/* Takes nothing, all, or as far as the tensor that the seed chooses, removes one now and then, and
 * writes: the same stream as if all had been read. */
static int copy_in_pieces(int fd, uint64_t seed, bool pieces)
{
    int copy = memfd_create("tns", 0), e;
    struct tns_reader *r = tns_reader_new(fd);
    struct tns_writer *w = tns_writer_new(copy);
    struct tns_record rec = {0};
    if (lseek(fd, 0, SEEK_SET) || tns_begin(r) || tns_write_header(w, tns_header(r)))
        abort();
    while ((e = tns_next(r, &rec)) == 1) {
        struct rng rng = rng_seed(seed + tns_count(r));
        char names[3 * TENSOR_MAX_NAME] = "t9 t8_";
        int n = rec.ntensors, k = n ? (int)rng_below(&rng, (uint64_t)n) : 0;
        if (n && rng_below(&rng, 3))
            snprintf(names, sizeof names, "nonesuch %s t", rec.tensor[k].name);
        for (int i = 0; i < n; i++)
            e += rec.tensor[i].data != NULL;
        if (tns_take(r, &rec, pieces ? names : NULL) || e != 1)
            abort();
        for (int i = 0; i < n; i++) /* none behind, all before */
            e += (rec.tensor[i].data != NULL) != (!pieces || (i <= k && *names == 'n'));
        if (e != 1)
            abort();
        if (n && rng_below(&rng, 3) == 0)
            tns_remove(&rec, rec.tensor[rng_below(&rng, (uint64_t)n)].name);
        if (n && rng_below(&rng, 3) == 0) {
            uint32_t dim = 70000;
            const char *name = rec.ntensors && rng_below(&rng, 2) ? rec.tensor[0].name : "new";
            struct tensor *t = tns_add(&rec, name, DT_U8, 1, &dim);
            memset(t->data, 7, tensor_bytes(t));
        }
        if (rng_below(&rng, 5) && tns_write(w, &rec))
            abort();
    }
    if (e || tns_finish(w))
        abort();
    tns_release(&rec);
    tns_reader_free(r);
    tns_writer_free(w);
    return copy;
}

static void pieces(void)
{
    int fd = write_stream(2000, 100, 300), n = 0;
    for (uint64_t seed = 0; seed < 5; seed++) {
        size_t a, b;
        int whole = copy_in_pieces(fd, 1000 * seed, false),
            part = copy_in_pieces(fd, 1000 * seed, true);
        unsigned char *x = bytes_of(whole, &a), *y = bytes_of(part, &b);
        n += a == b && !memcmp(x, y, a);
        free(x);
        free(y);
        close(whole);
        close(part);
    }
    ok(n == 5, "records pass in pieces as they pass whole, whatever is removed, replaced, left");

    struct tns_record rec = {0}, other = {0};
    struct tns_reader *r = tns_reader_new(fd);
    struct tns_writer *w = tns_writer_new(memfd_create("tns", 0));
    lseek(fd, 0, SEEK_SET);
    if (tns_begin(r) || tns_write_header(w, tns_header(r)))
        abort();
    while (tns_next(r, &rec) == 1 && !rec.ntensors)
        ;
    ok(tns_write(w, &rec) == 0 && tns_write(w, &rec) == TNS_EINVALID &&
           strstr(tns_writer_why(w), "has no payload"),
       "what has gone by is not there a second time");
    ok(tns_next(r, &other) == 1, "and the reader goes on");
    tns_release(&rec);
    tns_release(&other);
    tns_reader_free(r);
    tns_writer_free(w);
    close(fd);
}

static void round_trips(void)
{
    enum { N = 200 };
    int fd = write_stream(1000, N, 300), good = 0, e;
    struct tns_reader *r = tns_reader_new(fd);
    struct tns_record want = {0}, got = {0};
    while ((e = read_record(r, &got)) == 1) {
        random_record(&want, 1000 + (uint64_t)good, 300);
        if (!same(&want, &got))
            break;
        good++;
    }
    ok(e == 0 && good == N, "%d random records come back as they were (%d did)", N, good);
    ok(read_record(r, &got) == 0 && read_record(r, &got) == 0, "the end stays the end");
    ok(tns_count(r) == N && tns_segment(r) == 1, "records and segments are counted");
    size_t pos = 0;
    char key[TNS_MAX_KEY + 1], lines[64] = "";
    const char *value;
    while (tns_each(tns_header(r), &pos, key, &value))
        strcat(strcat(lines, value), ",");
    ok(!strcmp(lines, "one,two,"), "history repeats, in order");
    tns_reader_free(r);

    /* Hopping gives shapes and places; from each place, in any order, the whole record. */
    uint64_t offset[N];
    uint32_t order[N];
    lseek(fd, 0, SEEK_SET);
    r = tns_reader_new(fd);
    for (int i = 0; i < N && tns_hop(r, &got, &offset[i]) == 1; i++) {
        random_record(&want, 1000 + (uint64_t)i, 300);
        for (int k = 0; k < got.ntensors; k++)
            if (got.tensor[k].data || tensor_bytes(&got.tensor[k]) != tensor_bytes(&want.tensor[k]))
                offset[i] = 1;
        order[i] = (uint32_t)i;
    }
    ok(tns_hop(r, &got, offset) == 0, "a hop over the whole file meets its end");
    struct rng g = rng_seed(3);
    rng_shuffle(&g, order, N);
    good = 0;
    for (int i = 0; i < N; i++) {
        random_record(&want, 1000 + (uint64_t)order[i], 300);
        good += tns_read_at(r, &got, offset[order[i]], NULL) == 0 && same(&want, &got);
    }
    ok(good == N, "records are read at their places in any order (%d of %d)", good, N);
    ok(tns_read_at(r, &got, 0, NULL) == TNS_ECORRUPT, "a header is no data record");
    ok(tns_read_at(r, &got, offset[5] + 64, NULL) == TNS_ECORRUPT,
       "a record does not start in its middle");
    ok(tns_read_at(r, &got, 1ull << 40, NULL) == TNS_ECUT, "nor behind the end of the file");
    tns_reader_free(r);
    close(fd);
    tns_release(&want);
    tns_release(&got);
}

/* Every cut and every flipped bit of a stream with all parts: segments of two records, of one and
 * of none. */
static void damage(void)
{
    size_t n;
    int fd = write_segments(77, 3, 2, 5), e, wrong = 0;
    unsigned char *b = bytes_of(fd, &n);
    close(fd);
    for (size_t cut = 0; cut < n; cut++)
        for (int hop = 0; hop < 2; hop++) {
            fd = file_of(b, cut);
            if ((e = read_all(fd, hop)) != TNS_ECUT && wrong++ < 5)
                printf("# cut at %zu of %zu, %s: %d\n", cut, n, hop ? "hop" : "read", e);
            close(fd);
        }
    ok(!wrong, "cut after any of %zu bytes, the stream is cut", n);
    wrong = 0;
    for (size_t i = 0; i < n; i++)
        for (int bit = 0; bit < 8; bit++) {
            b[i] ^= (unsigned char)(1 << bit);
            fd = file_of(b, n);
            if ((e = read_all(fd, false)) >= 0 || e == -100 || e == TNS_EUNSUPPORTED)
                if (wrong++ < 5)
                    printf("# bit %d of byte %zu: %d\n", bit, i, e);
            close(fd);
            b[i] ^= (unsigned char)(1 << bit);
        }
    ok(!wrong, "any of %zu bits flipped is found, and never taken for the future", 8 * n);
    fd = file_of(b, n);
    ok(read_all(fd, false) == 3, "and the stream itself is sound");
    close(fd);
    free(b);
}

static void segments(void)
{
    size_t n, m;
    int fd = write_stream(1, 2, 9), e;
    unsigned char *a = bytes_of(fd, &n), *b;
    close(fd);
    fd = write_stream(5, 3, 9);
    b = bytes_of(fd, &m);
    close(fd);
    a = realloc(a, n + m);
    memcpy(a + n, b, m);
    fd = file_of(a, n + m);
    struct tns_reader *r = tns_reader_new(fd);
    struct tns_record rec = {0};
    int at[5], i = 0;
    while ((e = read_record(r, &rec)) == 1 && i < 5)
        at[i++] = tns_segment(r);
    ok(e == 0 && i == 5 && at[0] == 1 && at[1] == 1 && at[2] == 2 && at[4] == 2,
       "two streams are two segments of one");
    tns_reader_free(r);
    close(fd);
    fd = file_of(a, n + 64);
    e = read_all(fd, false);
    ok(e == TNS_ECUT, "of which the second may not be missing in part (%d)", e);
    close(fd);
    fd = file_of(a, n);
    struct tns_writer *w = tns_writer_new(fd);
    if (lseek(fd, 0, SEEK_END) < 0 || tns_promise(w) || lseek(fd, 0, SEEK_SET))
        abort();
    e = read_all(fd, false);
    ok(e == TNS_ECUT, "nor all but a promise (%d)", e);
    tns_writer_free(w);
    close(fd);
    tns_release(&rec);
    free(a);
    free(b);
}

/* Each message of such a socket is one write. */
static void one_write(void)
{
    enum { KIND = 10, FIXED = 64 };
    int s[2], writes = 0, joined = 0, wrong = 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s))
        abort();
    struct tns_writer *w = tns_writer_new(s[1]);
    struct tns_meta m = {0};
    struct tns_record rec = {0};
    if (tns_set(&m, "generator", "x") || tns_set(&rec.meta, "case", "c"))
        abort();
    int e = tns_promise(w);
    for (int i = 0; i < 3; i++)
        e = e || tns_write_header(w, &m) || tns_write(w, &rec);
    e = e || tns_finish(w);
    tns_writer_free(w);
    close(s[1]);
    char b[1000] = "";
    for (ssize_t k; (k = read(s[0], b, sizeof b)) > 0; writes++) {
        wrong += b[KIND] == 'M' && k <= FIXED;
        joined += b[KIND] == 'M' && k > FIXED + KIND && b[FIXED + KIND] == 'H';
    }
    /* The promise, the rest of its header, three records, two headers behind ends, the last end. */
    ok(!e && writes == 8 && joined == 2 && !wrong,
       "the end of a segment and the header behind it are one write (%d of %d)", joined, writes);
    close(s[0]);
    tns_release(&rec);
    free(m.text);
}

/* One byte at a time through a pipe. */
static void trickle(void)
{
    size_t n;
    int fd = write_stream(40, 3, 20), p[2];
    unsigned char *b = bytes_of(fd, &n);
    close(fd);
    for (int hop = 0; hop < 2; hop++) {
        if (pipe(p))
            abort();
        pid_t child = fork();
        if (!child) {
            for (size_t i = 0; i < n; i++)
                if (write(p[1], b + i, 1) != 1)
                    _exit(1);
            _exit(0);
        }
        close(p[1]);
        int got = read_all(p[0], hop);
        ok(got == 3, "a pipe that gives one byte at a time is %s (%d)",
           hop ? "hopped over" : "read", got);
        close(p[0]);
        waitpid(child, NULL, 0);
    }
    free(b);
}

static void limits(void)
{
    struct tns_meta m = {0};
    struct tns_record rec = {0};
    int fd = memfd_create("tns", 0);
    struct tns_writer *w = tns_writer_new(fd);
    char *text = malloc(TNS_MAX_VALUE + 2), key[80];
    uint32_t one[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1}, zero = 0, wide = TNS_MAX_DIM + 1,
             big[2] = {1 << 15, 1 << 15}, huge[4] = {1 << 16, 1 << 16, 1 << 16, 1 << 16};
    memset(text, 'x', TNS_MAX_VALUE + 1);
    text[TNS_MAX_VALUE + 1] = 0;
    ok(tns_set(&m, "k", text) == TNS_EINVALID, "a value has at most %u bytes", TNS_MAX_VALUE);
    text[TNS_MAX_VALUE] = 0;
    ok(tns_set(&m, "k", text) == 0 && strlen(tns_get(&m, "k")) == TNS_MAX_VALUE,
       "and may have them");
    ok(tns_set(&m, "k", "a\nb") == TNS_EINVALID && tns_set(&m, "k", "a\r") == TNS_EINVALID &&
           tns_set(&m, "k", "\xff") == TNS_EINVALID && strlen(tns_get(&m, "k")) == TNS_MAX_VALUE,
       "a value that the format cannot hold changes nothing");
    ok(tns_set(&m, "", "a") && tns_set(&m, "K", "a") && tns_set(&m, "1k", "a") &&
           tns_set(&m, "a b", "a") && tns_set(&m, "k=", "a"),
       "nor does a key");
    memset(key, 'k', sizeof key);
    key[64] = 0;
    ok(tns_set(&m, key, "a") == TNS_EINVALID, "a key has at most 63 characters");
    key[63] = 0;
    ok(tns_set(&m, key, "a") == 0 && !strcmp(tns_get(&m, key), "a"), "and may have them");
    tns_unset(&m, "k");
    ok(!tns_get(&m, "k") && tns_get(&m, key) && !tns_get(&m, "kk"),
       "unsetting takes one key, not its kin");

    ok(!tns_add(&rec, "t", DT_U8, 1, &zero) && !tns_add(&rec, "t", DT_U8, 1, &wide) &&
           !tns_add(&rec, "t", DT_U8, 9, one) && !tns_add(&rec, "t", DT_COUNT, 1, one) &&
           !tns_add(&rec, "T", DT_U8, 1, one) && !tns_add(&rec, "a.b", DT_U8, 1, one) &&
           !tns_add(&rec, "t", DT_F64, 2, big) && !tns_add(&rec, "t", DT_U8, 4, huge) &&
           !rec.ntensors,
       "a tensor that the format cannot hold is not added");
    for (int i = 0; i < TNS_MAX_TENSORS; i++) {
        snprintf(key, sizeof key, "t%d", i);
        if (!tns_add(&rec, key, DT_U8, 1, one))
            abort();
        *(char *)tns_tensor(&rec, key)->data = 0;
    }
    ok(!tns_add(&rec, "more", DT_U8, 1, one), "there are at most %d tensors", TNS_MAX_TENSORS);
    ok(tns_write(w, &rec) == TNS_EINVALID, "no record before a header");
    ok(tns_write_header(w, &m) == 0 && tns_write(w, &rec) == 0, "%d tensors are written",
       TNS_MAX_TENSORS);
    tns_remove(&rec, "t0");
    ok(!tns_tensor(&rec, "t0") && tns_tensor(&rec, "t63") && rec.ntensors == 63,
       "a tensor is removed");
    m.len = 0;
    for (int i = 0; i < TNS_MAX_LINES; i++)
        if (tns_append(&m, "history", ""))
            abort();
    ok(tns_write_header(w, &m) == 0, "a header of %d lines is written", TNS_MAX_LINES);
    ok(tns_append(&m, "history", "") == 0 && tns_write_header(w, &m) == TNS_EINVALID,
       "one of more is not, since nobody could read it");
    for (int i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "k%d", i);
        if (tns_set(&rec.meta, key, text))
            abort();
    }
    ok(tns_write(w, &rec) == TNS_EINVALID,
       "a record with more metadata than it may have is not written");
    tns_writer_free(w);
    close(fd);
    tns_release(&rec);
    free(m.text);
    free(text);
}

static void numbers(void)
{
    struct tns_meta m = {0};
    struct rng r = rng_seed(9);
    double v[3], back[3];
    char one[TNS_NUMBER];
    long whole;
    int good = 0;
    for (int i = 0; i < 2000; i++) {
        for (int k = 0; k < 3; k++)
            do {
                uint64_t bits = rng_u64(&r);
                memcpy(&v[k], &bits, sizeof bits);
            } while (!isfinite(v[k]));
        good += tns_set_numbers(&m, "n", 3, v) == 0 && tns_get_numbers(&m, "n", 3, back) &&
                !memcmp(v, back, sizeof v);
    }
    ok(good == 2000, "any double comes back from its text (%d of 2000)", good);
    ok(!strcmp(tns_number(0.1, one), "0.1") && !strcmp(tns_number(155, one), "155"),
       "and the text is no longer than it has to be");
    v[0] = NAN;
    ok(tns_set_numbers(&m, "n", 1, v) == TNS_EINVALID, "NaN is no number");
    static const char *const bad[] = {"",    " 1",  "1 ",  "1,5",   "0x",
                                      "nan", "inf", "1 2", "1e999", "+1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ok(tns_set(&m, "n", bad[i]) == 0 && !tns_get_numbers(&m, "n", 1, v), "'%s' is no number",
           bad[i]);
    static const char *const unwhole[] = {"",   "1.0", " 1", "1 ", "99999999999999999999",
                                          "11", "-1",  "+1", "1a"};
    for (size_t i = 0; i < sizeof unwhole / sizeof *unwhole; i++)
        ok(tns_set(&m, "n", unwhole[i]) == 0 && !tns_get_int(&m, "n", 0, 10, &whole),
           "'%s' is no whole number from 0 to 10", unwhole[i]);
    free(m.text);
}

/* A claim of half a gibibyte by an input of some hundred bytes: the start of such a record, from a
 * child whose payload is the kernel's one page of zeros. */
static void claims(void)
{
    enum { SIZE = 1 << 29, START = 64 + 64 + 128 + 100 };
    unsigned char b[START];
    size_t n = 0;
    int p[2];
    if (pipe(p))
        abort();
    if (!fork()) {
        close(p[0]);
        struct tns_meta m = {0};
        struct tns_record rec = {.ntensors = 1};
        struct tns_writer *w = tns_writer_new(p[1]);
        rec.tensor[0] = (struct tensor){.name = "t", .rank = 2, .dim = {1 << 14, 1 << 15}};
        rec.tensor[0].data =
            mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        _exit(tns_write_header(w, &m) || tns_write(w, &rec));
    }
    close(p[1]);
    for (ssize_t k; n < START && (k = read(p[0], b + n, START - n)) > 0;)
        n += (size_t)k;
    close(p[0]);
    wait(NULL);
    int fd = file_of(b, n);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    int e = read_all(fd, false);
    getrusage(RUSAGE_SELF, &after);
    ok(n == START && e == TNS_ECUT, "a cut record that claims 512 MiB is cut (%d)", e);
    ok(after.ru_maxrss - before.ru_maxrss < 40 << 10,
       "and costs no more than the input has (%ld KiB)", after.ru_maxrss - before.ru_maxrss);
    close(fd);
}

int main(void)
{
    round_trips();
    pieces();
    damage();
    segments();
    one_write();
    trickle();
    limits();
    numbers();
    claims();
    return done_testing();
}
