/* The writing half of the codec, in the order of formats/tns.md. */
#include "formats/tns.h"
#include "formats/tns_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

struct tns_writer {
    int fd;
    bool in_segment, promised;
    uint64_t ordinal; /* records of the segment */
    unsigned char *front;
    size_t front_room;
    struct tns_packer *packer;
    unsigned char *packed; /* the record's payloads that are encoded, one after the other */
    size_t packed_room;
    char why[256];
};

/* A payload as it goes out. */
struct payload {
    size_t stored;
    int how; /* it is encoded; 0: as it is in memory */
    size_t at;
};

struct tns_writer *tns_writer_new(int fd)
{
    struct tns_writer *w = calloc(1, sizeof *w);
    if (w)
        w->fd = fd;
    return w;
}

void tns_writer_free(struct tns_writer *w)
{
    if (w) {
        free(w->front);
        free(w->packed);
        tns_packer_free(w->packer);
        free(w);
    }
}

int tns_writer_pack(struct tns_writer *w, int level)
{
    tns_packer_free(w->packer);
    w->packer = NULL;
    return level && !(w->packer = tns_packer_new(level)) ? TNS_ENOMEM : 0;
}

const char *tns_writer_why(const struct tns_writer *w)
{
    return w->why;
}

__attribute__((format(printf, 3, 4))) static int fail(struct tns_writer *w, int code,
                                                      const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(w->why, sizeof w->why, fmt, ap);
    va_end(ap);
    return code;
}

