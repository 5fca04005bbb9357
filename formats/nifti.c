/* nifti.c - one thing: bytes of a NIfTI file to slices. Header first, then rows, then the two
 * passes. */
#include "formats/nifti.h"
#include "formats/nifti_impl.h"

#include <errno.h>
#include <math.h>
#include <nifti1_io.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "formats/inflate.h"
#include "formats/plain.h"

struct nii_file {
    char *path;
    struct nii_header head;
    struct inflate *in; /* stands at the voxels */
    uint8_t *bytes;     /* header and extensions */
    size_t nbytes;
};

struct nii_reader {
    char *path;
    struct nii_header head;
    struct inflate *at, *start; /* start: of the channel, kept only if it takes several passes */
    uint32_t next;              /* plane that `at` stands at */
    uint8_t *plane;
    void *row;
    uint8_t *group; /* slices group_first ... gathered in one pass */
    uint32_t group_first, group_n;
};

/* --- opening ---------------------------------------------------------------------------------- */

/* In capitals or not. */
static bool ends(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcasecmp(s + n - m, end);
}

static bool is_half(const char *path, const char *ext)
{
    return ends(path, ext) ||
           (ends(path, ".gz") && strlen(path) > 7 && !strncasecmp(path + strlen(path) - 7, ext, 4));
}

/* The other half of a .hdr/.img pair, with the same or the other compression, in capitals or not;
 * to be freed. */
static char *sibling(const char *path, const char *ext)
{
    size_t n = strlen(path) - (ends(path, ".gz") ? 3 : 0);
    bool gz = path[n] != 0, capitals = path[n - 1] >= 'A' && path[n - 1] <= 'Z';
    char *p = malloc(n + 4);

    if (!p)
        return NULL;
    for (int i = 0; i < 5; i++) { /* if there is none, the message names the likeliest */
        sprintf(p, "%.*s%s", (int)n, path, gz == !(i & 1) ? gz ? path + n : ".gz" : "");
        for (int k = 1; k < 4; k++)
            p[n - 4 + (size_t)k] = (char)(capitals == !(i & 2) ? ext[k] - 'a' + 'A' : ext[k]);
        if (!access(p, F_OK))
            break;
    }
    return p;
}

char *nii_other_half(const char *path)
{
    return is_half(path, ".hdr")   ? sibling(path, ".img")
           : is_half(path, ".img") ? sibling(path, ".hdr")
                                   : NULL;
}

void nii_each_half(const char *path, void (*each)(const char *path))
{
    char *other = *path ? nii_other_half(path) : NULL;
    if (*path)
        each(path);
    if (other)
        each(other);
    free(other);
}

static struct inflate *open_part(const char *path, char *why)
{
    struct inflate *in = inf_open(path);

    if (!in) {
        nii_fail(why, path, "%s", plain_error(errno));
    } else if (ends(path, ".gz") && !inf_is_gzip(in)) {
        nii_fail(why, path, "not a gzip file, whatever its name says");
        inf_close(in);
        in = NULL;
    }
    return in;
}

static int read_header(struct nii_file *f, char *why)
{
    ssize_t r;
    size_t more;

    if (!(f->bytes = malloc(NII_KEEP)))
        return nii_fail(why, f->path, "out of memory");
    if ((r = inf_read(f->in, f->bytes, NII_HEADER)) < 0)
        return nii_fail(why, f->path, "%s", inf_why(f->in));
    if ((size_t)r < NII_HEADER)
        return nii_fail(why, f->path, "not a NIfTI file (wanted 348 bytes of header, got %zd)", r);
    if (nii_parse(f->bytes, f->path, &f->head, why))
        return -1;
    f->nbytes = NII_HEADER;
    if (f->head.pair) {
        if ((r = inf_read(f->in, f->bytes + NII_HEADER, NII_KEEP - NII_HEADER)) > 0 &&
            (size_t)r < NII_KEEP - NII_HEADER)
            f->nbytes += (size_t)r;
    } else if (f->head.offset <= NII_KEEP) {
        more = (size_t)f->head.offset - NII_HEADER;
        if ((r = inf_read(f->in, f->bytes + NII_HEADER, more)) == (ssize_t)more)
            f->nbytes += more;
    } else {
        r = inf_skip(f->in, f->head.offset - NII_HEADER);
    }
    if (r < 0)
        return nii_fail(why, f->path, "%s", inf_why(f->in));
    f->bytes = realloc(f->bytes, f->nbytes) ?: f->bytes;
    return 0;
}

