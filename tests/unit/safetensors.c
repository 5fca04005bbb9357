/* The vectors of formats/vectors, then what no list of files can show: cuts, flips, the writer.
 * `safetensors dump FILE` prints a file and `safetensors copy FILE NEW` writes it anew, for a test
 * that has Python on the other side. */
#include "formats/safetensors.h"
#include "lib/base/rng.h"
#include "tests/lib/tap.h"

#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

static char why[400], dir[] = "/tmp/safetensors.XXXXXX";

static const struct tensor *find(const struct st_file *f, const char *name)
{
    for (int i = 0; i < f->tensors; i++)
        if (!strcmp(f->tensor[i].name, name))
            return &f->tensor[i];
    return NULL;
}

/* A file that ends where readable memory ends, so that a read behind it crashes. */
struct guarded {
    unsigned char *page, *bytes;
    size_t n, size;
};

static struct guarded guard(const void *bytes, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n + page) / page * page;
    struct guarded g = {.n = n, .size = room + page};
    g.page = mmap(NULL, g.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g.bytes = g.page + room - n;
    memcpy(g.bytes, bytes, n);
    mprotect(g.page + room, page, PROT_NONE);
    return g;
}

static int parse_guarded(const void *bytes, size_t n)
{
    struct guarded g = guard(bytes, n);
    struct st_file f;
    int r = st_parse(&f, g.bytes, n, why, sizeof why);
    if (r == ST_OK)
        st_close(&f);
    munmap(g.page, g.size);
    return r;
}

/* The bytes of one vector, which main has turned from text into files. */
static size_t vector(const char *name, unsigned char *bytes, size_t room)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s.bin", dir, name);
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(bytes, 1, room, f) : 0;
    if (f)
        fclose(f);
    return n;
}

static void vectors(void)
{
    static _Alignas(64) unsigned char bytes[8192];
    static const struct {
        const char *kind;
        int code;
    } kinds[] = {{"good-", ST_OK},
                 {"bad-", ST_CORRUPT},
                 {"foreign-", ST_FOREIGN},
                 {"unsupported-", ST_UNSUPPORTED}};
    glob_t g;
    char pattern[64];
    snprintf(pattern, sizeof pattern, "%s/*.bin", dir);
    if (!ok(glob(pattern, 0, NULL, &g) == 0 && g.gl_pathc > 60, "formats/vectors"))
        return;
    for (size_t i = 0; i < g.gl_pathc; i++) {
        char *name = strrchr(g.gl_pathv[i], '/') + 1;
        *strrchr(name, '.') = 0;
        size_t n = vector(name, bytes, sizeof bytes);
        name += strlen("st-");
        for (size_t k = 0; k < 4; k++)
            if (!strncmp(name, kinds[k].kind, strlen(kinds[k].kind))) {
                struct st_file f;
                *why = 0;
                int r = st_parse(&f, bytes, n, why, sizeof why);
                ok(n && r == kinds[k].code && (r == ST_OK) == !*why && !strchr(why, '\n'), "%s: %s",
                   name, *why ? why : "read");
                if (r == ST_OK)
                    st_close(&f);
            }
    }
    globfree(&g);
}

static void values(void)
{
    static _Alignas(64) unsigned char bytes[8192];
    struct st_file f;
    size_t n = vector("st-good-order", bytes, sizeof bytes);
    ok(st_parse(&f, bytes, n, why, sizeof why) == ST_OK && f.tensors == 3 && f.others == 1,
       "three tensors, and one of a foreign dtype");
    const struct tensor *a = find(&f, "a"), *b = find(&f, "b"), *e = find(&f, "none");
    ok(a && a->dtype == DT_F32 && a->rank == 1 && a->dim[0] == 2 && tensor_get(a, 0) == 1 &&
           tensor_get(a, 1) == -2.5,
       "floats");
    ok(b && b->dtype == DT_U8 && b->rank == 2 && b->dim[0] == 3 && b->dim[1] == 1 &&
           tensor_get(b, 2) == 3,
       "bytes");
    ok(e && e->rank == 2 && tensor_count(e) == 0, "a tensor without elements");
    ok(!find(&f, "n") && !find(&f, "") && !st_meta(&f, "a"), "nothing else has a name");
    st_close(&f);

    n = vector("st-good-meta", bytes, sizeof bytes);
    ok(st_parse(&f, bytes, n, why, sizeof why) == ST_OK && st_meta(&f, "k") &&
           !strcmp(st_meta(&f, "k"),
                   "\" \\ / \b \f \n \r \t \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 x"),
       "escapes of a string");
    ok(st_check(&f, why, sizeof why) == 0, "a file of another program has no checksum");
    st_close(&f);

    n = vector("st-good-dtypes", bytes, sizeof bytes);
    ok(st_parse(&f, bytes, n, why, sizeof why) == ST_OK && f.tensors == DT_COUNT, "every dtype");
    for (int i = 0; i < f.tensors; i++)
        ok(!strcmp(f.tensor[i].name, dtype_name(f.tensor[i].dtype)) &&
               tensor_get(&f.tensor[i], 0) == (f.tensor[i].dtype == DT_U8 ? 2 : -2),
           "%s", f.tensor[i].name);
    st_close(&f);

    n = vector("st-unsupported-key", bytes, sizeof bytes);
    memcpy(memmem(bytes, n, "scale", 5), "sc\x7fle", 5);
    ok(st_parse(&f, bytes, n, why, sizeof why) < 0 && strstr(why, "sc?le"),
       "no control characters: %s", why);
}

