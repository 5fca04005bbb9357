/* One reader over two inflaters, ISA-L and zlib, each of which is four functions: a member begins,
 * a step, a copy of the state, the end. */
#include "formats/inflate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef HAVE_ISAL
#include <isa-l/igzip_lib.h>
#else
#include <zlib.h>
#endif

#define IN_ROOM 32768
#define PIECE (1u << 30) /* most that one call of the inflater is given */

struct inflate {
    int fd;
    bool gzip;
    enum { BETWEEN, INSIDE, END } where; /* of a gzip member */
    uint64_t size, at;                   /* at: of the next byte to fetch from the file */
    struct timespec changed;
    const char *why;
    uint8_t *next; /* bytes fetched and not yet inflated */
    size_t left;
#ifdef HAVE_ISAL
    struct isal_gzip_header head; /* of the member, as far as it was read */
    bool in_head;
    struct inflate_state s;
#else
    z_stream s;
#endif
    uint8_t in[IN_ROOM];
};

/* --- the inflater: one of two libraries ------------------------------------------------------- */

enum { STEP_BAD = -1, STEP_OK, STEP_END };

#ifdef HAVE_ISAL

static int start_member(struct inflate *f)
{
    isal_inflate_init(&f->s);
    f->s.crc_flag = ISAL_GZIP;
    isal_gzip_header_init(&f->head);
    f->in_head = true;
    return 0;
}

static void stop(struct inflate *f)
{
    (void)f;
}

static int copy_state(struct inflate *to, const struct inflate *from)
{
    to->s = from->s;
    return 0;
}

static int step(struct inflate *f, uint8_t **out, size_t *room)
{
    int r;

    f->s.next_in = f->next;
    f->s.avail_in = (uint32_t)f->left;
    f->s.next_out = *out;
    f->s.avail_out = (uint32_t)*room;
    /* isal_inflate would read a header too, but forgets half a one at the end of its input. */
    r = f->in_head ? isal_read_gzip_header(&f->s, &f->head) : isal_inflate(&f->s);
    f->next = f->s.next_in;
    f->left = f->s.avail_in;
    *out = f->s.next_out;
    *room = f->s.avail_out;
    if (r == ISAL_INCORRECT_CHECKSUM) {
        f->why = "damaged: the gzip checksum does not match";
        return STEP_BAD;
    }
    if (r != ISAL_DECOMP_OK && r != ISAL_END_INPUT && r != ISAL_OUT_OVERFLOW) {
        f->why = "damaged: invalid gzip data";
        return STEP_BAD;
    }
    if (!f->in_head)
        return f->s.block_state == ISAL_BLOCK_FINISH ? STEP_END : STEP_OK;
    f->in_head = r == ISAL_END_INPUT;
    return STEP_OK;
}

#else

static int start_member(struct inflate *f)
{
    if (f->s.state)
        return inflateReset(&f->s) == Z_OK ? 0 : -1;
    return inflateInit2(&f->s, 15 + 16) == Z_OK ? 0 : -1;
}

static void stop(struct inflate *f)
{
    if (f->s.state)
        inflateEnd(&f->s);
}

static int copy_state(struct inflate *to, const struct inflate *from)
{
    memset(&to->s, 0, sizeof to->s);
    if (!from->s.state)
        return 0;
    return inflateCopy(&to->s, (z_stream *)&from->s) == Z_OK ? 0 : -1;
}

static int step(struct inflate *f, uint8_t **out, size_t *room)
{
    int r;

    f->s.next_in = f->next;
    f->s.avail_in = (uInt)f->left;
    f->s.next_out = *out;
    f->s.avail_out = (uInt)*room;
    r = inflate(&f->s, Z_NO_FLUSH);
    f->next = f->s.next_in;
    f->left = f->s.avail_in;
    *out = f->s.next_out;
    *room = f->s.avail_out;
    if (r == Z_STREAM_END)
        return STEP_END;
    if (r == Z_OK || r == Z_BUF_ERROR)
        return STEP_OK;
    f->why = f->s.msg && strstr(f->s.msg, "check") ? "damaged: the gzip checksum does not match"
                                                   : "damaged: invalid gzip data";
    return STEP_BAD;
}

#endif

/* --- reading ---------------------------------------------------------------------------------- */

static ssize_t fetch(struct inflate *f, void *buf, size_t n)
{
    size_t got = 0;

    while (got < n) {
        ssize_t r = pread(f->fd, (char *)buf + got, n - got, (off_t)(f->at + got));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0) {
            f->why = strerror(errno);
            return -1;
        }
        if (r == 0)
            break;
        got += (size_t)r;
    }
    f->at += got;
    return (ssize_t)got;
}

