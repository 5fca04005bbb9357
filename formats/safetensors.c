/* The reader. Functions stand in the order of formats/safetensors.md; the JSON is read for exactly
 * the grammar of section 3, which nests three deep, so nothing here recurses. */
#include "formats/safetensors.h"
#include "formats/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

_Static_assert((int)JSON_CORRUPT == ST_CORRUPT && (int)JSON_UNSUPPORTED == ST_UNSUPPORTED,
               "json.c's errors are passed on");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "tensors are used as they lie in the file");

static const struct {
    const char *name;
    int dtype; /* -1: checked, but not handed out */
    size_t size;
} kinds[] = {
    {"F32", DT_F32, 4}, {"F16", DT_F16, 2}, {"BF16", DT_BF16, 2}, {"U8", DT_U8, 1},
    {"I16", DT_I16, 2}, {"I32", DT_I32, 4}, {"F64", DT_F64, 8},   {"I64", -1, 8},
    {"U64", -1, 8},     {"U32", -1, 4},     {"U16", -1, 2},       {"I8", -1, 1},
    {"BOOL", -1, 1},    {"F8_E4M3", -1, 1}, {"F8_E5M2", -1, 1},
};

struct entry { /* one tensor of the header */
    const char *name;
    int kind, rank;
    uint32_t dim[TENSOR_MAX_RANK];
    uint64_t begin, end;
};

/* --- section 4: the tensors ------------------------------------------------------------------- */

static bool shape(struct json_scan *s, struct entry *e)
{
    uint64_t v;
    if (!json_expect(s, '['))
        return false;
    if (json_accept(s, ']'))
        return true;
    do {
        if (!json_number(s, &v))
            return false;
        if (e->rank == TENSOR_MAX_RANK)
            return json_wrong(s, ST_UNSUPPORTED, "tensor '%.100s': more than %d dimensions",
                              e->name, TENSOR_MAX_RANK);
        if (v > UINT32_MAX)
            return json_wrong(s, ST_UNSUPPORTED, "tensor '%.100s': a dimension of %llu", e->name,
                              (unsigned long long)v);
        e->dim[e->rank++] = (uint32_t)v;
    } while (json_another(s, ']'));
    return !s->code;
}

static bool dtype(struct json_scan *s, struct entry *e)
{
    const char *name;
    if (!json_string(s, &name))
        return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(name, kinds[i].name)) {
            e->kind = (int)i;
            return true;
        }
    return json_wrong(s, ST_UNSUPPORTED, "tensor '%.100s': dtype '%.100s'", e->name, name);
}

static bool offsets(struct json_scan *s, struct entry *e)
{
    return json_expect(s, '[') && json_number(s, &e->begin) && json_expect(s, ',') &&
           json_number(s, &e->end) && json_expect(s, ']');
}

/* {"dtype":...,"shape":[...],"data_offsets":[begin,end]}, in any order, each once; then what the
 * three say together. */
static bool tensor(struct json_scan *s, struct entry *e)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    static bool (*const values[])(struct json_scan *, struct entry *) = {dtype, shape, offsets};
    const char *key;
    unsigned seen = 0, i;
    uint64_t bytes;
    if (!json_expect(s, '{'))
        return false;
    do {
        if (!json_string(s, &key) || !json_expect(s, ':'))
            return false;
        for (i = 0; i < 3 && strcmp(key, keys[i]);)
            i++;
        if (i == 3)
            return json_wrong(s, ST_UNSUPPORTED, "tensor '%.100s': key '%.100s'", e->name, key);
        if (seen & 1u << i)
            return json_wrong(s, ST_CORRUPT, "tensor '%.100s': %s twice", e->name, key);
        seen |= 1u << i;
        if (!values[i](s, e))
            return false;
    } while (json_another(s, '}'));
    if (s->code)
        return false;
    for (i = 0; i < 3; i++)
        if (!(seen & 1u << i))
            return json_wrong(s, ST_CORRUPT, "tensor '%.100s': no %s", e->name, keys[i]);
    bytes = kinds[e->kind].size;
    for (int d = 0; d < e->rank; d++)
        if (__builtin_mul_overflow(bytes, e->dim[d], &bytes))
            return json_wrong(s, ST_CORRUPT, "tensor '%.100s': shape beyond 64 bits", e->name);
    if (e->end < e->begin || e->end - e->begin != bytes)
        return json_wrong(s, ST_CORRUPT,
                          "tensor '%.100s': data_offsets %llu to %llu (wanted %llu bytes)", e->name,
                          (unsigned long long)e->begin, (unsigned long long)e->end,
                          (unsigned long long)bytes);
    return true;
}

/* --- section 3: the header -------------------------------------------------------------------- */

/* Room for one more element in an array that doubles; NULL when there is none. */
static void *grow(struct json_scan *s, void *array, int n, size_t element)
{
    if (n & (n - 1))
        return array; /* n is no power of two: there is room */
    void *bigger = reallocarray(array, n ? 2 * (size_t)n : 1, element);
    if (!bigger)
        json_wrong(s, ST_IO, "out of memory");
    return bigger;
}