/* A cut plain file, or a gzip file too small to hold its dimensions, is told before memory is
 * asked. */
static int check_size(const struct nii_file *f, char *why)
{
    const struct nii_header *h = &f->head;
    uint64_t want = (uint64_t)h->dim[0] * h->dim[1] * h->dim[2] * h->channels * h->size + h->offset;
    uint64_t have = inf_file_size(f->in);

    if (!inf_is_gzip(f->in) && have < want)
        return nii_fail(why, f->path, "cut: the file is too short (wanted %llu bytes, got %llu)",
                        (unsigned long long)want, (unsigned long long)have);
    if (inf_is_gzip(f->in) && have < want / 1040) /* deflate shrinks at most 1032 times */
        return nii_fail(why, f->path, "cut: too short to hold %ux%ux%ux%u voxels", h->dim[0],
                        h->dim[1], h->dim[2], h->channels);
    return 0;
}

struct nii_file *nii_open(const char *path, char *why)
{
    struct nii_file *f = calloc(1, sizeof *f);
    char *other = NULL;

    if (!f || !(f->path = is_half(path, ".img") ? sibling(path, ".hdr") : strdup(path))) {
        nii_fail(why, path, "out of memory");
        goto bad;
    }
    if (!(f->in = open_part(f->path, why)) || read_header(f, why))
        goto bad;
    if (f->head.pair) {
        if (!is_half(f->path, ".hdr")) {
            nii_fail(why, path, "header of a .hdr/.img pair (wanted a name that ends in .hdr)");
            goto bad;
        }
        inf_close(f->in);
        f->in = NULL;
        if (!(other = sibling(f->path, ".img")) || !(f->in = open_part(other, why)))
            goto bad;
        if (inf_skip(f->in, f->head.offset) < 0) {
            nii_fail(why, other, "%s", inf_why(f->in));
            goto bad;
        }
        free(f->path);
        f->path = other;
        other = NULL;
    }
    if (check_size(f, why))
        goto bad;
    return f;
bad:
    free(other);
    nii_close(f);
    return NULL;
}

void nii_close(struct nii_file *f)
{
    if (!f)
        return;
    inf_close(f->in);
    free(f->bytes);
    free(f->path);
    free(f);
}

const struct nii_header *nii_head(const struct nii_file *f)
{
    return &f->head;
}

const void *nii_bytes(const struct nii_file *f, size_t *n)
{
    *n = f->nbytes;
    return f->bytes;
}

/* --- rows ------------------------------------------------------------------------------------- */

static bool scaled(const struct nii_header *h)
{
    return h->slope != 1 || h->inter != 0;
}

/* Whether values are whole and within int16 by their type alone. */
static bool fits_i16(const struct nii_header *h)
{
    return !scaled(h) &&
           (h->datatype == DT_INT16 || h->datatype == DT_UINT8 || h->datatype == DT_INT8);
}

static void swap_row(void *row, size_t n, size_t size)
{
    if (size == 2)
        for (uint16_t *p = row; n--; p++)
            *p = __builtin_bswap16(*p);
    else if (size == 4)
        for (uint32_t *p = row; n--; p++)
            *p = __builtin_bswap32(*p);
    else if (size == 8)
        for (uint64_t *p = row; n--; p++)
            *p = __builtin_bswap64(*p);
}

#define EACH_TYPE(X)                                                                               \
    X(DT_UINT8, uint8_t)                                                                           \
    X(DT_INT8, int8_t)                                                                             \
    X(DT_INT16, int16_t)                                                                           \
    X(DT_UINT16, uint16_t)                                                                         \
    X(DT_INT32, int32_t)                                                                           \
    X(DT_UINT32, uint32_t)                                                                         \
    X(DT_INT64, int64_t)                                                                           \
    X(DT_UINT64, uint64_t)                                                                         \
    X(DT_FLOAT32, float)                                                                           \
    X(DT_FLOAT64, double)

