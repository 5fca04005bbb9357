/* The writer: section 6 of formats/safetensors.md. */
#include "formats/atomic.h"
#include "formats/safetensors.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const char *const names[DT_COUNT] = {
    [DT_U8] = "U8",     [DT_I16] = "I16", [DT_I32] = "I32", [DT_F16] = "F16",
    [DT_BF16] = "BF16", [DT_F32] = "F32", [DT_F64] = "F64",
};

static const char digits[] = "0000000000000000"; /* the checksum while it is being computed */

/* Text that grows; bad once memory was short. (A stream of open_memstream may lose what did not fit
 * and go on without a word.) */
struct text {
    char *bytes;
    size_t n, room;
    bool bad;
};

static void put(struct text *t, const char *bytes, size_t n)
{
    if (t->n + n > t->room) {
        size_t room = 2 * (t->n + n) + 4096;
        char *more = realloc(t->bytes, room);
        if (!more) {
            t->bad = true;
            return;
        }
        t->bytes = more;
        t->room = room;
    }
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
}

__attribute__((format(printf, 2, 3))) static void putf(struct text *t, const char *fmt, ...)
{
    char piece[128]; /* numbers and words of ours, no text from outside */
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(piece, sizeof piece, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof piece)
        t->bad = true;
    else
        put(t, piece, (size_t)n);
}

static void put_string(struct text *t, const char *s)
{
    put(t, "\"", 1);
    for (; *s; s++)
        if (*s == '"' || *s == '\\')
            putf(t, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            putf(t, "\\u%04x", *s);
        else
            put(t, s, 1);
    put(t, "\"", 1);
}

/* The header's text without its length, padded so that the data starts on a multiple of ST_ALIGN;
 * `checksum` is where its digits stand. */
static void put_header(struct text *t, const struct st_pair *meta, int metas,
                       const struct tensor *const *tensor, int tensors, size_t *checksum)
{
    size_t at = 0;
    putf(t, "{\"__metadata__\":{\"xxh3\":\"");
    *checksum = t->n;
    putf(t, "%s\"", digits);
    for (int i = 0; i < metas; i++) {
        if (!strcmp(meta[i].key, "xxh3"))
            continue;
        put(t, ",", 1);
        put_string(t, meta[i].key);
        put(t, ":", 1);
        put_string(t, meta[i].value);
    }
    put(t, "}", 1);
    for (int i = 0; i < tensors; i++) {
        const struct tensor *x = tensor[i];
        put(t, ",", 1);
        put_string(t, x->name);
        putf(t, ":{\"dtype\":\"%s\",\"shape\":[", names[x->dtype]);
        for (int d = 0; d < x->rank; d++)
            putf(t, "%s%u", d ? "," : "", x->dim[d]);
        putf(t, "],\"data_offsets\":[%zu,%zu]}", at, at + tensor_bytes(x));
        at += tensor_bytes(x);
    }
    put(t, "}", 1);
    while ((8 + t->n) % ST_ALIGN && !t->bad)
        put(t, " ", 1);
}

/* Which tensor stands first: see the header. Addresses give the order of the caller's array. */
static int by_rank(const void *a, const void *b)
{
    const struct tensor *x = *(const struct tensor *const *)a;
    const struct tensor *y = *(const struct tensor *const *)b;
    int loose = (tensor_bytes(x) % ST_ALIGN != 0) - (tensor_bytes(y) % ST_ALIGN != 0);
    int narrow = (int)dtype_size(y->dtype) - (int)dtype_size(x->dtype);
    return loose ? loose : narrow ? narrow : x < y ? -1 : x > y;
}

static bool put_file(struct afile *f, char *header, size_t n, size_t checksum,
                     const struct tensor *const *tensor, int tensors, char *why, size_t size)
{
    char sum[17];
    uint64_t length = n;
    XXH3_state_t *x = XXH3_createState();
    if (!x) {
        snprintf(why, size, "out of memory");
        return false;
    }
    XXH3_64bits_reset(x);
    XXH3_64bits_update(x, &length, 8);
    XXH3_64bits_update(x, header, n);
    for (int i = 0; i < tensors; i++)
        XXH3_64bits_update(x, tensor[i]->data, tensor_bytes(tensor[i]));
    snprintf(sum, sizeof sum, "%016llx", (unsigned long long)XXH3_64bits_digest(x));
    XXH3_freeState(x);
    memcpy(header + checksum, sum, 16);

    if (afile_write(f, &length, 8, why, size) < 0 || afile_write(f, header, n, why, size) < 0)
        return false;
    for (int i = 0; i < tensors; i++)
        if (afile_write(f, tensor[i]->data, tensor_bytes(tensor[i]), why, size) < 0)
            return false;
    return true;
}

/* The reader is the judge of what the writer may write: one list of rules, not two. */
static int check(const struct afile *a, char *why, size_t size)
{
    struct st_file f;
    char text[512];
    size_t place = strlen(a->temp) + 2;
    int r = st_open(&f, a->temp, text, sizeof text);
    if (r == ST_OK)
        st_close(&f);
    else
        snprintf(why, size, "%s: cannot be written: %s", a->path,
                 strlen(text) > place ? text + place : text);
    return r;
}

int st_write(const char *path, const struct st_pair *meta, int metas, const struct tensor *tensor,
             int tensors, char *why, size_t size)
{
    const struct tensor **order = malloc(((size_t)tensors + 1) * sizeof *order);
    struct afile f = {.fd = -1};
    struct text header = {0};
    size_t checksum = 0;
    int r = ST_IO;
    for (int i = 0; order && i < tensors; i++)
        order[i] = &tensor[i];
    if (order) {
        qsort(order, (size_t)tensors, sizeof *order, by_rank);
        put_header(&header, meta, metas, order, tensors, &checksum);
    }
    bool put = order && !header.bad && afile_open(&f, path, why, size) == 0 &&
               put_file(&f, header.bytes, header.n, checksum, order, tensors, why, size);
    if (!order || header.bad)
        snprintf(why, size, "%s: out of memory", path);
    free(header.bytes); /* the check takes as much */
    if (put && (r = check(&f, why, size)) == ST_OK)
        r = afile_commit(&f, why, size) < 0 ? ST_IO : ST_OK;
    afile_abort(&f);
    free(order);
    return r;
}