static unsigned char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    unsigned char *b = aligned_alloc(64, 1 << 20);
    *n = f ? fread(b, 1, 1 << 20, f) : 0;
    if (f)
        fclose(f);
    return b;
}

static void writer(void)
{
    static float big[48], odd[3] = {1, NAN, -0.0f};
    static uint16_t half[32] = {0x3c00};
    static uint8_t byte[5] = {1, 2, 3, 4, 5};
    static double scalar = 0.1;
    for (int i = 0; i < 48; i++)
        big[i] = (float)i / 7;
    const struct tensor t[] = {
        {"odd", DT_F32, 1, {3}, odd},
        {"byte", DT_U8, 1, {5}, byte},
        {"big \"x\"", DT_F32, 3, {4, 3, 4}, big},
        {"scalar", DT_F64, 0, {0}, &scalar},
        {"none", DT_F32, 2, {0, 9}, NULL},
        {"half", DT_BF16, 2, {8, 4}, half},
    };
    const struct st_pair meta[] = {
        {"config", "a: 1\nb: \"\\\"\t\x01 \xc3\xa9\n"}, {"", ""}, {"xxh3", "no"}};
    char path[100], other[100];
    struct st_file f;
    snprintf(path, sizeof path, "%s/a.safetensors", dir);
    snprintf(other, sizeof other, "%s/b.safetensors", dir);

    ok(st_write(path, meta, 3, t, 6, why, sizeof why) == ST_OK, "written");
    if (!ok(st_open(&f, path, why, sizeof why) == ST_OK, "and read"))
        return;
    ok(f.tensors == 6 && f.others == 0 && f.metas == 3, "six tensors, three words of metadata");
    for (int i = 0; i < 6; i++) {
        const struct tensor *r = find(&f, t[i].name);
        ok(r && r->dtype == t[i].dtype && r->rank == t[i].rank &&
               !memcmp(r->dim, t[i].dim, sizeof *r->dim * (size_t)r->rank) &&
               (!tensor_bytes(r) || !memcmp(r->data, t[i].data, tensor_bytes(r))),
           "%s is itself", t[i].name);
        ok(r && (tensor_bytes(r) % 64 || (uintptr_t)r->data % 64 == 0), "%s lies on 64 bytes",
           t[i].name);
    }
    ok(!strcmp(st_meta(&f, "config"), meta[0].value) && !strcmp(st_meta(&f, ""), ""), "metadata");
    ok(strlen(st_meta(&f, "xxh3")) == 16 && st_check(&f, why, sizeof why) == 1,
       "the checksum agrees");

    /* what was read, written again, is the same file */
    ok(st_write(other, f.meta, f.metas, f.tensor, f.tensors, why, sizeof why) == ST_OK, "copied");
    size_t n, m;
    unsigned char *a = slurp(path, &n), *b = slurp(other, &m);
    ok(n == m && n > 64 && !memcmp(a, b, n), "the copy has the same %zu bytes", n);
    free(b);
    st_close(&f);

    /* every cut and every flipped bit, in memory that ends with the file */
    size_t bad = 0;
    for (size_t i = 0; i < n; i++)
        bad += parse_guarded(a, i) != (i < 9 ? ST_FOREIGN : ST_CORRUPT);
    ok(!bad, "cut at each of %zu bytes: refused", n);
    bad = 0;
    for (size_t i = 0; i < 8 * n; i++) {
        a[i / 8] ^= (unsigned char)(1u << i % 8);
        int r = st_parse(&f, a, n, why, sizeof why);
        if (r == ST_OK) {
            /* a flip that leaves a sound file is what the checksum is for; one in the name `xxh3`
             * or in a digit makes it a file without a checksum or with another */
            bad += st_check(&f, why, sizeof why) == 1;
            st_close(&f);
        }
        a[i / 8] ^= (unsigned char)(1u << i % 8);
    }
    ok(!bad, "each of %zu bits flipped: refused or without a checksum that agrees", 8 * n);

    /* several bytes of the header changed at random: any answer, no crash */
    struct rng r = rng_seed(1);
    size_t header = 0, accepted = 0;
    memcpy(&header, a, 8);
    for (int k = 0; k < 5000; k++) {
        static const char likely[] = "{}[]\",:\\u0189 aeF";
        struct guarded g = guard(a, n);
        for (uint64_t j = rng_below(&r, 6) + 1; j--;)
            g.bytes[8 + rng_below(&r, header)] =
                rng_below(&r, 4) ? (unsigned char)likely[rng_below(&r, sizeof likely - 1)]
                                 : (unsigned char)rng_u64(&r);
        if (st_parse(&f, g.bytes, n, why, sizeof why) == ST_OK) {
            accepted += st_check(&f, why, sizeof why) == 1;
            st_close(&f);
        }
        munmap(g.page, g.size);
    }
    ok(accepted < 50, "5000 headers with random bytes: %zu unharmed", accepted);
    free(a);

    /* what cannot be written, and leaves the old file */
    struct tensor twice[] = {t[0], t[0]}, name = t[0], nine = t[0];
    strcpy(name.name, "__metadata__");
    nine.name[0] = (char)0xff;
    ok(st_write(path, NULL, 0, twice, 2, why, sizeof why) == ST_CORRUPT, "twice: %s", why);
    ok(st_write(path, NULL, 0, &name, 1, why, sizeof why) < 0, "__metadata__: %s", why);
    ok(st_write(path, NULL, 0, &nine, 1, why, sizeof why) == ST_CORRUPT, "no UTF-8: %s", why);
    ok(st_write("/dev/null", NULL, 0, t, 1, why, sizeof why) == ST_IO, "a device: %s", why);
    ok(st_open(&f, path, why, sizeof why) == ST_OK && f.tensors == 6, "the old file stands");
    st_close(&f);
    ok(st_write(path, NULL, 0, NULL, 0, why, sizeof why) == ST_OK &&
           st_open(&f, path, why, sizeof why) == ST_OK && f.tensors == 0,
       "nothing at all can be written");
    st_close(&f);

    ok(st_open(&f, dir, why, sizeof why) == ST_IO, "a directory: %s", why);
    ok(st_open(&f, "/dev/null", why, sizeof why) == ST_IO, "a device: %s", why);
    snprintf(path, sizeof path, "%s/none", dir);
    ok(st_open(&f, path, why, sizeof why) == ST_IO, "no file: %s", why);
    fclose(fopen(path, "w"));
    ok(st_open(&f, path, why, sizeof why) == ST_FOREIGN, "an empty file: %s", why);
}