static bool metadata(struct json_scan *s, struct st_file *f)
{
    if (!json_expect(s, '{'))
        return false;
    if (json_accept(s, '}'))
        return true;
    do {
        struct st_pair *m = grow(s, f->meta, f->metas, sizeof *m);
        if (!m)
            return false;
        f->meta = m;
        m += f->metas;
        if (!json_string(s, &m->key) || !json_expect(s, ':') || !json_string(s, &m->value))
            return false;
        if (!strcmp(m->key, "xxh3") && strlen(m->value) == 16 &&
            !memcmp(s->p - 17, m->value, 16)) /* written plainly, without escapes */
            f->checksum = 8 + (size_t)(s->p - 17 - s->start);
        f->metas++;
    } while (json_another(s, '}'));
    return !s->code;
}

static bool header(struct json_scan *s, struct st_file *f, struct entry **entries, int *n)
{
    const char *name;
    bool had_meta = false;
    if (!json_expect(s, '{'))
        return false;
    if (!json_accept(s, '}')) {
        do {
            if (!json_string(s, &name) || !json_expect(s, ':'))
                return false;
            if (!strcmp(name, "__metadata__")) {
                if (had_meta)
                    return json_wrong(s, ST_CORRUPT, "header: __metadata__ twice");
                had_meta = true;
                if (!metadata(s, f))
                    return false;
                continue;
            }
            if (*n == ST_MAX_TENSORS)
                return json_wrong(s, ST_UNSUPPORTED, "header: more than %d tensors",
                                  ST_MAX_TENSORS);
            struct entry *e = grow(s, *entries, *n, sizeof *e);
            if (!e)
                return false;
            *entries = e;
            e += *n;
            *e = (struct entry){.name = name};
            if (!tensor(s, e))
                return false;
            if (strlen(name) >= TENSOR_MAX_NAME)
                return json_wrong(s, ST_UNSUPPORTED, "tensor '%.100s': name over %d bytes", name,
                                  TENSOR_MAX_NAME - 1);
            ++*n;
        } while (json_another(s, '}'));
        if (s->code)
            return false;
    }
    while (s->p < s->end && *s->p == ' ')
        s->p++;
    return s->p == s->end || json_unexpected(s, "only spaces behind the header's end");
}

/* --- section 5: the whole --------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return by_name(a, b);
}

static void sort(struct entry *e, int n, int (*order)(const void *, const void *))
{
    if (n > 1) /* e may be NULL */
        qsort(e, (size_t)n, sizeof *e, order);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(**(const char *const *const *)a, **(const char *const *const *)b);
}

/* Sorting is what keeps the search for duplicates from being quadratic in a hostile header. */
static bool check_keys(struct json_scan *s, struct st_file *f, struct entry *e, int n)
{
    sort(e, n, by_name);
    for (int i = 1; i < n; i++)
        if (!by_name(&e[i - 1], &e[i]))
            return json_wrong(s, ST_CORRUPT, "tensor '%.100s' twice", e[i].name);
    const char ***key = calloc((size_t)f->metas + 1, sizeof *key);
    if (!key)
        return json_wrong(s, ST_IO, "out of memory");
    for (int i = 0; i < f->metas; i++)
        key[i] = &f->meta[i].key;
    qsort(key, (size_t)f->metas, sizeof *key, by_key);
    for (int i = 1; i < f->metas; i++)
        if (!strcmp(*key[i - 1], *key[i]))
            json_wrong(s, ST_CORRUPT, "metadata '%.100s' twice", *key[i]);
    free(key);
    return !s->code;
}

/* The tensors cover the data from end to end, each byte once. */
static bool check_cover(struct json_scan *s, struct entry *e, int n, uint64_t data)
{
    uint64_t at = 0;
    sort(e, n, by_place);
    for (int i = 0; i < n; at = e[i++].end) {
        if (e[i].begin != at)
            return json_wrong(s, ST_CORRUPT, "tensor '%.100s': data at %llu: %s (wanted %llu)",
                              e[i].name, (unsigned long long)e[i].begin,
                              e[i].begin < at ? "an overlap" : "a hole", (unsigned long long)at);
        if (e[i].end > data)
            return json_wrong(
                s, ST_CORRUPT,
                "tensor '%.100s': the file is cut (wanted %llu bytes of data, got %llu)", e[i].name,
                (unsigned long long)e[n - 1].end, (unsigned long long)data);
    }
    return at == data || json_wrong(s, ST_CORRUPT, "%llu bytes behind the last tensor",
                                    (unsigned long long)(data - at));
}

static bool fill(struct json_scan *s, struct st_file *f, const struct entry *e, int n,
                 const unsigned char *data)
{
    if (!(f->tensor = calloc((size_t)n + 1, sizeof *f->tensor)))
        return json_wrong(s, ST_IO, "out of memory");
    for (int i = 0; i < n; i++) {
        const unsigned char *p = data + e[i].begin;
        if (kinds[e[i].kind].dtype < 0) {
            f->others++;
            continue;
        }
        if (e[i].begin < e[i].end && (uintptr_t)p % kinds[e[i].kind].size)
            return json_wrong(s, ST_UNSUPPORTED,
                              "tensor '%.100s': data is not aligned to %zu bytes", e[i].name,
                              kinds[e[i].kind].size);
        struct tensor *t = &f->tensor[f->tensors++];
        strcpy(t->name, e[i].name);
        t->dtype = (enum dtype)kinds[e[i].kind].dtype;
        t->rank = e[i].rank;
        memcpy(t->dim, e[i].dim, sizeof t->dim);
        t->data = (void *)(uintptr_t)p;
    }
    return true;
}

