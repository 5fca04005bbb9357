/* origin.c - headers and maps to the lines of an extension, and back. */
#include "formats/origin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/contract.h"
#include "formats/nifti_impl.h"
#include "formats/nifti_write.h"
#include "lib/base/number.h"

#define TITLE "gliopipe regrid 1\n"
enum { COMMENT = 6, START = 352, LINE = 32 + 12 * 32 + 2 * (int)NII_HEADER };

void origin_add(struct origin *o, const char *name, const struct affine *map,
                const uint8_t header[NII_HEADER])
{
    struct origin_scan *s = &o->scan[o->n++];

    snprintf(s->name, sizeof s->name, "%s", name);
    s->map = *map;
    memcpy(s->header, header, NII_HEADER);
    nii_plain_header(s->header);
}

/* An option, a number, a word that there is, a map's file, a network and its checksum. */
static bool is_word(const char *w, size_t n)
{
    static const char *const words[] = {"scan",  "linear", "cubic", "lanczos",
                                        "flair", "t1",     "t1gd",  "t2"};
    char word[64], from[8], to[8], end[8], sum[20];
    int all = 0;

    if (n == 0 || n >= sizeof word)
        return false;
    memcpy(word, w, n);
    word[n] = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(word, words[i]))
            return true;
    if ((n == 2 && *word == '-') || strspn(word, "0123456789x.") == n)
        return true;
    if (sscanf(word, "%7[a-z0-9]-to-%7[a-z0-9].%4[a-z]%n", from, to, end, &all) == 3 &&
        all == (int)n)
        return true;
    if (sscanf(word, "%*20[a-z0-9_]:unknown%n", &all) >= 0 && all == (int)n)
        return true;
    return sscanf(word, "%*20[a-z0-9_]:%16[a-f0-9]%n", sum, &all) == 1 && all == (int)n && n > 16;
}

/* The line's own words; false where it has others, too. */
static bool plain_step(const char *line, char out[ORIGIN_MADE])
{
    const char *p = line, *end = line + strcspn(line, "\n");
    size_t n = strcspn(line, " \n");
    bool all = true;

    *out = 0;
    for (size_t have = 0; have + n + 2 < ORIGIN_MADE; n = strcspn(++p, " \n")) {
        if (p == line || is_word(p, n))
            have += (size_t)sprintf(out + have, "%s%.*s", have ? " " : "", (int)n, p);
        else
            all = false;
        if ((p += n) >= end)
            return all;
    }
    return false;
}

bool origin_add_step(struct origin *o, const char *line)
{
    char step[ORIGIN_MADE];
    const bool plain = plain_step(line, step);
    const size_t n = strlen(step), had = strlen(o->made);

    if (!contract_is_made(line) || had + n + 2 > sizeof o->made)
        return false;
    for (const char *p = o->made; *p; p += strcspn(p, "\n") + 1)
        if (!strncmp(p, step, n) && p[n] == '\n')
            return plain;
    memcpy(o->made + had, step, n);
    memcpy(o->made + had + n, "\n", 2);
    return plain;
}

static size_t print(const struct origin *o, char *out)
{
    char *p = out + sprintf(out, "%s", TITLE);

    for (int s = 0; s < o->n; s++) {
        p += sprintf(p, "scan %s", o->scan[s].name);
        for (int i = 0; i < 12; i++)
            p += sprintf(p, " %.17g", o->scan[s].map.m[i / 4][i % 4]);
        *p++ = ' ';
        for (unsigned i = 0; i < NII_HEADER; i++)
            p += sprintf(p, "%02x", o->scan[s].header[i]);
        *p++ = '\n';
    }
    for (const char *step = o->made; *step; step += strcspn(step, "\n") + 1)
        p += sprintf(p, "made %.*s\n", (int)strcspn(step, "\n"), step);
    return (size_t)(p - out);
}