/* st_check of a file of this header, in which ################ stands for the checksum's digits. */
static int checked(const char *text)
{
    static _Alignas(64) unsigned char bytes[1024];
    char digits[17];
    uint64_t length = strlen(text);
    unsigned char *sum;
    struct st_file f;
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, text, length);
    if ((sum = memmem(bytes, 8 + length, "################", 16)))
        memset(sum, '0', 16);
    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)XXH3_64bits(bytes, 8 + length));
    if (sum)
        memcpy(sum, digits, 16);
    int r = st_parse(&f, bytes, 8 + length, why, sizeof why);
    if (r == ST_OK) {
        r = st_check(&f, why, sizeof why);
        st_close(&f);
    }
    return r;
}

/* Where the checksum stands is found in the text, in which other words may look like it. */
static void checksums(void)
{
    ok(checked("{\"__metadata__\":{\"xxh3\":\"################\"}}") == 1, "a checksum");
    ok(checked("{ \"__metadata__\" : {\"a\":\"b\" ,\n\"xxh3\" :\t\"################\" } } ") == 1,
       "a checksum among blanks");
    ok(checked("{\"__metadata__\":{\"a\":\"0000000000000000\",\"b\":\"xxh3\",\"c\":\"\\\"xxh3\\\":"
               "\",\"xxh3\":\"################\"}}") == 1,
       "a checksum behind words that look like it");
    ok(checked("{\"__metadata__\":{\"xxh3\":\"0000000000000000\"}}") == ST_CORRUPT, "a wrong one");
    ok(checked("{\"__metadata__\":{\"xxh3\":\"\\u0030000000000000000\"}}") == 0,
       "one with an escape is none");
    ok(checked("{\"__metadata__\":{\"xxh3\":\"\"}}") == 0 &&
           checked("{\"xxh3\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}") == 0,
       "an empty one is none, and so is a tensor of that name");
}