/* n voxels of the file, in this machine's byte order, to a wider or equal type. */
static void convert(const struct nii_header *h, const void *in, size_t n, enum dtype to, void *out)
{
#define TO_F32(code, type)                                                                         \
    case code:                                                                                     \
        if (scaled(h))                                                                             \
            for (size_t i = 0; i < n; i++)                                                         \
                ((float *)out)[i] = (float)((double)((const type *)in)[i] * h->slope + h->inter);  \
        else                                                                                       \
            for (size_t i = 0; i < n; i++)                                                         \
                ((float *)out)[i] = (float)((const type *)in)[i];                                  \
        break;
#define TO_I16(code, type)                                                                         \
    case code:                                                                                     \
        for (size_t i = 0; i < n; i++)                                                             \
            ((int16_t *)out)[i] = (int16_t)((const type *)in)[i];                                  \
        break;
#define TO_U8(code, type)                                                                          \
    case code:                                                                                     \
        for (size_t i = 0; i < n; i++)                                                             \
            ((uint8_t *)out)[i] = (uint8_t)((const type *)in)[i];                                  \
        break;
    if (to == DT_F32)
        switch (h->datatype) {
            EACH_TYPE(TO_F32)
        }
    else if (to == DT_I16)
        switch (h->datatype) {
            EACH_TYPE(TO_I16)
        }
    else if (!scaled(h))
        switch (h->datatype) {
            EACH_TYPE(TO_U8)
        }
    else /* a label that is scaled: nii_scan has seen that it comes out whole */
        switch (h->datatype) {
#define TO_U8_SCALED(code, type)                                                                   \
    case code:                                                                                     \
        for (size_t i = 0; i < n; i++)                                                             \
            ((uint8_t *)out)[i] =                                                                  \
                (uint8_t)(float)((double)((const type *)in)[i] * h->slope + h->inter);             \
        break;
            EACH_TYPE(TO_U8_SCALED)
        }
}

/* A row as this machine and the caller want it: the row itself where nothing has to change. */
static const void *row_as(const struct nii_header *h, uint8_t *row, size_t n, enum dtype to,
                          void *room)
{
    if (h->swapped)
        swap_row(row, n, h->size);
    if (!scaled(h) &&
        ((to == DT_I16 && h->datatype == DT_INT16) || (to == DT_F32 && h->datatype == DT_FLOAT32) ||
         (to == DT_U8 && h->datatype == DT_UINT8)))
        return row;
    convert(h, row, n, to, room);
    return room;
}

/* --- first pass ------------------------------------------------------------------------------- */

/* What a channel has shown so far. Sums are exact, so that they do not depend on the order in which
 * a file stores its voxels: whole numbers in integers, float32 in one integer for each exponent. */
struct tally {
    uint64_t n; /* non-zero voxels */
    __int128 sum;
    unsigned __int128 square;
    int64_t sum_at[256];
    unsigned __int128 square_at[256];
    uint64_t print;
    float lo, hi;
    uint32_t box[3][2];   /* by file axis */
    uint32_t first, last; /* non-zero columns of the last row, one past the last */
};

/* What one value adds to the fingerprint of formats/tns.md, section 8: a sum knows no order. */
static uint64_t print_of(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    uint64_t x = bits * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

/* Both give the row's first and one past the last non-zero element. */
static void tally_i16(struct tally *t, const int16_t *v, uint32_t n)
{
    int64_t sum = 0;
    uint64_t square = 0, count = 0, print = 0;
    uint32_t i = 0, first = n, last = 0;

    while (i < n) {
        uint64_t four[4];
        uint32_t end = i + 16 < n ? i + 16 : n;
        if (i + 16 <= n) { /* air is most of a head scan */
            memcpy(four, v + i, 32);
            if (!(four[0] | four[1] | four[2] | four[3])) {
                i = end;
                continue;
            }
        }
        for (; i < end; i++)
            if (v[i]) {
                sum += v[i];
                square += (uint64_t)((int32_t)v[i] * v[i]);
                print += print_of(v[i]);
                count++;
                if (first == n)
                    first = i;
                last = i + 1;
            }
    }
    t->n += count;
    t->sum += sum;
    t->square += square;
    t->print += print;
    t->first = first;
    t->last = last;
}

/* -1 if a value is not finite (its column in t->first). */
static int tally_f32(struct tally *t, const float *v, uint32_t n)
{
    t->first = n;
    t->last = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t u, e, m;
        memcpy(&u, v + i, 4);
        e = u >> 23 & 0xff;
        m = (u & 0x7fffff) | (e ? 0x800000 : 0);
        if (e == 255) {
            t->first = i;
            return -1;
        }
        if (!m)
            continue;
        t->n++;
        t->sum_at[e] += u >> 31 ? -(int64_t)m : (int64_t)m;
        t->square_at[e] += (uint64_t)m * m;
        t->print += print_of(v[i]);
        t->lo = v[i] < t->lo ? v[i] : t->lo;
        t->hi = v[i] > t->hi ? v[i] : t->hi;
        if (t->first == n)
            t->first = i;
        t->last = i + 1;
    }
    return 0;
}