uint8_t *origin_write(const struct origin *o, const uint8_t header[NII_HEADER], size_t *bytes)
{
    size_t room = START + 8 + sizeof TITLE + (size_t)o->n * LINE + 6 * sizeof o->made + 16, n;
    uint8_t *out = calloc(1, room);
    int32_t head[2] = {0, COMMENT}, size;
    float start;
    uint32_t bits;

    if (!out)
        return NULL;
    memcpy(out, header, NII_HEADER);
    memcpy(&size, out, 4);
    const bool swap = size != (int32_t)NII_HEADER;
    out[NII_HEADER] = 1;
    n = 8 + print(o, (char *)out + START + 8);
    n = (n + 15) / 16 * 16;
    memset(out + START + n, 0, room - START - n);
    *bytes = START + n;
    start = (float)*bytes;
    head[0] = (int32_t)n;
    memcpy(&bits, &start, 4);
    if (swap) {
        head[0] = (int32_t)__builtin_bswap32((uint32_t)head[0]);
        head[1] = (int32_t)__builtin_bswap32((uint32_t)head[1]);
        bits = __builtin_bswap32(bits);
    }
    memcpy(out + START, head, 8);
    memcpy(out + 108, &bits, 4); /* vox_offset */
    return out;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A line without its line feed; false where it is none. */
static bool read_scan(const char *p, const char *end, struct origin_scan *s, char *why)
{
    struct nii_header head;
    struct affine inverse;
    size_t n;

    if (end - p < 5 || memcmp(p, "scan ", 5))
        return false;
    p += 5;
    n = strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789");
    if (n == 0 || n >= ORIGIN_NAME)
        return false;
    memcpy(s->name, p, n);
    s->name[n] = 0;
    p += n;
    for (int i = 0; i < 12; i++) {
        char *after;
        if (*p != ' ' || !number_read(p + 1, &after, &s->map.m[i / 4][i % 4]))
            return false;
        p = after;
    }
    if (*p != ' ' || end - p - 1 != 2 * (int)NII_HEADER)
        return false;
    p++;
    for (unsigned i = 0; i < NII_HEADER; i++, p += 2) {
        int high = digit(p[0]), low = digit(p[1]);
        if (high < 0 || low < 0)
            return false;
        s->header[i] = (uint8_t)(high << 4 | low);
    }
    return affine_inverse(&s->map, &inverse) && !nii_parse(s->header, s->name, &head, why);
}

/* The text, which ends in a NUL. */
static int read_text(const char *text, struct origin *o, char *why)
{
    const char *p = text + strlen(TITLE);

    memset(o, 0, sizeof *o);
    for (; *p; p += strcspn(p, "\n") + 1) {
        const char *end = strchr(p, '\n');
        if (end && !strncmp(p, "made ", 5) && origin_add_step(o, p + 5))
            continue;
        if (!end || o->n == ORIGIN_SCANS || !read_scan(p, end, &o->scan[o->n], why) ||
            origin_find(o, o->scan[o->n].name))
            return nii_fail(why, "origin of the volume",
                            "line %d of the header's extension is damaged", o->n + 2);
        o->n++;
    }
    return 1;
}

/* The extension at *at, of *size bytes: its text, or NULL where it is another's; *at moves behind
 * it. False where there is none. */
static bool next_extension(const uint8_t *h, size_t bytes, size_t *at, size_t *size,
                           const uint8_t **text)
{
    int32_t mark, n, code;

    if (bytes < START + 8 || !h[NII_HEADER] || *at + 8 > bytes)
        return false;
    memcpy(&mark, h, 4);
    memcpy(&n, h + *at, 4);
    memcpy(&code, h + *at + 4, 4);
    if (mark != (int32_t)NII_HEADER) {
        n = (int32_t)__builtin_bswap32((uint32_t)n);
        code = (int32_t)__builtin_bswap32((uint32_t)code);
    }
    if (n < 8 || (size_t)n > bytes - *at)
        return false;
    *size = (size_t)n;
    *text = h + *at + 8;
    if (code != COMMENT || *size < 8 + strlen(TITLE) || memcmp(*text, TITLE, strlen(TITLE)) != 0)
        *text = NULL;
    *at += *size;
    return true;
}

int origin_read(const void *header, size_t bytes, struct origin *o, char *why)
{
    const uint8_t *found;
    size_t at = START, size;
    int e = 0;

    o->n = 0;
    *o->made = 0;
    while (e == 0 && next_extension(header, bytes, &at, &size, &found))
        if (found) {
            char *text = malloc(size - 7);
            if (!text)
                return nii_fail(why, "origin of the volume", "out of memory");
            memcpy(text, found, size - 8);
            text[size - 8] = 0;
            e = read_text(text, o, why);
            free(text);
        }
    return e;
}

uint8_t *origin_bare(const uint8_t *header, size_t bytes, size_t *left, char *why)
{
    uint8_t plain[START] = {0}, *out;
    struct origin o;
    int found = origin_read(header, bytes, &o, why);

    if (found < 0)
        return NULL;
    memcpy(plain, header, NII_HEADER);
    nii_plain_header(plain);
    for (int i = 0; i < o.n; i++)
        nii_plain_header(o.scan[i].header);
    *left = bytes < START ? bytes : START;
    out = found ? origin_write(&o, plain, left) : malloc(*left);
    if (out && !found)
        memcpy(out, plain, *left);
    if (!out)
        nii_fail(why, "origin of the volume", "out of memory");
    return out;
}

const struct origin_scan *origin_find(const struct origin *o, const char *name)
{
    for (int i = 0; i < o->n; i++)
        if (!strcmp(o->scan[i].name, name))
            return &o->scan[i];
    return NULL;
}
