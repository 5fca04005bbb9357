/* Gzip files whose second member's header lies across the end of what the reader fetches at once:
 * every optional field, every place of the cut, and what is wrong with a header. */
#include "formats/inflate.h"
#include "tests/lib/tap.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define FETCH 32768u /* as the reader does */
#define SECOND 3000u /* bytes in the second member */

enum { FHCRC = 2, FEXTRA = 4, FNAME = 8, FCOMMENT = 16 };

static uint8_t file[3 * FETCH], plain[2 * FETCH], got[2 * FETCH];
static size_t head_at;

static size_t put(size_t at, const void *bytes, size_t n)
{
    memcpy(file + at, bytes, n);
    return at + n;
}

/* RFC 1952 by hand: the header, and its length. */
static size_t header(uint8_t *h, int flags)
{
    size_t n = 10;

    memcpy(h, "\x1f\x8b\x08\0\0\0\0\0\0\xff", 10);
    h[3] = (uint8_t)flags;
    if (flags & FEXTRA) { /* the subfield of bgzip */
        memcpy(h + n, "\x06\0BC\x02\0\x10\0", 8);
        n += 8;
    }
    if (flags & FNAME) {
        memcpy(h + n, "scan.nii", 9);
        n += 9;
    }
    if (flags & FCOMMENT) {
        memcpy(h + n, "a note", 7);
        n += 7;
    }
    if (flags & FHCRC) {
        uLong crc = crc32(0, h, (uInt)n);
        h[n++] = (uint8_t)crc;
        h[n++] = (uint8_t)(crc >> 8);
    }
    return n;
}

static size_t member(size_t at, int flags, int level, const uint8_t *data, size_t n)
{
    z_stream z = {0};
    uLong crc = crc32(0, data, (uInt)n);
    uint8_t h[64], tail[8];

    at = put(at, h, header(h, flags));
    if (deflateInit2(&z, level, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        abort();
    z.next_in = (Bytef *)data;
    z.avail_in = (uInt)n;
    z.next_out = file + at;
    z.avail_out = (uInt)(sizeof file - at);
    if (deflate(&z, Z_FINISH) != Z_STREAM_END)
        abort();
    at = (size_t)(z.next_out - file);
    deflateEnd(&z);
    for (int i = 0; i < 4; i++) {
        tail[i] = (uint8_t)(crc >> 8 * i);
        tail[4 + i] = (uint8_t)(n >> 8 * i);
    }
    return put(at, tail, 8);
}

/* A first member, stored, that ends `before` bytes ahead of the fetch's end, then the second. */
static size_t make(size_t *first, int flags, size_t before)
{
    size_t n = 1000;

    while (n < FETCH && member(0, 0, 0, plain, n) < FETCH - before)
        n += FETCH - before - member(0, 0, 0, plain, n);
    *first = n;
    head_at = member(0, 0, 0, plain, n);
    return member(head_at, flags, 6, plain + n, SECOND);
}

/* What the reader gives of the first n bytes; -1 if it says no. */
static ssize_t read_back(size_t n)
{
    char path[] = "/tmp/inflate-XXXXXX";
    int fd = mkstemp(path);
    struct inflate *f;
    ssize_t r;

    if (fd < 0 || write(fd, file, n) != (ssize_t)n || !(f = inf_open(path)))
        abort();
    r = inf_read(f, got, sizeof got);
    if (r >= 0 && inf_drain(f))
        r = -1;
    inf_close(f);
    close(fd);
    unlink(path);
    return r;
}

int main(void)
{
    size_t first, n, h;
    uint8_t room[64];

    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i * i >> 7);
    for (int flags = 0; flags < 32; flags += 2) {
        size_t sound = 0, damaged = 0, places = header(room, flags) + 2;
        for (size_t before = 0; before < places; before++) {
            n = make(&first, flags, before);
            if (head_at != FETCH - before)
                abort();
            sound +=
                read_back(n) == (ssize_t)(first + SECOND) && !memcmp(got, plain, first + SECOND);
            for (h = head_at + 1; h < head_at + 3; h++) { /* the magic's second byte, the method */
                file[h] ^= 4;
                damaged += read_back(n) < 0;
                file[h] ^= 4;
            }
        }
        ok(sound == places, "flags %2d: read whole wherever the header is cut (%zu of %zu)", flags,
           sound, places);
        ok(damaged == 2 * places, "flags %2d: a damaged header is seen (%zu of %zu)", flags,
           damaged, 2 * places);
    }
    for (size_t before = 0; before < 40; before += 3) {
        n = make(&first, FHCRC | FNAME, before);
        h = head_at + 10 + 9;
        file[h] ^= 1;
        ok(read_back(n) < 0, "a header's own checksum is checked, %zu bytes before the cut",
           before);
        file[h] ^= 1;
        ok(read_back(h) < 0, "a file that ends in a header is cut, %zu bytes before", before);
    }
    return done_testing();
}