static void float_moments(const struct tally *t, double *mean, double *std)
{
    long double sum = 0, square = 0, n = (long double)t->n, m2;

    for (int e = 0; e < 255; e++) {
        sum += ldexpl((long double)t->sum_at[e], (e ? e : 1) - 150);
        square += ldexpl((long double)t->square_at[e], 2 * ((e ? e : 1) - 150));
    }
    m2 = square - sum * sum / n;
    *mean = (double)(sum / n);
    *std = t->lo < t->hi && m2 > 0 ? (double)sqrtl(m2 / n) : 0;
}

static void conclude(const struct nii_header *h, const struct tally *c, struct nii_channel *out)
{
    double n = (double)c->n;

    memset(out, 0, sizeof *out);
    out->whole =
        fits_i16(h) || (!scaled(h) && h->datatype != DT_FLOAT32 && h->datatype != DT_FLOAT64 &&
                        c->lo >= INT16_MIN && c->hi <= INT16_MAX);
    out->count = c->n;
    if (!c->n)
        return;
    if (fits_i16(h)) {
        unsigned __int128 spread =
            c->square * c->n - (unsigned __int128)c->sum * (unsigned __int128)c->sum;
        out->mean = (double)c->sum / n;
        out->std = sqrt((double)spread) / n;
    } else {
        float_moments(c, &out->mean, &out->std);
    }
    out->print = out->std > 0 ? c->print : 0;
    for (int k = 0; k < 3; k++) {
        const uint32_t *b = c->box[h->axis[k]];
        out->box[k][0] = h->flip[k] ? h->grid[k] - b[1] : b[0];
        out->box[k][1] = h->flip[k] ? h->grid[k] - b[0] : b[1];
    }
}

static uint32_t slice_of(const struct nii_header *h, const uint32_t at[3])
{
    uint32_t z = at[h->axis[2]];
    return h->flip[2] ? h->grid[2] - 1 - z : z;
}

static int bad_voxel(const struct nii_file *f, float v, uint32_t i, uint32_t j, uint32_t k,
                     char *why)
{
    uint32_t at[3] = {i, j, k};

    if (isfinite(v))
        return nii_fail(why, f->path,
                        "slice %u: label value %.9g (wanted whole numbers from 0 to 255)",
                        slice_of(&f->head, at), nii_tidy(v));
    return nii_fail(why, f->path, "slice %u: voxel %u,%u,%u is %s", slice_of(&f->head, at), i, j, k,
                    isnan(v)                                              ? "not a number (NaN)"
                    : f->head.datatype == DT_FLOAT32 && !scaled(&f->head) ? "infinite"
                                                                          : "beyond float32");
}

static void grow(uint32_t box[2], uint32_t first, uint32_t last)
{
    box[0] = first < box[0] ? first : box[0];
    box[1] = last > box[1] ? last : box[1];
}

static void mark_used(const struct nii_header *h, const void *row, enum dtype type,
                      const struct tally *t, uint32_t j, uint32_t k, uint8_t *used)
{
    uint32_t at[3] = {t->first, j, k};

    if (h->axis[2] != 0) {
        used[slice_of(h, at)] = 1;
        return;
    }
    for (; at[0] < t->last; at[0]++)
        if (type == DT_I16 ? ((const int16_t *)row)[at[0]] != 0 : ((const float *)row)[at[0]] != 0)
            used[slice_of(h, at)] = 1;
}

static int scan_plane(struct nii_file *f, bool label, uint8_t *plane, void *room, uint32_t k,
                      struct tally *t, uint8_t *used, char *why)
{
    const struct nii_header *h = &f->head;
    enum dtype type = fits_i16(h) ? DT_I16 : DT_F32;
    size_t row = (size_t)h->dim[0] * h->size;

    if (!scaled(h) && !plane[0] && !memcmp(plane, plane + 1, row * h->dim[1] - 1))
        return 0;
    for (uint32_t j = 0; j < h->dim[1]; j++) {
        const void *v = row_as(h, plane + j * row, h->dim[0], type, room);
        if (type == DT_I16)
            tally_i16(t, v, h->dim[0]);
        else if (tally_f32(t, v, h->dim[0]))
            return bad_voxel(f, ((const float *)v)[t->first], t->first, j, k, why);
        if (t->first >= t->last)
            continue;
        for (uint32_t i = t->first; label && i < t->last; i++) {
            float x = type == DT_I16 ? ((const int16_t *)v)[i] : ((const float *)v)[i];
            if (x < 0 || x > 255 || x != floorf(x))
                return bad_voxel(f, x, i, j, k, why);
        }
        grow(t->box[0], t->first, t->last);
        grow(t->box[1], j, j + 1);
        grow(t->box[2], k, k + 1);
        if (used)
            mark_used(h, v, type, t, j, k, used);
    }
    return 0;
}

