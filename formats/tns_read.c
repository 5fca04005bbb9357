/* The reading half of the codec, in the order of formats/tns.md: one thing, as a record's sections
 * are read in one go. */
#include "formats/tns.h"
#include "formats/tns_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

/* A claim of the input is believed in steps of this many bytes, each asked for once the one before
 * has arrived, so that a damaged length costs no more memory than the input has bytes. */
#define STEP ((size_t)16 << 20)

/* What goes by does so in pieces of this many. */
#define PIECE ((size_t)64 << 10)

struct tns_reader {
    int fd;
    struct tns_files *files; /* or NULL */
    uint32_t file;           /* of them */
    bool seekable, in_segment, ended, random;
    bool within;  /* a record: it is counted already */
    bool owed;    /* another segment has to follow */
    int segment;  /* of all files */
    bool begun;   /* this file: its first header is read */
    uint64_t pos; /* bytes consumed, or the place of the next pread */
    uint64_t count, ordinal, digest;
    uint64_t before; /* count where the file began */
    struct tns_meta header;
    unsigned char *front, *piece;
    size_t front_room;
    struct tns_unpacker unpacker;
    const unsigned char *descriptors; /* of the record, in the front */
    uint32_t coming, tensors;         /* of its payloads: the next, how many in all */
    XXH3_state_t *sum;
    char why[512];
};

struct fixed {
    char kind;
    uint32_t meta_len, ntensors, front_check;
    uint64_t rest, count;
};

static struct tns_reader *new_reader(int fd)
{
    struct tns_reader *r = calloc(1, sizeof *r);
    if (!r || !(r->piece = malloc(PIECE)) || !(r->sum = XXH3_createState())) {
        tns_reader_free(r);
        return NULL;
    }
    r->fd = fd;
    return r;
}

struct tns_reader *tns_reader_files(struct tns_files *files)
{
    struct tns_reader *r = new_reader(-1);
    if (r) {
        r->files = files;
        r->seekable = true;
    }
    return r;
}

struct tns_reader *tns_reader_new(int fd)
{
    struct tns_reader *r = new_reader(fd);
    if (!r)
        return NULL;
    off_t at = lseek(fd, 0, SEEK_CUR);
    r->seekable = at >= 0;
    r->pos = r->seekable ? (uint64_t)at : 0;
    return r;
}

void tns_reader_free(struct tns_reader *r)
{
    if (r) {
        free(r->front);
        free(r->piece);
        tns_unpacker_free(&r->unpacker);
        XXH3_freeState(r->sum);
        free(r->header.text);
        free(r);
    }
}

struct tns_meta *tns_header(struct tns_reader *r)
{
    return &r->header;
}

int tns_segment(const struct tns_reader *r)
{
    return r->segment;
}

uint64_t tns_count(const struct tns_reader *r)
{
    return r->count;
}

uint64_t tns_digest(const struct tns_reader *r)
{
    return r->digest;
}

const char *tns_why(const struct tns_reader *r)
{
    return r->why;
}

uint64_t tns_number_in_file(const struct tns_reader *r, const char **name)
{
    *name = r->files ? tns_files_name(r->files, r->file) : NULL;
    return r->count - r->before - (r->count > r->before);
}

__attribute__((format(printf, 4, 5))) static int
fail(struct tns_reader *r, int code, const struct tns_record *rec, const char *fmt, ...)
{
    const char *c = rec ? tns_get(&rec->meta, "case") : NULL;
    const char *s = rec ? tns_get(&rec->meta, "slice") : NULL;
    int n = 0;
    va_list ap;
    if (r->files)
        n = snprintf(r->why, sizeof r->why, "%.200s: ", tns_files_name(r->files, r->file));
    if (r->begun && code != TNS_EIO && code != TNS_ENOMEM)
        n += snprintf(r->why + n, sizeof r->why - (size_t)n,
                      c ? "record %llu (%.64s%s%.12s): " : "record %llu: ",
                      (unsigned long long)(r->count - r->before - r->within), c, s ? " slice " : "",
                      s ? s : "");
    va_start(ap, fmt);
    vsnprintf(r->why + n, sizeof r->why - (size_t)n, fmt, ap);
    va_end(ap);
    return code;
}