/* A header as large as it may be, made to be slow: many names that differ late. */
static void large(void)
{
    size_t room = ST_MAX_HEADER + 8, n = 8;
    char *b = malloc(room + 1);
    struct st_file f;
    int i;
    b[n++] = '{';
    for (i = 0; i < ST_MAX_TENSORS; i++)
        n += (size_t)sprintf(
            b + n,
            "%s\"a-long-and-common-prefix-of-a-name-%06d\":{\"dtype\":\"U8\",\"shape\":"
            "[0],\"data_offsets\":[0,0]}",
            i ? "," : "", i * 7919 % ST_MAX_TENSORS);
    size_t before = n;
    b[n++] = '}';
    uint64_t length = n - 8;
    memcpy(b, &length, 8);
    ok(st_parse(&f, b, n, why, sizeof why) == ST_OK && f.tensors == ST_MAX_TENSORS, "%d tensors",
       i);
    st_close(&f);
    n = before;
    n += (size_t)sprintf(b + n, ",\"z\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    length = n - 8;
    memcpy(b, &length, 8);
    ok(st_parse(&f, b, n, why, sizeof why) == ST_UNSUPPORTED, "one more: %s", why);

    memset(b + 8, ' ', room - 7);
    b[8] = '{', b[9] = '}';
    length = ST_MAX_HEADER;
    memcpy(b, &length, 8);
    ok(st_parse(&f, b, room, why, sizeof why) == ST_OK, "the longest header");
    st_close(&f);
    length++;
    memcpy(b, &length, 8);
    ok(st_parse(&f, b, room + 1, why, sizeof why) == ST_UNSUPPORTED, "a longer one: %s", why);

    /* a library may take a hundred bytes for each of these two, in 16 MiB */
    length--;
    memcpy(b, &length, 8);
    memcpy(b + 8, "{\"a\":[", 6);
    for (n = 14; n + 3 < room; n += 3)
        memcpy(b + n, "[],", 3);
    memcpy(b + room - 5, "[] ]}", 5);
    ok(st_parse(&f, b, room, why, sizeof why) == ST_UNSUPPORTED, "millions of lists: %s", why);
    free(b);
}

static int dump(const char *path, const char *copy)
{
    struct st_file f;
    int r = st_open(&f, path, why, sizeof why);
    if (r == ST_OK && !copy)
        for (int i = 0; i < f.metas; i++)
            printf("%s=%s\n", f.meta[i].key, f.meta[i].value);
    for (int i = 0; r == ST_OK && !copy && i < f.tensors; i++) {
        const struct tensor *t = &f.tensor[i];
        printf("%s %s", t->name, dtype_name(t->dtype));
        for (int d = 0; d < t->rank; d++)
            printf(" %u", t->dim[d]);
        putchar(':');
        for (size_t k = 0; k < tensor_count(t); k++)
            printf(" %.9g", tensor_get(t, k));
        putchar('\n');
    }
    if (r == ST_OK && copy)
        r = st_write(copy, f.meta, f.metas, f.tensor, f.tensors, why, sizeof why);
    if (r < 0)
        fprintf(stderr, "%s\n", why);
    st_close(&f);
    return r < 0;
}

int main(int argc, char **argv)
{
    if (argc > 2)
        return dump(argv[2], argv[3]);
    char command[128];
    if (!mkdtemp(dir))
        return 1;
    snprintf(command, sizeof command, "tests/lib/hex2bin -d %s formats/vectors/st-*.hex", dir);
    ok(system(command) == 0, "annotated vectors are bytes");
    vectors();
    values();
    checksums();
    writer();
    large();
    snprintf(command, sizeof command, "rm -r %s", dir);
    ok(system(command) == 0, "cleared away");
    return done_testing();
}