/* Slices that lie in the file as they are wanted: one after the other, going up. */
static bool in_order(const struct nii_header *h)
{
    return h->axis[2] == 2 && !h->flip[2];
}

static struct nii_reader *leave_reader(const struct nii_file *f, uint32_t plane, char *why)
{
    struct nii_reader *r = calloc(1, sizeof *r);

    if (r && (r->path = strdup(f->path)) && (r->at = inf_fork(f->in))) {
        r->head = f->head;
        r->next = plane;
        if (!in_order(&r->head)) {
            r->start = r->at;
            r->at = NULL;
        }
        return r;
    }
    nii_reader_free(r);
    nii_fail(why, f->path, "out of memory or file descriptors");
    return NULL;
}

int nii_scan(struct nii_file *f, bool label, struct nii_channel *channel, uint8_t *used,
             uint32_t first_slice, struct nii_reader **reader, char *why)
{
    const struct nii_header *h = &f->head;
    size_t plane_size = (size_t)h->dim[0] * h->dim[1] * h->size;
    uint8_t *plane = malloc(plane_size);
    void *room = malloc((size_t)h->dim[0] * sizeof(float));
    int e = -1;

    for (uint32_t c = 0; c < h->channels; c++)
        reader[c] = NULL;
    if (used)
        memset(used, 0, h->grid[2]);
    if (!plane || !room) {
        nii_fail(why, f->path, "out of memory");
        goto done;
    }
    for (uint32_t c = 0; c < h->channels; c++) {
        struct tally t = {.lo = INFINITY, .hi = -INFINITY};
        for (int a = 0; a < 3; a++)
            t.box[a][0] = h->dim[a];
        for (uint32_t k = 0; k < h->dim[2]; k++) {
            ssize_t r;
            if (k == (in_order(h) ? first_slice : 0) && !(reader[c] = leave_reader(f, k, why)))
                goto done;
            if ((r = inf_read(f->in, plane, plane_size)) < 0) {
                nii_fail(why, f->path, "%s", inf_why(f->in));
                goto done;
            }
            if ((size_t)r < plane_size) {
                nii_fail(why, f->path, "cut: the voxels end in plane %u of %u", k, h->dim[2]);
                goto done;
            }
            if (scan_plane(f, label, plane, room, k, &t, used, why))
                goto done;
        }
        conclude(h, &t, &channel[c]);
    }
    if (inf_drain(f->in))
        nii_fail(why, f->path, "%s", inf_why(f->in));
    else
        e = 0;
done:
    free(plane);
    free(room);
    for (uint32_t c = 0; e && c < h->channels; c++) {
        nii_reader_free(reader[c]);
        reader[c] = NULL;
    }
    return e;
}

/* --- second pass ------------------------------------------------------------------------------ */

/* Puts the part of plane k that lies in slices first .. first+n-1 where it belongs. */
static void place(struct nii_reader *r, uint32_t k, enum dtype type, uint32_t first, uint32_t n,
                  uint8_t *out)
{
    const struct nii_header *h = &r->head;
    int64_t base, step[3], slice = (int64_t)h->grid[0] * h->grid[1];
    size_t row = (size_t)h->dim[0] * h->size, e = dtype_size(type);
    uint32_t i0 = 0, i1 = h->dim[0];

    nii_layout(h, &base, step);
    base += k * step[2] - first * slice;
    if (h->axis[2] == 0) {
        i0 = h->flip[2] ? h->grid[2] - first - n : first;
        i1 = i0 + n;
    }
    for (uint32_t j = 0; j < h->dim[1]; j++) {
        int64_t at = base + j * step[1] + i0 * step[0];
        const uint8_t *v;
        if (at < 0 || at >= n * slice)
            continue;
        v = row_as(h, r->plane + j * row, h->dim[0], type, r->row);
        if (step[0] == 1)
            memcpy(out + (size_t)at * e, v + i0 * e, (i1 - i0) * e);
        else if (e == 1)
            for (uint32_t i = i0; i < i1; i++, at += step[0])
                out[at] = v[i];
        else if (e == 2)
            for (uint32_t i = i0; i < i1; i++, at += step[0])
                ((uint16_t *)out)[at] = ((const uint16_t *)v)[i];
        else
            for (uint32_t i = i0; i < i1; i++, at += step[0])
                ((uint32_t *)out)[at] = ((const uint32_t *)v)[i];
    }
}