/* Reads n bytes: n, or fewer at the end of the input, or an error. */
static ssize_t pull(struct tns_reader *r, void *to, size_t n)
{
    const int fd = r->files ? tns_files_open(r->files, r->file, r->why, sizeof r->why) : r->fd;
    size_t done = 0;
    if (r->files && fd < 0)
        return fd;
    while (done < n) {
        ssize_t k = r->random || r->files
                        ? pread(fd, (char *)to + done, n - done, (off_t)(r->pos + done))
                        : read(fd, (char *)to + done, n - done);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return fail(r, TNS_EIO, NULL, "read: %s", strerror(errno));
        if (k == 0)
            break;
        done += (size_t)k;
    }
    r->pos += done;
    return (ssize_t)done;
}

/* Exactly n bytes; a shorter input is cut. */
static int pull_all(struct tns_reader *r, const struct tns_record *rec, void *to, size_t n)
{
    ssize_t k = pull(r, to, n);
    if (k < 0)
        return (int)k;
    if ((size_t)k < n)
        return fail(r, TNS_ECUT, rec, "cut off in the middle (did an earlier tool fail?)");
    return 0;
}

static bool all_zero(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* Section 3: 1 and a fixed part, 0 at the end of the input, or an error. */
static int read_fixed(struct tns_reader *r, struct fixed *f)
{
    unsigned char b[TNS_FIXED];
    bool first = !r->begun && !r->random;
    ssize_t k = pull(r, b, sizeof b);
    if (k < 0)
        return (int)k;
    if (k == 0)
        return 0;
    size_t m = (size_t)k < sizeof tns_magic ? (size_t)k : sizeof tns_magic;
    if (memcmp(b, tns_magic, m))
        return first
                   ? fail(r, TNS_EFORMAT, NULL, "not a tensor stream (wanted the magic of tns(5))")
                   : fail(r, TNS_ECORRUPT, NULL, "corrupt: no record starts here");
    if ((size_t)k < sizeof b)
        return fail(r, TNS_ECUT, NULL, "cut off in the middle (did an earlier tool fail?)");
    if (tns_crc32(0, b, 60) != get32(b + 60))
        return fail(r, TNS_ECORRUPT, NULL, "corrupt: the check of the fixed part does not match");
    unsigned version = get16(b + 8);
    if (version == 0)
        return fail(r, TNS_ECORRUPT, NULL, "corrupt: version 0");
    if (version > TNS_VERSION)
        return fail(r, TNS_EUNSUPPORTED, NULL, "unsupported: format version %u (wanted 1)",
                    version);
    f->kind = (char)b[10];
    f->meta_len = get32(b + 12);
    f->ntensors = get32(b + 16);
    f->front_check = get32(b + 20);
    f->rest = get64(b + 24);
    f->count = get64(b + 32);
    if (!strchr("HREM", f->kind) || !f->kind)
        return fail(r, TNS_ECORRUPT, NULL, "corrupt: record kind %u", b[10]);
    if (b[11] || !all_zero(b + 40, 20))
        return fail(r, TNS_EUNSUPPORTED, NULL, "unsupported: a reserved field is set");
    uint32_t max_meta = f->kind == 'H' ? TNS_MAX_HEADER : f->kind == 'R' ? TNS_MAX_META : 0;
    uint32_t max_tensors = f->kind == 'R' ? TNS_MAX_TENSORS : 0;
    if (f->meta_len > max_meta)
        return fail(r, TNS_ECORRUPT, NULL, "corrupt: metadata length (wanted at most %u, got %u)",
                    max_meta, f->meta_len);
    if (f->ntensors > max_tensors)
        return fail(r, TNS_ECORRUPT, NULL, "corrupt: number of tensors (wanted at most %u, got %u)",
                    max_tensors, f->ntensors);
    uint64_t front = tns_padded(f->meta_len) + f->ntensors * (uint64_t)TNS_DESCRIPTOR;
    if (f->rest < front || f->rest > TNS_MAX_RECORD - TNS_FIXED || f->rest % TNS_ALIGN ||
        (!f->ntensors && f->rest != front))
        return fail(r, TNS_ECORRUPT, NULL, "corrupt: record length %llu",
                    (unsigned long long)f->rest);
    return 1;
}

/* Section 4: the metadata text of the front becomes NUL-separated lines. */
static int parse_meta(struct tns_reader *r, struct tns_meta *m, char kind, uint32_t len)
{
    m->len = 0;
    if (tns_meta_room(m, (size_t)len + 1))
        return fail(r, TNS_ENOMEM, NULL, "out of memory (wanted %u bytes)", len);
    if (len)
        memcpy(m->text, r->front, len);
    for (size_t pos = 0, lines = 0; pos < len; lines++) {
        if (lines == TNS_MAX_LINES)
            return fail(r, TNS_ECORRUPT, NULL, "corrupt: metadata of more than %d lines",
                        TNS_MAX_LINES);
        char *line = m->text + pos, *end = memchr(line, '\n', len - pos);
        char *eq = end ? memchr(line, '=', (size_t)(end - line)) : NULL;
        if (!eq || !tns_key_ok(line, (size_t)(eq - line)) ||
            !tns_value_ok(eq + 1, (size_t)(end - eq - 1)))
            return fail(r, TNS_ECORRUPT, NULL, "corrupt: metadata at byte %zu is not key=value",
                        pos);
        *end = *eq = 0;
        if (!(kind == 'H' && !strcmp(line, "history")) && tns_get(m, line))
            return fail(r, TNS_ECORRUPT, NULL, "corrupt: key '%s' stands twice", line);
        *eq = '=';
        pos = (size_t)(end - m->text) + 1;
        m->len = pos;
    }
    return 0;
}

/* Section 6.4: the bytes of the descriptor that tell of an encoding. */
static int parse_encoding(struct tns_reader *r, const struct tns_record *rec,
                          const unsigned char *d, const struct tensor *t, uint64_t bytes)
{
    const int how = d[67];
    const size_t width = how & TNS_HALF ? 2 : dtype_size(t->dtype);
    if (how ? how >= TNS_ENCODINGS || !(how & TNS_ZSTD)
            : !all_zero(d + 68, 4) || !all_zero(d + 112, 8))
        return fail(r, TNS_EUNSUPPORTED, rec,
                    how ? "unsupported: tensor '%s': encoding %d"
                        : "unsupported: tensor '%s': a reserved field is set",
                    t->name, how);
    if ((how & TNS_HALF && t->dtype != DT_F32) || (how & TNS_PLANES && width == 1))
        return fail(r, TNS_ECORRUPT, rec, "corrupt: tensor '%s': encoding %d of %s", t->name, how,
                    dtype_name(t->dtype));
    if (how && (!get64(d + 112) || get64(d + 112) >= bytes))
        return fail(r, TNS_ECORRUPT, rec,
                    "corrupt: tensor '%s': stored length (wanted less than %llu, got %llu)",
                    t->name, (unsigned long long)bytes, (unsigned long long)get64(d + 112));
    return 0;
}

/* Section 5: one descriptor; *bytes is the length of the payload. */
static int parse_descriptor(struct tns_reader *r, const struct tns_record *rec,
                            const unsigned char *d, struct tensor *t, uint64_t *bytes)
{
    static const signed char dtypes[] = {-1,     DT_U8,   DT_I16, DT_I32,
                                         DT_F16, DT_BF16, DT_F32, DT_F64};
    memset(t, 0, sizeof *t);
    memcpy(t->name, d, TENSOR_MAX_NAME);
    if (!tns_name_ok(t->name) || !all_zero(d + strlen(t->name), TENSOR_MAX_NAME - strlen(t->name)))
        return fail(r, TNS_ECORRUPT, rec, "corrupt: tensor name");
    if (d[64] >= sizeof dtypes || d[64] == 0)
        return fail(r, TNS_EUNSUPPORTED, rec, "unsupported: tensor '%s': dtype %u", t->name, d[64]);
    if (d[65] > TENSOR_MAX_RANK)
        return fail(r, TNS_EUNSUPPORTED, rec, "unsupported: tensor '%s': rank %u", t->name, d[65]);
    if (d[66] != TNS_CHECK_XXH3 && d[66] != TNS_CHECK_CRC32)
        return fail(r, TNS_EUNSUPPORTED, rec, "unsupported: tensor '%s': check %u", t->name, d[66]);
    t->dtype = (enum dtype)dtypes[d[64]];
    t->rank = d[65];
    *bytes = dtype_size(t->dtype);
    for (int i = 0; i < TENSOR_MAX_RANK; i++) {
        uint32_t dim = get32(d + 72 + 4 * i);
        if (i >= t->rank ? dim != 0 : dim < 1 || dim > TNS_MAX_DIM)
            return fail(r, TNS_ECORRUPT, rec, "corrupt: tensor '%s': dimension %d is %u", t->name,
                        i, dim);
        t->dim[i] = dim;
        if (i < t->rank && (*bytes *= dim) > TNS_MAX_RECORD)
            return fail(r, TNS_ECORRUPT, rec, "corrupt: tensor '%s': larger than a record may be",
                        t->name);
    }
    if (get64(d + 104) != *bytes)
        return fail(r, TNS_ECORRUPT, rec, "corrupt: tensor '%s': length (wanted %llu, got %llu)",
                    t->name, (unsigned long long)*bytes, (unsigned long long)get64(d + 104));
    return parse_encoding(r, rec, d, t, *bytes);
}

/* Section 4.6. */
static int check_mark(struct tns_reader *r, const struct tns_record *rec)
{
    static const char *const keys[] = {"epoch", "index", "epochs"};
    const char *mark = tns_get(&rec->meta, "mark");
    if (strcmp(mark, "epoch"))
        return fail(r, TNS_EUNSUPPORTED, rec, "unsupported: mark '%.40s' (wanted epoch)", mark);
    for (int i = 0; i < 3; i++)
        if (!tns_get(&rec->meta, keys[i]))
            return fail(r, TNS_ECORRUPT, rec, "corrupt: a mark without '%s'", keys[i]);
    return rec->ntensors ? fail(r, TNS_ECORRUPT, rec, "corrupt: a mark with tensors") : 0;
}

/* Sections 4 and 5. `meta` is the record's or the header's. */
static int read_front(struct tns_reader *r, const struct fixed *f, struct tns_meta *meta,
                      struct tns_record *rec)
{
    size_t text = (size_t)tns_padded(f->meta_len);
    size_t n = text + f->ntensors * (size_t)TNS_DESCRIPTOR;
    uint64_t sum = n, whole = n;
    int e;
    if (n > r->front_room || !r->front) {
        free(r->front);
        r->front_room = 0;
        if (!(r->front = malloc(n + 1)))
            return fail(r, TNS_ENOMEM, rec, "out of memory (wanted %zu bytes)", n);
        r->front_room = n;
    }
    if ((e = pull_all(r, NULL, r->front, n)))
        return e;
    if (tns_crc32(0, r->front, n) != f->front_check)
        return fail(r, TNS_ECORRUPT, NULL, "corrupt: the check of the metadata does not match");
    if (!all_zero(r->front + f->meta_len, text - f->meta_len))
        return fail(r, TNS_ECORRUPT, NULL, "corrupt: padding is not zero");
    if ((e = parse_meta(r, meta, f->kind, f->meta_len)))
        return e;
    for (uint32_t i = 0; i < f->ntensors; i++) {
        uint64_t bytes = 0;
        struct tensor t;
        const unsigned char *d = r->front + text + i * TNS_DESCRIPTOR;
        if ((e = parse_descriptor(r, rec, d, &t, &bytes)))
            return e;
        if (tns_tensor(rec, t.name))
            return fail(r, TNS_ECORRUPT, rec, "corrupt: tensor '%s' stands twice", t.name);
        rec->tensor[rec->ntensors++] = t;
        sum += tns_padded(tns_stored(d));
        whole += tns_padded(bytes);
    }
    if (whole > TNS_MAX_RECORD - TNS_FIXED)
        return fail(r, TNS_ECORRUPT, rec, "corrupt: larger than a record may be, unpacked");
    if (sum != f->rest)
        return fail(r, TNS_ECORRUPT, rec, "corrupt: record length (wanted %llu, got %llu)",
                    (unsigned long long)sum, (unsigned long long)f->rest);
    r->descriptors = r->front + text;
    r->coming = 0;
    r->tensors = f->ntensors;
    return rec && tns_is_mark(rec) ? check_mark(r, rec) : 0;
}

/* --- section 6: payloads --------------------------------------------------------------------- */

static const unsigned char *descriptor(const struct tns_reader *r, uint32_t i)
{
    return r->descriptors + i * (size_t)TNS_DESCRIPTOR;
}

static int check_sum(struct tns_reader *r, const struct tns_record *rec, const unsigned char *d,
                     uint64_t sum, uint64_t wanted)
{
    return sum == wanted
               ? 0
               : fail(r, TNS_ECORRUPT, rec, "corrupt: the check of tensor '%s' does not match",
                      (const char *)d);
}

static int check_padding(struct tns_reader *r, const struct tns_record *rec,
                         const unsigned char *padding, size_t bytes)
{
    return all_zero(padding, (size_t)tns_padded(bytes) - bytes)
               ? 0
               : fail(r, TNS_ECORRUPT, rec, "corrupt: padding is not zero");
}

/* The payload as it is used. */
static int check_payload(struct tns_reader *r, const struct tns_record *rec, const unsigned char *d,
                         const void *p)
{
    const size_t bytes = (size_t)get64(d + 104);
    return check_sum(r, rec, d,
                     d[66] == TNS_CHECK_XXH3 ? tns_xxh3(p, bytes) : tns_crc32(0, p, bytes),
                     get64(d + 120));
}

/* The next payload goes by, to `put` if there is one. */
static int go_by(struct tns_reader *r, int (*put)(void *, void *, size_t), void *ctx)
{
    const unsigned char *d = descriptor(r, r->coming++);
    uint64_t left = tns_stored(d);
    uint32_t crc = 0;
    size_t bytes = (size_t)left, padding = (size_t)(tns_padded(left) - left);
    bool xxh3 = d[66] == TNS_CHECK_XXH3 && !d[67];
    int e;
    XXH3_64bits_reset(r->sum);
    for (size_t n; left > 0; left -= n) {
        n = left < PIECE ? (size_t)left : PIECE;
        if ((e = pull_all(r, NULL, r->piece, n)))
            return e;
        if (xxh3)
            XXH3_64bits_update(r->sum, r->piece, n);
        else
            crc = tns_crc32(crc, r->piece, n);
        if (put && (e = put(ctx, r->piece, n)))
            return e;
    }
    if ((e = pull_all(r, NULL, r->piece, padding)) ||
        (e = check_sum(r, NULL, d, xxh3 ? XXH3_64bits_digest(r->sum) : crc,
                       d[67] ? get32(d + 68) : get64(d + 120))))
        return e;
    return check_padding(r, NULL, r->piece, bytes);
}

const unsigned char *tns_coming(const struct tns_reader *r, const char *name)
{
    for (uint32_t i = r ? r->coming : 0; r && i < r->tensors; i++)
        if (!strcmp((const char *)descriptor(r, i), name))
            return descriptor(r, i);
    return NULL;
}

int tns_pass(struct tns_reader *r, const char *name, int (*put)(void *, void *, size_t), void *ctx)
{
    int e = 0;
    while (!e && r->coming < r->tensors && strcmp((const char *)descriptor(r, r->coming), name))
        e = go_by(r, NULL, NULL);
    if (!e && r->coming == r->tensors)
        e = fail(r, TNS_EINVALID, NULL, "tensor '%s' has gone by", name);
    return e ? e : go_by(r, put, ctx);
}

/* The record's tensor that the payload is for, unless it has been removed or replaced. */
static struct tensor *receiver(struct tns_record *rec, const unsigned char *d)
{
    struct tensor *t = tns_tensor(rec, (const char *)d);
    return t && !t->data ? t : NULL;
}

/* Bytes from p to the next that is aligned. */
static size_t unaligned(const void *p)
{
    return (TNS_ALIGN - (uintptr_t)p % TNS_ALIGN) % TNS_ALIGN;
}

/* Room for more of a body of `need` bytes, of which `have` are there. */
static int body_room(struct tns_reader *r, struct tns_record *rec, size_t have, size_t upto,
                     size_t need)
{
    if (upto <= rec->body_room)
        return 0;
    if (!have) {
        free(rec->memory);
        rec->memory = NULL;
    }
    /* What is large is moved page by page, never there twice. */
    size_t room = upto * 2 < need ? upto * 2 : need, before = unaligned(rec->memory);
    unsigned char *p = realloc(rec->memory, room + TNS_ALIGN);
    if (!p)
        return fail(r, TNS_ENOMEM, rec, "out of memory (wanted %zu bytes)", room);
    rec->memory = p;
    rec->body = p + unaligned(p);
    rec->body_room = room;
    if (have && unaligned(p) != before)
        memmove(rec->body, p + before, have);
    return 0;
}

/* The next payload, which is encoded, to `start` of the body. */
static int take_packed(struct tns_reader *r, struct tns_record *rec, size_t start, size_t need)
{
    struct tns_unpacker *u = &r->unpacker;
    const unsigned char *d = descriptor(r, r->coming);
    const size_t bytes = (size_t)get64(d + 112), all = (size_t)tns_padded(bytes);
    const size_t stop = start + (size_t)tns_padded(get64(d + 104));
    struct tensor *t = receiver(rec, d);
    int e;
    for (size_t have = 0, upto; have < all; have = upto) {
        upto = all - have > STEP && u->stored_room < all ? have + STEP : all;
        if (upto > u->stored_room) {
            const size_t room = upto * 2 < all ? upto * 2 : all;
            unsigned char *p = realloc(u->stored, room);
            if (!p)
                return fail(r, TNS_ENOMEM, rec, "out of memory (wanted %zu bytes)", room);
            u->stored = p;
            u->stored_room = room;
        }
        if ((e = pull_all(r, rec, u->stored + have, upto - have)))
            return e;
    }
    if ((e = check_sum(r, rec, d, tns_crc32(0, u->stored, bytes), get32(d + 68))) ||
        (e = check_padding(r, rec, u->stored + bytes, bytes)) ||
        (e = body_room(r, rec, start, stop, need)))
        return e;
    if ((e = tns_unpack(u, t, d[67], bytes, rec->body + start)))
        return e == TNS_ENOMEM
                   ? fail(r, e, rec, "out of memory (to unpack tensor '%s')", t->name)
                   : fail(r, e, rec, "corrupt: tensor '%s': what is packed does not make it",
                          t->name);
    return check_payload(r, rec, d, rec->body + start);
}

int tns_take(struct tns_reader *r, struct tns_record *rec, const char *names)
{
    uint32_t first = r->coming, end = r->tensors;
    size_t need = 0, have = 0;
    int e;
    while (end > first && !(tns_named(names, (const char *)descriptor(r, end - 1)) &&
                            receiver(rec, descriptor(r, end - 1))))
        end--;
    for (uint32_t i = first; i < end; i++)
        if (receiver(rec, descriptor(r, i)))
            need += (size_t)tns_padded(get64(descriptor(r, i) + 104));
    while (r->coming < end) {
        const unsigned char *d = descriptor(r, r->coming);
        size_t bytes = (size_t)get64(d + 104), start = have,
               stop = have + (size_t)tns_padded(bytes);
        if (!receiver(rec, d)) {
            if (r->random)
                r->pos += tns_padded(tns_stored(d)), r->coming++;
            else if ((e = go_by(r, NULL, NULL)))
                return e;
            continue;
        }
        if (d[67]) {
            if ((e = take_packed(r, rec, start, need)))
                return e;
            have = stop;
            r->coming++;
            continue;
        }
        while (have < stop) {
            size_t upto = stop - have > STEP && rec->body_room < stop ? have + STEP : stop;
            if ((e = body_room(r, rec, have, upto, need)) ||
                (e = pull_all(r, rec, rec->body + have, upto - have)))
                return e;
            have = upto;
        }
        const unsigned char *p = rec->body + start;
        if ((e = check_payload(r, rec, d, p)) || (e = check_padding(r, rec, p + bytes, bytes)))
            return e;
        r->coming++;
    }
    for (size_t at = 0; first < end; first++) {
        struct tensor *t = receiver(rec, descriptor(r, first));
        if (!t)
            continue;
        t->data = rec->body + at;
        at += (size_t)tns_padded(get64(descriptor(r, first) + 104));
    }
    return 0;
}

static int skip_payloads(struct tns_reader *r, const struct fixed *f, const struct tns_record *rec)
{
    uint64_t n = f->rest - tns_padded(f->meta_len) - f->ntensors * (uint64_t)TNS_DESCRIPTOR;
    int e;
    r->coming = r->tensors;
    /* The last byte is read, so that a cut file is noticed here and not at some later record. */
    if (r->seekable && n > 1) {
        if (!r->files && lseek(r->fd, (off_t)(n - 1), SEEK_CUR) < 0)
            return fail(r, TNS_EIO, rec, "seek: %s", strerror(errno));
        r->pos += n - 1;
        n = 1;
    }
    for (; n > 0; n -= n < PIECE ? n : PIECE)
        if ((e = pull_all(r, rec, r->piece, n < PIECE ? (size_t)n : PIECE)))
            return e;
    return 0;
}

/* Section 2: passes over headers and end records to the next data record, and reads its front. */
static int next_record(struct tns_reader *r, struct tns_record *rec, struct fixed *f,
                       uint64_t *offset)
{
    for (;;) {
        uint64_t at = r->pos | (uint64_t)r->file << TNS_FILE_SHIFT;
        int e = read_fixed(r, f);
        if (e < 0)
            return e;
        if (e == 0 && !r->begun)
            return fail(r, TNS_ECUT, NULL, "empty (did an earlier tool fail?)");
        if (e == 0 && r->in_segment)
            return fail(r, TNS_ECUT, NULL,
                        "ended before the end record (did an earlier tool fail?)");
        if (e == 0 && r->owed)
            return fail(r, TNS_ECUT, NULL,
                        "ended before a segment that was to follow (did an earlier tool fail?)");
        if (e == 0 && r->files && r->file + 1 < tns_files_count(r->files)) {
            r->file++;
            r->pos = 0;
            r->before = r->count;
            r->begun = false;
            continue;
        }
        if (e == 0) {
            r->ended = true;
            return 0;
        }
        if ((f->kind == 'H') == r->in_segment)
            return fail(r, TNS_ECORRUPT, NULL, "corrupt: %s",
                        r->in_segment ? "a header record inside a segment"
                                      : "a segment without a header record");
        if (f->kind == 'E' || f->kind == 'M') {
            if (f->front_check != tns_crc32(0, "", 0) || f->count != r->ordinal)
                return fail(r, TNS_ECORRUPT, NULL,
                            "corrupt: records are missing or doubled (wanted %llu, got %llu)",
                            (unsigned long long)f->count, (unsigned long long)r->ordinal);
            r->in_segment = false;
            r->owed = f->kind == 'M';
            continue;
        }
        if (f->count != (f->kind == 'H' ? 0 : r->ordinal))
            return fail(r, TNS_ECORRUPT, NULL,
                        "corrupt: a record is missing or doubled (wanted ordinal %llu, got %llu)",
                        (unsigned long long)r->ordinal, (unsigned long long)f->count);
        if (f->kind == 'H') {
            if ((e = read_front(r, f, &r->header, NULL)))
                return e;
            r->in_segment = true;
            r->owed = false;
            r->ordinal = 0;
            r->begun = true;
            r->segment++;
            return 2;
        }
        tns_clear(rec);
        if (offset)
            *offset = at;
        return (e = read_front(r, f, &rec->meta, rec)) ? e : 1;
    }
}

int tns_begin(struct tns_reader *r)
{
    struct fixed f;
    if (r->segment)
        return 0;
    int e = next_record(r, NULL, &f, NULL);
    return e == 2 ? 0 : e;
}

/* Adds a record to the digest: its front, as it would be with nothing encoded. */
static void digest(struct tns_reader *r, size_t text)
{
    unsigned char chain[16];
    XXH3_64bits_reset(r->sum);
    XXH3_64bits_update(r->sum, r->front, text);
    for (uint32_t i = 0; i < r->tensors; i++) {
        unsigned char d[TNS_DESCRIPTOR];
        memcpy(d, descriptor(r, i), sizeof d);
        memset(d + 67, 0, 5);
        memset(d + 112, 0, 8);
        XXH3_64bits_update(r->sum, d, sizeof d);
    }
    put64(chain, r->digest);
    put64(chain + 8, XXH3_64bits_digest(r->sum));
    r->digest = tns_xxh3(chain, sizeof chain);
}

static int advance(struct tns_reader *r, struct tns_record *rec, struct fixed *f, uint64_t *offset)
{
    int e = 0;
    if (r->ended)
        return 0;
    while (!e && r->coming < r->tensors)
        e = go_by(r, NULL, NULL);
    if (e)
        return e;
    r->within = false;
    while ((e = next_record(r, rec, f, offset)) == 2)
        ;
    if (e != 1)
        return e;
    digest(r, (size_t)tns_padded(f->meta_len));
    r->count++;
    r->ordinal++;
    r->within = true;
    return 1;
}

int tns_next(struct tns_reader *r, struct tns_record *rec)
{
    struct fixed f;
    int e = advance(r, rec, &f, NULL);
    if (e == 1)
        rec->from = r;
    return e;
}

int tns_hop(struct tns_reader *r, struct tns_record *rec, uint64_t *offset)
{
    struct fixed f;
    int e = advance(r, rec, &f, offset), skipped = e == 1 ? skip_payloads(r, &f, rec) : 0;
    return skipped ? skipped : e;
}

/* --- in any order ----------------------------------------------------------------------------- */

static uint64_t place_in_file(uint64_t offset)
{
    return offset & ((UINT64_C(1) << TNS_FILE_SHIFT) - 1);
}

static int read_here(struct tns_reader *r, struct tns_record *rec, const char *names)
{
    struct fixed f;
    int e = read_fixed(r, &f);
    if (e == 0)
        return fail(r, TNS_ECUT, NULL, "cut off at byte %llu", (unsigned long long)r->pos);
    if (e < 0 ||
        (e = f.kind == 'R' ? 0
                           : fail(r, TNS_ECORRUPT, NULL, "corrupt: no data record at byte %llu",
                                  (unsigned long long)r->pos)))
        return e;
    if ((e = read_front(r, &f, &rec->meta, rec)))
        return e;
    if (names)
        tns_keep(rec, names);
    return tns_take(r, rec, NULL);
}

int tns_read_at(struct tns_reader *r, struct tns_record *rec, uint64_t offset, const char *names)
{
    const uint64_t back = r->pos;
    const uint32_t file = r->file;
    r->random = true;
    r->pos = place_in_file(offset);
    r->file = (uint32_t)(offset >> TNS_FILE_SHIFT);
    tns_clear(rec);
    const int e = read_here(r, rec, names);
    r->coming = r->tensors;
    r->random = false;
    r->pos = back;
    r->file = file;
    return e;
}

uint64_t tns_size_at(struct tns_reader *r, uint64_t offset)
{
    return r->files ? tns_files_size(r->files, (uint32_t)(offset >> TNS_FILE_SHIFT)) : 0;
}

void tns_advise(struct tns_reader *r, uint64_t offset, uint64_t bytes)
{
    char why[64];
    const int fd =
        r->files ? tns_files_open(r->files, (uint32_t)(offset >> TNS_FILE_SHIFT), why, sizeof why)
                 : r->fd;
    if (fd >= 0) /* a courtesy: who reads will say what is wrong */
        (void)posix_fadvise(fd, (off_t)place_in_file(offset), (off_t)bytes, POSIX_FADV_WILLNEED);
}