/* Makes sure that there is input; 1, or 0 at the end of the file, or -1. */
static int refill(struct inflate *f)
{
    ssize_t r;

    if (f->left)
        return 1;
    if ((r = fetch(f, f->in, sizeof f->in)) < 0)
        return -1;
    f->next = f->in;
    f->left = (size_t)r;
    return r > 0;
}

/* Between two members: the end, zero bytes that pad a tape, or one more member. */
static int next_member(struct inflate *f)
{
    int r;

    while ((r = refill(f)) == 1 && *f->next == 0) {
        f->next++;
        f->left--;
    }
    if (r < 0)
        return -1;
    if (r == 0) {
        f->where = END;
        return 0;
    }
    if (*f->next != 0x1f) {
        f->why = "damaged: there is something else after the gzip data";
        return -1;
    }
    if (start_member(f)) {
        f->why = "not enough memory";
        return -1;
    }
    f->where = INSIDE;
    return 0;
}

ssize_t inf_read(struct inflate *f, void *buf, size_t n)
{
    uint8_t *out = buf, *end = out + n;

    if (!f->gzip)
        return fetch(f, buf, n);
    while (out < end && f->where != END) {
        size_t room = (size_t)(end - out) < PIECE ? (size_t)(end - out) : PIECE;
        uint8_t *was = out;
        int more, r;
        if (f->where == BETWEEN) {
            if (next_member(f))
                return -1;
            continue;
        }
        if ((more = refill(f)) < 0)
            return -1;
        if ((r = step(f, &out, &room)) == STEP_BAD)
            return -1;
        if (r == STEP_END)
            f->where = BETWEEN;
        else if (!more && out == was) { /* the inflater had nothing left to give either */
            f->why = "cut: the gzip data stop in the middle";
            return -1;
        }
    }
    return out - (uint8_t *)buf;
}

ssize_t inf_skip(struct inflate *f, uint64_t n)
{
    uint8_t buf[16384];
    uint64_t done = 0;

    if (!f->gzip) {
        uint64_t left = f->at < f->size ? f->size - f->at : 0;
        done = n < left ? n : left;
        f->at += done;
        return (ssize_t)done;
    }
    while (done < n) {
        size_t want = n - done < sizeof buf ? (size_t)(n - done) : sizeof buf;
        ssize_t r = inf_read(f, buf, want);
        if (r < 0)
            return -1;
        done += (uint64_t)r;
        if ((size_t)r < want)
            break;
    }
    return (ssize_t)done;
}

int inf_drain(struct inflate *f)
{
    while (f->gzip && f->where != END)
        if (inf_skip(f, 1 << 20) < 0)
            return -1;
    return 0;
}

/* --- opening ---------------------------------------------------------------------------------- */

struct inflate *inf_open(const char *path)
{
    struct inflate *f = calloc(1, sizeof *f);
    struct stat st;
    uint8_t magic[2];

    if (!f)
        return NULL;
    f->why = "";
    f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* not to wait for a FIFO's writer */
    if (f->fd < 0 || fstat(f->fd, &st))
        goto fail;
    if (!S_ISREG(st.st_mode)) {
        errno = S_ISDIR(st.st_mode) ? EISDIR : ESPIPE;
        goto fail;
    }
    f->size = (uint64_t)st.st_size;
    f->changed = st.st_mtim;
    f->gzip = fetch(f, magic, 2) == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
    f->at = 0;
    return f;
fail:
    if (f->fd >= 0) {
        int e = errno;
        close(f->fd);
        errno = e;
    }
    free(f);
    return NULL;
}

void inf_close(struct inflate *f)
{
    if (!f)
        return;
    stop(f);
    close(f->fd);
    free(f);
}

struct inflate *inf_fork(const struct inflate *from)
{
    struct inflate *f = malloc(sizeof *f);

    if (!f)
        return NULL;
    memcpy(f, from, offsetof(struct inflate, s));
    f->at -= f->left; /* its input is fetched anew */
    f->left = 0;
    f->fd = fcntl(from->fd, F_DUPFD_CLOEXEC, 0);
    if (f->fd < 0 || copy_state(f, from)) {
        if (f->fd >= 0)
            close(f->fd);
        free(f);
        return NULL;
    }
    return f;
}

bool inf_is_gzip(const struct inflate *f)
{
    return f->gzip;
}

uint64_t inf_file_size(const struct inflate *f)
{
    return f->size;
}

bool inf_changed(const struct inflate *f)
{
    struct stat st;

    return fstat(f->fd, &st) || (uint64_t)st.st_size != f->size ||
           st.st_mtim.tv_sec != f->changed.tv_sec || st.st_mtim.tv_nsec != f->changed.tv_nsec;
}

const char *inf_why(const struct inflate *f)
{
    return f->why;
}
