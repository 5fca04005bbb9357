/* The reader. Functions stand in the order of formats/safetensors.md; json.c reads the header, and
 * what it may say is checked here. */
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

_Static_assert((int)JSON_MEMORY == ST_IO && (int)JSON_CORRUPT == ST_CORRUPT &&
                   (int)JSON_UNSUPPORTED == ST_UNSUPPORTED,
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
    char name[TENSOR_MAX_NAME];
    int kind, rank;
    uint32_t dim[TENSOR_MAX_RANK];
    uint64_t begin, end;
};

/* A file in hand. Every check returns false after noting what is wrong. */
struct reading {
    struct st_file *f;
    struct entry *entry;
    int n;
    int code; /* an st_error */
    char *why;
    size_t size;
};

#define WRONG(r, what, ...) ((r)->code = json_fail(what, (r)->why, (r)->size, __VA_ARGS__), false)

/* --- section 4: the tensors ------------------------------------------------------------------- */

static bool shape(struct reading *r, struct entry *e, const json_t *list)
{
    if (!json_is_array(list))
        return WRONG(r, ST_CORRUPT, "tensor '%.100s': the shape is no list", e->name);
    if (json_array_size(list) > TENSOR_MAX_RANK)
        return WRONG(r, ST_UNSUPPORTED, "tensor '%.100s': more than %d dimensions", e->name,
                     TENSOR_MAX_RANK);
    for (; e->rank < (int)json_array_size(list); e->rank++) {
        const json_t *d = json_array_get(list, (size_t)e->rank);
        if (!json_is_integer(d))
            return WRONG(r, ST_CORRUPT, "tensor '%.100s': a dimension is no whole number", e->name);
        if (json_integer_value(d) > UINT32_MAX)
            return WRONG(r, ST_UNSUPPORTED, "tensor '%.100s': a dimension of %lld", e->name,
                         (long long)json_integer_value(d));
        e->dim[e->rank] = (uint32_t)json_integer_value(d);
    }
    return true;
}

static bool dtype(struct reading *r, struct entry *e, const json_t *name)
{
    if (!json_is_string(name))
        return WRONG(r, ST_CORRUPT, "tensor '%.100s': the dtype is no text", e->name);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(json_string_value(name), kinds[i].name)) {
            e->kind = (int)i;
            return true;
        }
    return WRONG(r, ST_UNSUPPORTED, "tensor '%.100s': dtype '%.100s'", e->name,
                 json_string_value(name));
}

static bool offsets(struct reading *r, struct entry *e, const json_t *pair)
{
    const json_t *begin = json_array_get(pair, 0), *end = json_array_get(pair, 1);
    if (json_array_size(pair) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return WRONG(r, ST_CORRUPT, "tensor '%.100s': data_offsets are no two whole numbers",
                     e->name);
    e->begin = (uint64_t)json_integer_value(begin);
    e->end = (uint64_t)json_integer_value(end);
    return true;
}

/* {"dtype":...,"shape":[...],"data_offsets":[begin,end]}, in any order; then what the three say
 * together. */
static bool tensor(struct reading *r, const char *name, json_t *value)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    static bool (*const read[])(struct reading *, struct entry *, const json_t *) = {dtype, shape,
                                                                                     offsets};
    struct entry *e = &r->entry[r->n++];
    const char *key;
    json_t *v;
    if (r->n > ST_MAX_TENSORS)
        return WRONG(r, ST_UNSUPPORTED, "header: more than %d tensors", ST_MAX_TENSORS);
    if (strlen(name) >= TENSOR_MAX_NAME)
        return WRONG(r, ST_UNSUPPORTED, "tensor '%.100s': name over %d bytes", name,
                     TENSOR_MAX_NAME - 1);
    strcpy(e->name, name);
    for (int i = 0; i < 3; i++) {
        if (!(v = json_object_get(value, keys[i])))
            return WRONG(r, ST_CORRUPT, "tensor '%.100s': no %s", name, keys[i]);
        if (!read[i](r, e, v))
            return false;
    }
    json_object_foreach (value, key, v)
        if (strcmp(key, keys[0]) && strcmp(key, keys[1]) && strcmp(key, keys[2]))
            return WRONG(r, ST_UNSUPPORTED, "tensor '%.100s': key '%.100s'", name, key);
    uint64_t bytes = kinds[e->kind].size;
    for (int d = 0; d < e->rank; d++)
        if (__builtin_mul_overflow(bytes, e->dim[d], &bytes))
            return WRONG(r, ST_CORRUPT, "tensor '%.100s': shape beyond 64 bits", name);
    if (e->end < e->begin || e->end - e->begin != bytes)
        return WRONG(
            r, ST_CORRUPT, "tensor '%.100s': data_offsets %llu to %llu (wanted %llu bytes)", name,
            (unsigned long long)e->begin, (unsigned long long)e->end, (unsigned long long)bytes);
    return true;
}

