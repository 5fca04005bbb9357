/* Metadata and records in memory; tns_read.c and tns_write.c move them to and from bytes. */
#include "formats/tns.h"
#include "formats/tns_impl.h"
#include "lib/base/number.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>
#include <zlib.h>

const unsigned char tns_magic[8] = {0x89, 'T', 'N', 'S', '\r', '\n', 0x1a, '\n'};

uint32_t tns_crc32(uint32_t before, const void *p, size_t n)
{
    uLong c = before;
    const unsigned char *b = p;
    while (n > 0) {
        uInt step = n > 1u << 30 ? 1u << 30 : (uInt)n;
        c = crc32(c, b, step);
        b += step;
        n -= step;
    }
    return (uint32_t)c;
}

uint64_t tns_xxh3(const void *p, size_t n)
{
    return XXH3_64bits(p, n);
}

static bool lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

bool tns_key_ok(const char *key, size_t len)
{
    if (len < 1 || len > TNS_MAX_KEY || !lower(key[0]))
        return false;
    for (size_t i = 1; i < len; i++)
        if (!lower(key[i]) && !digit(key[i]) && !(key[i] && strchr("_.-", key[i])))
            return false;
    return true;
}

/* UTF-8 as of RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
static bool utf8(const unsigned char *s, size_t n)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < n;) {
        unsigned c = s[i++];
        int more = c < 0x80                ? 0
                   : c >= 0xc2 && c < 0xe0 ? 1
                   : c >= 0xe0 && c < 0xf0 ? 2
                   : c >= 0xf0 && c < 0xf5 ? 3
                                           : -1;
        uint32_t point = c & (0x7f >> (more > 0 ? more + 1 : 0));
        if (more < 0 || (size_t)more > n - i)
            return false;
        for (int k = 0; k < more; k++) {
            if ((s[i] & 0xc0) != 0x80)
                return false;
            point = point << 6 | (s[i++] & 0x3f);
        }
        if (point < least[more] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
            return false;
    }
    return true;
}

bool tns_value_ok(const char *value, size_t len)
{
    return len <= TNS_MAX_VALUE && !memchr(value, '\n', len) && !memchr(value, '\r', len) &&
           !memchr(value, 0, len) && utf8((const unsigned char *)value, len);
}

bool tns_name_ok(const char *name)
{
    size_t len = strnlen(name, TENSOR_MAX_NAME);
    return len < TENSOR_MAX_NAME && tns_key_ok(name, len) && !strpbrk(name, ".-");
}

/* --- metadata -------------------------------------------------------------------------------- */

int tns_meta_room(struct tns_meta *m, size_t bytes)
{
    if (bytes > m->room) {
        size_t room = bytes + bytes / 2 + 256;
        char *p = realloc(m->text, room);
        if (!p)
            return TNS_ENOMEM;
        m->text = p;
        m->room = room;
    }
    return 0;
}

static char *find(const struct tns_meta *m, const char *key, size_t klen)
{
    for (size_t pos = 0; pos < m->len; pos += strlen(m->text + pos) + 1)
        if (!strncmp(m->text + pos, key, klen) && m->text[pos + klen] == '=')
            return m->text + pos;
    return NULL;
}

const char *tns_get(const struct tns_meta *m, const char *key)
{
    size_t klen = strlen(key);
    const char *line = find(m, key, klen);
    return line ? line + klen + 1 : NULL;
}

static int splice(struct tns_meta *m, size_t at, size_t old, const char *key, const char *value)
{
    size_t klen = strlen(key), vlen = strlen(value), len = klen + 1 + vlen + 1;
    if (!tns_key_ok(key, klen) || !tns_value_ok(value, vlen))
        return TNS_EINVALID;
    if (tns_meta_room(m, m->len - old + len))
        return TNS_ENOMEM;
    memmove(m->text + at + len, m->text + at + old, m->len - at - old);
    memcpy(m->text + at, key, klen);
    m->text[at + klen] = '=';
    memcpy(m->text + at + klen + 1, value, vlen + 1);
    m->len += len - old;
    return 0;
}

