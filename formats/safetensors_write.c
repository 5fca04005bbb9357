/* The writer: section 6 of formats/safetensors.md. */
#include "formats/atomic.h"
#include "formats/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const char *const names[DT_COUNT] = {
    [DT_U8] = "U8",     [DT_I16] = "I16", [DT_I32] = "I32", [DT_F16] = "F16",
    [DT_BF16] = "BF16", [DT_F32] = "F32", [DT_F64] = "F64",
};

static const char digits[] = "0000000000000000"; /* the checksum while it is being computed */

static void put_string(FILE *f, const char *s)
{
    putc('"', f);
    for (; *s; s++)
        if (*s == '"' || *s == '\\')
            fprintf(f, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            fprintf(f, "\\u%04x", *s);
        else
            putc(*s, f);
    putc('"', f);
}

/* The header's text without its length, padded so that the data starts on a multiple of ST_ALIGN;
 * `checksum` is where its digits stand. */
static void put_header(FILE *f, const struct st_pair *meta, int metas,
                       const struct tensor *const *tensor, int tensors, long *checksum)
{
    size_t at = 0;
    fprintf(f, "{\"__metadata__\":{\"xxh3\":\"");
    *checksum = ftell(f);
    fprintf(f, "%s\"", digits);
    for (int i = 0; i < metas; i++) {
        if (!strcmp(meta[i].key, "xxh3"))
            continue;
        putc(',', f);
        put_string(f, meta[i].key);
        putc(':', f);
        put_string(f, meta[i].value);
    }
    putc('}', f);
    for (int i = 0; i < tensors; i++) {
        const struct tensor *t = tensor[i];
        putc(',', f);
        put_string(f, t->name);
        fprintf(f, ":{\"dtype\":\"%s\",\"shape\":[", names[t->dtype]);
        for (int d = 0; d < t->rank; d++)
            fprintf(f, "%s%u", d ? "," : "", t->dim[d]);
        fprintf(f, "],\"data_offsets\":[%zu,%zu]}", at, at + tensor_bytes(t));
        at += tensor_bytes(t);
    }
    putc('}', f);
    while ((8 + ftell(f)) % ST_ALIGN)
        putc(' ', f);
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

static bool put_file(struct afile *f, char *header, size_t n, long checksum,
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
static int judge(const struct afile *a, char *why, size_t size)
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
    char *header = NULL;
    size_t n = 0;
    long checksum = 0;
    int r = ST_IO;
    for (int i = 0; order && i < tensors; i++)
        order[i] = &tensor[i];
    if (order)
        qsort(order, (size_t)tensors, sizeof *order, by_rank);
    FILE *text = order ? open_memstream(&header, &n) : NULL;
    if (text)
        put_header(text, meta, metas, order, tensors, &checksum);
    if (!text || fclose(text) == EOF)
        snprintf(why, size, "%s: out of memory", path);
    else if (afile_open(&f, path, why, size) == 0 &&
             put_file(&f, header, n, checksum, order, tensors, why, size) &&
             (r = judge(&f, why, size)) == ST_OK)
        r = afile_commit(&f, why, size) < 0 ? ST_IO : ST_OK;
    afile_abort(&f);
    free(header);
    free(order);
    return r;
}