/* --- section 3: the header -------------------------------------------------------------------- */

/* Where the digits of the checksum stand, if they are written plainly, without escapes; else 0. */
static size_t find_checksum(const struct st_file *f, size_t end)
{
    char quoted[19];
    const char *digits = st_meta(f, "xxh3");
    if (!digits || strlen(digits) != 16)
        return 0;
    snprintf(quoted, sizeof quoted, "\"%s\"", digits);
    const unsigned char *at = memmem(f->bytes, end, quoted, sizeof quoted - 1);
    return at ? (size_t)(at + 1 - f->bytes) : 0;
}

static bool header(struct reading *r, json_t *all)
{
    const char *name;
    json_t *value;
    if (!(r->entry = calloc(json_object_size(all) + 1, sizeof *r->entry)))
        return WRONG(r, ST_IO, "out of memory");
    json_object_foreach (all, name, value)
        if (strcmp(name, "__metadata__") && !tensor(r, name, value))
            return false;
    r->f->texts = json_incref(json_object_get(all, "__metadata__"));
    return !r->f->texts || json_is_object(r->f->texts) ||
           WRONG(r, ST_CORRUPT, "header: __metadata__ is no object");
}

static bool metadata(struct reading *r)
{
    struct st_file *f = r->f;
    const char *key;
    json_t *value;
    if (!(f->meta = calloc(json_object_size(f->texts) + 1, sizeof *f->meta)))
        return WRONG(r, ST_IO, "out of memory");
    json_object_foreach (f->texts, key, value) {
        if (!json_is_string(value))
            return WRONG(r, ST_CORRUPT, "metadata '%.100s': no text", key);
        f->meta[f->metas++] = (struct st_pair){key, json_string_value(value)};
    }
    return true;
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

/* The tensors cover the data from end to end, each byte once. */
static bool check_cover(struct reading *r, uint64_t data)
{
    struct entry *e = r->entry;
    uint64_t at = 0;
    qsort(e, (size_t)r->n, sizeof *e, by_place);
    for (int i = 0; i < r->n; at = e[i++].end) {
        if (e[i].begin != at)
            return WRONG(r, ST_CORRUPT, "tensor '%.100s': data at %llu: %s (wanted %llu)",
                         e[i].name, (unsigned long long)e[i].begin,
                         e[i].begin < at ? "an overlap" : "a hole", (unsigned long long)at);
        if (e[i].end > data)
            return WRONG(r, ST_CORRUPT,
                         "tensor '%.100s': the file is cut (wanted %llu bytes of data, got %llu)",
                         e[i].name, (unsigned long long)e[r->n - 1].end, (unsigned long long)data);
    }
    return at == data || WRONG(r, ST_CORRUPT, "%llu bytes behind the last tensor",
                               (unsigned long long)(data - at));
}

static bool fill(struct reading *r, const unsigned char *data)
{
    struct st_file *f = r->f;
    if (!(f->tensor = calloc((size_t)r->n + 1, sizeof *f->tensor)))
        return WRONG(r, ST_IO, "out of memory");
    for (const struct entry *e = r->entry; e < r->entry + r->n; e++) {
        const unsigned char *p = data + e->begin;
        if (kinds[e->kind].dtype < 0) {
            f->others++;
            continue;
        }
        if (e->begin < e->end && (uintptr_t)p % kinds[e->kind].size)
            return WRONG(r, ST_UNSUPPORTED, "tensor '%.100s': data is not aligned to %zu bytes",
                         e->name, kinds[e->kind].size);
        struct tensor *t = &f->tensor[f->tensors++];
        strcpy(t->name, e->name);
        t->dtype = (enum dtype)kinds[e->kind].dtype;
        t->rank = e->rank;
        memcpy(t->dim, e->dim, sizeof t->dim);
        t->data = (void *)(uintptr_t)p;
    }
    return true;
}

/* Nothing but spaces behind the header, of which JSON would have more kinds. */
static bool only_spaces(struct reading *r, const char *header, size_t length)
{
    while (header[length - 1] == ' ')
        length--;
    return header[length - 1] == '}' ||
           WRONG(r, ST_CORRUPT, "header: byte %zu: (wanted spaces behind its end)", length - 1);
}

int st_parse(struct st_file *f, const void *bytes, size_t n, char *why, size_t size)
{
    const unsigned char *b = bytes;
    struct reading r = {.f = f, .why = why, .size = size};
    uint64_t length;
    *f = (struct st_file){.bytes = b, .size = n};

    /* section 2: the length */
    if (n < 9 || b[8] != '{')
        return json_fail(ST_FOREIGN, why, size, "not a safetensors file");
    memcpy(&length, b, 8);
    if (length > n - 8)
        return json_fail(
            ST_CORRUPT, why, size,
            "header: the file is cut, or no safetensors file (wanted %llu bytes, got %zu)",
            (unsigned long long)length, n - 8);
    if (length > ST_MAX_HEADER)
        return json_fail(ST_UNSUPPORTED, why, size, "header: %llu bytes (wanted at most %u)",
                         (unsigned long long)length, ST_MAX_HEADER);

    const char *text = (const char *)b + 8;
    json_t *all = json_read("header", text, length, true, &r.code, why, size);
    bool good = all && only_spaces(&r, text, length) && header(&r, all);
    json_decref(all); /* the tree of the tensors makes room for what is kept */
    if (good && metadata(&r) && check_cover(&r, n - 8 - length) && fill(&r, b + 8 + length))
        f->checksum = find_checksum(f, 8 + length);
    free(r.entry);
    if (r.code)
        st_close(f);
    return r.code;
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
    json_decref(f->texts);
    *f = (struct st_file){0};
}

bool st_changed(const struct st_file *f)
{
    struct stat st;
    return f->mapped &&
           (fstat(f->fd, &st) || (size_t)st.st_size != f->size ||
            st.st_mtim.tv_sec != f->written.tv_sec || st.st_mtim.tv_nsec != f->written.tv_nsec);
}

/* A piece at a time, so that a large file need not be whole in memory. */
static void digest(const struct st_file *f, XXH3_state_t *x, size_t from, size_t to)
{
    while (from < to) {
        const size_t n = to - from < ST_PIECE ? to - from : ST_PIECE;
        XXH3_64bits_update(x, f->bytes + from, n);
        st_forget(f);
        from += n;
    }
}

int st_digest(const struct st_file *f, char digits[17])
{
    static const char zeros[] = "0000000000000000";
    const size_t gap = f->checksum ? f->checksum : f->size, after = f->checksum ? gap + 16 : gap;
    XXH3_state_t *x = XXH3_createState();
    if (!x)
        return ST_IO;
    XXH3_64bits_reset(x);
    digest(f, x, 0, gap);
    XXH3_64bits_update(x, zeros, after - gap);
    digest(f, x, after, f->size);
    snprintf(digits, 17, "%016llx", (unsigned long long)XXH3_64bits_digest(x));
    XXH3_freeState(x);
    return ST_OK;
}

int st_check(const struct st_file *f, char *why, size_t size)
{
    char digits[17];
    if (!f->checksum)
        return 0;
    if (st_digest(f, digits)) {
        snprintf(why, size, "out of memory");
        return ST_IO;
    }
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

const char *st_meta(const struct st_file *f, const char *key)
{
    for (int i = 0; i < f->metas; i++)
        if (!strcmp(f->meta[i].key, key))
            return f->meta[i].value;
    return NULL;
}