static int read_plane(struct nii_reader *r, uint32_t k, void *out, char *why)
{
    size_t n = (size_t)r->head.dim[0] * r->head.dim[1] * r->head.size;
    uint64_t pass = (uint64_t)(k - r->next) * n;

    if (inf_skip(r->at, pass) != (ssize_t)pass || inf_read(r->at, out, n) != (ssize_t)n)
        return nii_fail(why, r->path, "changed while it was being read");
    r->next = k + 1;
    return 0;
}

/* One of several passes: slices z .. z+n-1. */
static int gather(struct nii_reader *r, uint32_t z, uint32_t n, enum dtype type, uint8_t *out,
                  char *why)
{
    const struct nii_header *h = &r->head;
    uint32_t k0 = 0, k1 = h->dim[2];

    if (h->axis[2] == 2) {
        k0 = h->grid[2] - z - n;
        k1 = h->grid[2] - z;
    }
    inf_close(r->at);
    if (!(r->at = inf_fork(r->start)))
        return nii_fail(why, r->path, "out of memory or file descriptors");
    r->next = 0;
    for (uint32_t k = k0; k < k1; k++) {
        if (read_plane(r, k, r->plane, why))
            return -1;
        place(r, k, type, z, n, out);
    }
    return 0;
}

int nii_slice(struct nii_reader *r, uint32_t z, enum dtype type, void *out, char *why)
{
    const struct nii_header *h = &r->head;
    size_t bytes = (size_t)h->grid[0] * h->grid[1] * dtype_size(type);
    size_t n = bytes < NII_GROUP ? NII_GROUP / bytes : 1;
    bool as_is = dtype_size(type) == h->size && !h->swapped && !scaled(h) && h->axis[0] == 0 &&
                 !h->flip[0] && !h->flip[1] && in_order(h) &&
                 (type != DT_F32 || h->datatype == DT_FLOAT32);

    if (z >= h->grid[2] || (in_order(h) && z < r->next))
        return nii_fail(why, r->path, "slice %u is out of turn", z);
    if (as_is)
        return read_plane(r, z, out, why);
    if (!r->plane && (!(r->plane = malloc((size_t)h->dim[0] * h->dim[1] * h->size)) ||
                      !(r->row = malloc((size_t)h->dim[0] * sizeof(float)))))
        return nii_fail(why, r->path, "out of memory");
    if (in_order(h)) {
        if (read_plane(r, z, r->plane, why))
            return -1;
        place(r, z, type, z, 1, out);
        return 0;
    }
    if (n == 1)
        return gather(r, z, 1, type, out, why);
    if (!r->group && !(r->group = malloc(n * bytes)))
        return nii_fail(why, r->path, "out of memory");
    if (z < r->group_first || z - r->group_first >= r->group_n) {
        r->group_first = z;
        r->group_n = n < h->grid[2] - z ? n : h->grid[2] - z;
        if (gather(r, z, r->group_n, type, r->group, why))
            return -1;
    }
    memcpy(out, r->group + (z - r->group_first) * bytes, bytes);
    return 0;
}

int nii_plane(struct nii_reader *r, uint32_t k, enum dtype type, void *out, char *why)
{
    size_t n = (size_t)r->head.dim[0] * r->head.dim[1];
    const void *v;

    if ((!r->plane && !(r->plane = malloc(n * r->head.size))) ||
        (!r->at && !(r->at = inf_fork(r->start))))
        return nii_fail(why, r->path, "out of memory or file descriptors");
    if (read_plane(r, k, r->plane, why))
        return -1;
    if ((v = row_as(&r->head, r->plane, n, type, out)) != out)
        memcpy(out, v, n * dtype_size(type));
    return 0;
}

int nii_unchanged(const struct nii_reader *r, char *why)
{
    if (inf_changed(r->at ? r->at : r->start))
        return nii_fail(why, r->path, "changed while it was being read");
    return 0;
}

void nii_reader_free(struct nii_reader *r)
{
    if (!r)
        return;
    inf_close(r->at);
    inf_close(r->start);
    free(r->plane);
    free(r->row);
    free(r->group);
    free(r->path);
    free(r);
}