int st_parse(struct st_file *f, const void *bytes, size_t n, char *why, size_t size)
{
    const unsigned char *b = bytes;
    struct json_scan s = {.why = why, .size = size, .name = "header", .before = 8};
    struct entry *e = NULL;
    uint64_t length;
    int entries = 0;
    *f = (struct st_file){.bytes = b, .size = n};

    /* section 2: the length */
    if (n < 9 || b[8] != '{') {
        json_wrong(&s, ST_FOREIGN, "not a safetensors file");
        return s.code;
    }
    memcpy(&length, b, 8);
    if (length > n - 8)
        json_wrong(&s, ST_CORRUPT,
                   "header: the file is cut, or no safetensors file (wanted %llu bytes, got %zu)",
                   (unsigned long long)length, n - 8);
    else if (length > ST_MAX_HEADER)
        json_wrong(&s, ST_UNSUPPORTED, "header: %llu bytes (wanted at most %u)",
                   (unsigned long long)length, ST_MAX_HEADER);
    else if (!(s.text = f->text = malloc((size_t)length)))
        json_wrong(&s, ST_IO, "out of memory");
    if (s.code)
        return s.code;

    s.start = s.p = b + 8;
    s.end = s.start + length;
    if (header(&s, f, &e, &entries) && check_keys(&s, f, e, entries) &&
        check_cover(&s, e, entries, n - 8 - length))
        fill(&s, f, e, entries, s.end);
    free(e);
    if (s.code)
        st_close(f);
    return s.code;
}

int st_open(struct st_file *f, const char *path, char *why, size_t size)
{
    struct stat st;
    char what[200];
    void *map;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r = ST_IO;
    *f = (struct st_file){0};
    if (fd < 0 || fstat(fd, &st) < 0) {
        snprintf(why, size, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        snprintf(why, size, "%s: not a regular file", path);
    } else if (st.st_size == 0) {
        snprintf(why, size, "%s: not a safetensors file (empty)", path);
        r = ST_FOREIGN;
    } else if ((map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED) {
        snprintf(why, size, "%s: cannot map: %s", path, strerror(errno));
    } else if ((r = st_parse(f, map, (size_t)st.st_size, what, sizeof what)) < 0) {
        snprintf(why, size, "%s: %s", path, what);
        munmap(map, (size_t)st.st_size);
    } else {
        f->mapped = true;
        f->fd = fd;
        f->written = st.st_mtim;
    }
    if (fd >= 0 && !f->mapped)
        close(fd);
    return r;
}

void st_close(struct st_file *f)
{
    if (f->mapped) {
        munmap((void *)(uintptr_t)f->bytes, f->size);
        close(f->fd);
    }
    free(f->tensor);
    free(f->meta);
    free(f->text);
    *f = (struct st_file){0};
}

bool st_changed(const struct st_file *f)
{
    struct stat st;
    return f->mapped &&
           (fstat(f->fd, &st) || (size_t)st.st_size != f->size ||
            st.st_mtim.tv_sec != f->written.tv_sec || st.st_mtim.tv_nsec != f->written.tv_nsec);
}

int st_check(const struct st_file *f, char *why, size_t size)
{
    static const char zeros[] = "0000000000000000";
    char digits[17];
    if (!f->checksum)
        return 0;
    XXH3_state_t *x = XXH3_createState();
    if (!x) {
        snprintf(why, size, "out of memory");
        return ST_IO;
    }
    XXH3_64bits_reset(x);
    XXH3_64bits_update(x, f->bytes, f->checksum);
    XXH3_64bits_update(x, zeros, 16);
    XXH3_64bits_update(x, f->bytes + f->checksum + 16, f->size - f->checksum - 16);
    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)XXH3_64bits_digest(x));
    XXH3_freeState(x);
    if (!memcmp(digits, f->bytes + f->checksum, 16))
        return 1;
    snprintf(why, size, "checksum differs (wanted %.16s, got %s)",
             (const char *)f->bytes + f->checksum, digits);
    return ST_CORRUPT;
}

void st_forget(const struct st_file *f)
{
    if (f->mapped)
        madvise((void *)(uintptr_t)f->bytes, f->size, MADV_DONTNEED);
}

const struct tensor *st_tensor(const struct st_file *f, const char *name)
{
    for (int i = 0; i < f->tensors; i++)
        if (!strcmp(f->tensor[i].name, name))
            return &f->tensor[i];
    return NULL;
}

const char *st_meta(const struct st_file *f, const char *key)
{
    for (int i = 0; i < f->metas; i++)
        if (!strcmp(f->meta[i].key, key))
            return f->meta[i].value;
    return NULL;
}