int tns_set(struct tns_meta *m, const char *key, const char *value)
{
    char *line = find(m, key, strlen(key));
    return line ? splice(m, (size_t)(line - m->text), strlen(line) + 1, key, value)
                : splice(m, m->len, 0, key, value);
}

int tns_setf(struct tns_meta *m, const char *key, const char *fmt, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return n < 0 || (size_t)n >= sizeof text ? TNS_EINVALID : tns_set(m, key, text);
}

int tns_append(struct tns_meta *m, const char *key, const char *value)
{
    return splice(m, m->len, 0, key, value);
}

int tns_sign(struct tns_meta *m, const char *step)
{
    const char *digest = tns_get(m, "digest");
    char text[4096];
    if (!digest)
        return 0;
    int n = snprintf(text, sizeof text, "%s\n%s", digest, step);
    if (n < 0 || (size_t)n >= sizeof text)
        return TNS_EINVALID;
    return tns_setf(m, "digest", "%016llx", (unsigned long long)tns_xxh3(text, (size_t)n));
}

bool tns_is_fingerprint(const char *text)
{
    do {
        if (strspn(text, "0123456789abcdef") != 16)
            return false;
        text += 16;
    } while (*text++ == ',');
    return !text[-1];
}

/* Takes no more than there is: infer counts on it. */
int tns_copy(struct tns_meta *to, const struct tns_meta *from)
{
    if (from->len > to->room) {
        free(to->text);
        to->room = 0;
        to->len = 0;
        if (!(to->text = malloc(from->len)))
            return TNS_ENOMEM;
        to->room = from->len;
    }
    if (from->len)
        memcpy(to->text, from->text, from->len);
    to->len = from->len;
    return 0;
}

void tns_unset(struct tns_meta *m, const char *key)
{
    char *line = find(m, key, strlen(key));
    if (line) {
        size_t n = strlen(line) + 1;
        memmove(line, line + n, m->len - (size_t)(line - m->text) - n);
        m->len -= n;
    }
}

bool tns_each(const struct tns_meta *m, size_t *pos, char key[TNS_MAX_KEY + 1], const char **value)
{
    if (*pos >= m->len)
        return false;
    const char *line = m->text + *pos, *eq = strchr(line, '=');
    memcpy(key, line, (size_t)(eq - line));
    key[eq - line] = 0;
    *value = eq + 1;
    *pos += strlen(line) + 1;
    return true;
}

bool tns_get_int(const struct tns_meta *m, const char *key, long lo, long hi, long *out)
{
    const char *s = tns_get(m, key);
    char *end;
    if (!s || !(*s == '-' || digit(*s)))
        return false;
    errno = 0;
    long v = strtol(s, &end, 10);
    if (errno || *end || v < lo || v > hi)
        return false;
    *out = v;
    return true;
}

bool tns_get_numbers(const struct tns_meta *m, const char *key, int n, double *out)
{
    const char *s = tns_get(m, key);
    char *end;
    if (!s)
        return false;
    for (int i = 0; i < n; i++, s = end) {
        if (i > 0 && *s++ != ' ')
            return false;
        if (!(*s == '-' || digit(*s)) || !number_read(s, &end, &out[i]))
            return false;
    }
    return !*s;
}

const char *tns_number(double v, char out[TNS_NUMBER])
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(out, TNS_NUMBER, "%.*g", digits, v);
        if (strtod(out, NULL) == v)
            break;
    }
    return out;
}