static int push(struct tns_writer *w, struct iovec *v, int n)
{
    while (n > 0) {
        ssize_t k = writev(w->fd, v, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return fail(w, TNS_EIO, "write: %s", strerror(errno));
        while (n > 0 && (size_t)k >= v->iov_len) {
            k -= (ssize_t)v->iov_len;
            v++;
            n--;
        }
        if (n > 0) {
            v->iov_base = (char *)v->iov_base + k;
            v->iov_len -= (size_t)k;
        }
    }
    return 0;
}

/* Section 3. */
static void fill_fixed(unsigned char b[TNS_FIXED], char kind, uint32_t meta_len, uint32_t ntensors,
                       const unsigned char *front, size_t front_len, uint64_t rest, uint64_t count)
{
    memset(b, 0, TNS_FIXED);
    memcpy(b, tns_magic, sizeof tns_magic);
    put16(b + 8, TNS_VERSION);
    b[10] = (unsigned char)kind;
    put32(b + 12, meta_len);
    put32(b + 16, ntensors);
    put32(b + 20, tns_crc32(0, front, front_len));
    put64(b + 24, rest);
    put64(b + 32, count);
    put32(b + 60, tns_crc32(0, b, 60));
}

static int push_piece(void *w, void *bytes, size_t n)
{
    struct iovec v = {bytes, n};
    return push(w, &v, 1);
}

/* Section 5. */
static void fill_descriptor(const struct tns_writer *w, unsigned char *d, const struct tensor *t,
                            const struct payload *p)
{
    const size_t bytes = tensor_bytes(t);
    static const unsigned char codes[DT_COUNT] = {
        [DT_U8] = 1,   [DT_I16] = 2, [DT_I32] = 3, [DT_F16] = 4,
        [DT_BF16] = 5, [DT_F32] = 6, [DT_F64] = 7,
    };
    memset(d, 0, TNS_DESCRIPTOR);
    memcpy(d, t->name, strlen(t->name));
    d[64] = codes[t->dtype];
    d[65] = (unsigned char)t->rank;
    d[66] = TNS_CHECK_XXH3;
    for (int i = 0; i < t->rank; i++)
        put32(d + 72 + 4 * i, t->dim[i]);
    put64(d + 104, bytes);
    put64(d + 120, tns_xxh3(t->data, bytes));
    if (p->how) {
        d[67] = (unsigned char)p->how;
        put32(d + 68, tns_crc32(0, w->packed + p->at, p->stored));
        put64(d + 112, p->stored);
    }
}

/* Puts a tensor's payload by, encoded, behind the `*at` bytes of those before it, if that is
 * shorter. */
static int pack(struct tns_writer *w, const struct tensor *t, struct payload *p, size_t *at)
{
    const void *stored;
    size_t bytes;
    const int how = tns_pack(w->packer, t, &stored, &bytes);
    if (how <= 0)
        return how < 0 ? fail(w, how, "out of memory (to pack tensor '%s')", t->name) : 0;
    if (*at + bytes > w->packed_room) {
        const size_t room = (*at + bytes) * 2;
        unsigned char *more = realloc(w->packed, room);
        if (!more)
            return fail(w, TNS_ENOMEM, "out of memory (wanted %zu bytes)", room);
        w->packed = more;
        w->packed_room = room;
    }
    memcpy(w->packed + *at, stored, bytes);
    *p = (struct payload){bytes, how, *at};
    *at += bytes;
    return 0;
}

/* Payloads and the sum of their lengths with padding, or an error for what the format cannot
 * hold. */
static int measure(struct tns_writer *w, const struct tns_record *rec, struct payload *p,
                   uint64_t *sum)
{
    uint64_t whole = 0;
    size_t packed = 0;
    int e;
    *sum = 0;
    for (int i = 0; i < rec->ntensors; i++) {
        const struct tensor *t = &rec->tensor[i];
        uint64_t n = dtype_size(t->dtype);
        if (!tns_name_ok(t->name) || !n || t->rank < 0 || t->rank > TENSOR_MAX_RANK)
            return fail(w, TNS_EINVALID, "tensor %d cannot be written", i);
        for (int k = 0; k < t->rank; k++)
            if (!t->dim[k] || t->dim[k] > TNS_MAX_DIM || (n *= t->dim[k]) > TNS_MAX_RECORD)
                return fail(w, TNS_EINVALID, "tensor '%s' is larger than a record may be", t->name);
        if (!t->data && !tns_coming(rec->from, t->name))
            return fail(w, TNS_EINVALID, "tensor '%s' has no payload", t->name);
        p[i] = (struct payload){
            .stored = t->data ? (size_t)n : (size_t)tns_stored(tns_coming(rec->from, t->name))};
        whole += tns_padded(n);
        if (whole > TNS_MAX_RECORD)
            return fail(w, TNS_EINVALID, "the record is larger than 1 GiB");
        if (t->data && w->packer && (e = pack(w, t, &p[i], &packed)))
            return e;
        *sum += tns_padded(p[i].stored);
    }
    return whole > TNS_MAX_RECORD - TNS_FIXED
               ? fail(w, TNS_EINVALID, "the record is larger than 1 GiB")
               : 0;
}

static int write_record(struct tns_writer *w, char kind, const struct tns_meta *meta,
                        const struct tns_record *rec, uint64_t count)
{
    static const unsigned char zeros[TNS_ALIGN];
    struct payload payload[TNS_MAX_TENSORS];
    size_t meta_len = meta ? meta->len : 0, text = (size_t)tns_padded(meta_len);
    int n = rec ? rec->ntensors : 0, nv = 0, e;
    size_t front_len = text + (size_t)n * TNS_DESCRIPTOR;
    unsigned char more[TNS_FIXED], fixed[TNS_FIXED];
    struct iovec v[3 + 2 * TNS_MAX_TENSORS];
    uint64_t payloads = 0;
    if (meta_len > (kind == 'H' ? TNS_MAX_HEADER : TNS_MAX_META))
        return fail(w, TNS_EINVALID, "metadata is too long (wanted at most %u bytes, got %zu)",
                    kind == 'H' ? TNS_MAX_HEADER : TNS_MAX_META, meta_len);
    for (size_t i = 0, lines = 0; i < meta_len; i++)
        if (!meta->text[i] && ++lines > TNS_MAX_LINES)
            return fail(w, TNS_EINVALID, "metadata has more than %d lines", TNS_MAX_LINES);
    if (rec && (e = measure(w, rec, payload, &payloads)))
        return e;
    if (front_len + payloads > TNS_MAX_RECORD - TNS_FIXED)
        return fail(w, TNS_EINVALID, "the record is larger than 1 GiB");
    if (front_len > w->front_room) {
        free(w->front);
        w->front_room = 0;
        if (!(w->front = malloc(front_len)))
            return fail(w, TNS_ENOMEM, "out of memory (wanted %zu bytes)", front_len);
        w->front_room = front_len;
    }
    if (front_len) {
        memset(w->front, 0, front_len);
        for (size_t i = 0; i < meta_len; i++)
            w->front[i] = (unsigned char)(meta->text[i] ? meta->text[i] : '\n');
    }
    for (int i = 0; i < n; i++) {
        const struct tensor *t = &rec->tensor[i];
        unsigned char *d = w->front + text + (size_t)i * TNS_DESCRIPTOR;
        if (t->data)
            fill_descriptor(w, d, t, &payload[i]);
        else
            memcpy(d, tns_coming(rec->from, t->name), TNS_DESCRIPTOR);
    }
    fill_fixed(fixed, kind, (uint32_t)meta_len, (uint32_t)n, w->front, front_len,
               front_len + payloads, count);
    if (kind == 'H' && w->in_segment) { /* whose end goes out with what follows it */
        fill_fixed(more, 'M', 0, 0, NULL, 0, 0, w->ordinal);
        v[nv++] = (struct iovec){more, sizeof more};
    }
    size_t gone = w->promised ? sizeof tns_magic : 0;
    w->promised = false;
    v[nv++] = (struct iovec){fixed + gone, sizeof fixed - gone};
    if (front_len)
        v[nv++] = (struct iovec){w->front, front_len};
    for (int i = 0; i < n; i++) {
        const struct tensor *t = &rec->tensor[i];
        const size_t bytes = payload[i].stored;
        if (t->data) {
            v[nv++] = (struct iovec){payload[i].how ? w->packed + payload[i].at : t->data, bytes};
        } else {
            if ((e = push(w, v, nv)) || (e = tns_pass(rec->from, t->name, push_piece, w)))
                return e;
            nv = 0;
        }
        if (tns_padded(bytes) > bytes)
            v[nv++] = (struct iovec){(void *)zeros, (size_t)tns_padded(bytes) - bytes};
    }
    return push(w, v, nv);
}

int tns_promise(struct tns_writer *w)
{
    struct iovec magic = {(void *)(uintptr_t)tns_magic, sizeof tns_magic};
    w->promised = true;
    return push(w, &magic, 1);
}

int tns_finish(struct tns_writer *w)
{
    if (!w->in_segment)
        return 0;
    int e = write_record(w, 'E', NULL, NULL, w->ordinal);
    w->in_segment = e != 0;
    return e;
}

int tns_write_header(struct tns_writer *w, const struct tns_meta *meta)
{
    int e = write_record(w, 'H', meta, NULL, 0);
    if (e)
        return e;
    w->in_segment = true;
    w->ordinal = 0;
    return 0;
}

int tns_write(struct tns_writer *w, const struct tns_record *rec)
{
    if (!w->in_segment)
        return fail(w, TNS_EINVALID, "a record before the header");
    int e = write_record(w, 'R', &rec->meta, rec, w->ordinal);
    w->ordinal += !e;
    return e;
}