int tns_set_numbers(struct tns_meta *m, const char *key, int n, const double *v)
{
    char text[64 * TNS_NUMBER], one[TNS_NUMBER];
    size_t len = 0;
    if (n < 1 || n > 64)
        return TNS_EINVALID;
    for (int i = 0; i < n; i++) {
        if (!isfinite(v[i]))
            return TNS_EINVALID;
        len += (size_t)snprintf(text + len, sizeof text - len, i ? " %s" : "%s",
                                tns_number(v[i], one));
    }
    return tns_set(m, key, text);
}

/* --- records --------------------------------------------------------------------------------- */

struct tensor *tns_tensor(struct tns_record *r, const char *name)
{
    for (int i = 0; i < r->ntensors; i++)
        if (!strcmp(r->tensor[i].name, name))
            return &r->tensor[i];
    return NULL;
}

bool tns_is_mark(const struct tns_record *r)
{
    return tns_get(&r->meta, "mark") != NULL;
}

/* Memory for one more tensor: an unused block of the record that is large enough, or a new one. */
static void *spare(struct tns_record *r, size_t bytes)
{
    for (int i = r->nspare; i < TNS_MAX_TENSORS; i++)
        if (r->spare_room[i] >= bytes) {
            void *p = r->spare[i];
            size_t room = r->spare_room[i];
            r->spare[i] = r->spare[r->nspare];
            r->spare_room[i] = r->spare_room[r->nspare];
            r->spare[r->nspare] = p;
            r->spare_room[r->nspare++] = room;
            return p;
        }
    if (r->nspare == TNS_MAX_TENSORS)
        return NULL;
    free(r->spare[r->nspare]);
    r->spare_room[r->nspare] = 0;
    if (posix_memalign(&r->spare[r->nspare], TNS_ALIGN, bytes)) {
        r->spare[r->nspare] = NULL;
        return NULL;
    }
    r->spare_room[r->nspare] = bytes;
    return r->spare[r->nspare++];
}

struct tensor *tns_add(struct tns_record *r, const char *name, enum dtype dtype, int rank,
                       const uint32_t *dim)
{
    struct tensor t = {.dtype = dtype, .rank = rank}, *old = tns_tensor(r, name);
    uint64_t bytes = dtype_size(dtype);
    if (!tns_name_ok(name) || !bytes || rank < 0 || rank > TENSOR_MAX_RANK ||
        (!old && r->ntensors == TNS_MAX_TENSORS))
        return NULL;
    for (int i = 0; i < rank; i++) {
        if (!dim[i] || dim[i] > TNS_MAX_DIM || (bytes *= dim[i]) > TNS_MAX_RECORD)
            return NULL;
        t.dim[i] = dim[i];
    }
    memcpy(t.name, name, strlen(name));
    if (!(t.data = spare(r, (size_t)bytes)))
        return NULL;
    if (!old)
        old = &r->tensor[r->ntensors++];
    *old = t;
    return old;
}

void tns_remove(struct tns_record *r, const char *name)
{
    struct tensor *t = tns_tensor(r, name);
    if (t) {
        size_t after = (size_t)(&r->tensor[r->ntensors] - (t + 1));
        memmove(t, t + 1, after * sizeof *t);
        r->ntensors--;
    }
}

bool tns_named(const char *names, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = names; p && (p = strstr(p, name)); p += n)
        if ((p == names || p[-1] == ' ') && (p[n] == ' ' || !p[n]))
            return true;
    return !names;
}

void tns_keep(struct tns_record *r, const char *names)
{
    for (int i = r->ntensors; i-- > 0;)
        if (!tns_named(names, r->tensor[i].name))
            tns_remove(r, r->tensor[i].name);
}

void tns_clear(struct tns_record *r)
{
    r->meta.len = 0;
    r->ntensors = 0;
    r->nspare = 0;
    r->from = NULL;
}

void tns_release(struct tns_record *r)
{
    for (int i = 0; i < TNS_MAX_TENSORS; i++)
        free(r->spare[i]);
    free(r->memory);
    free(r->meta.text);
    memset(r, 0, sizeof *r);
}
