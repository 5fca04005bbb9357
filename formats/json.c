#include "formats/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool json_wrong(struct json_scan *s, int code, const char *fmt, ...)
{
    if (s->code)
        return false;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->why, s->size, fmt, ap);
    va_end(ap);
    for (char *c = s->why; s->size && *c; c++) /* names come from the file: no line breaks, no */
        if ((unsigned char)*c < 0x20 || *c == 0x7f) /* sequences that a terminal would obey */
            *c = '?';
    s->code = code;
    return false;
}

bool json_unexpected(struct json_scan *s, const char *wanted)
{
    size_t at = s->before + (size_t)(s->p - s->start);
    if (s->p == s->end)
        return json_wrong(s, JSON_CORRUPT, "%s: ends at byte %zu (wanted %s)", s->name, at, wanted);
    return json_wrong(s, JSON_CORRUPT, "%s: byte %zu is 0x%02x (wanted %s)", s->name, at, *s->p,
                      wanted);
}

static void blanks(struct json_scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

bool json_peek(struct json_scan *s, char c)
{
    blanks(s);
    return s->p < s->end && *s->p == (unsigned char)c;
}

bool json_accept(struct json_scan *s, char c)
{
    if (!json_peek(s, c))
        return false;
    s->p++;
    return true;
}

bool json_expect(struct json_scan *s, char c)
{
    return json_accept(s, c) || json_unexpected(s, (char[]){'\'', c, '\'', 0});
}

bool json_another(struct json_scan *s, char close)
{
    if (json_accept(s, ','))
        return true;
    if (!json_accept(s, close))
        json_unexpected(s, close == '}' ? "',' or '}'" : "',' or ']'");
    return false;
}

static bool hex4(struct json_scan *s, uint32_t *u)
{
    *u = 0;
    for (int i = 0; i < 4; i++, s->p++) {
        int c = s->p < s->end ? *s->p : 0, lower = c | 32;
        if (c >= '0' && c <= '9')
            *u = *u << 4 | (uint32_t)(c - '0');
        else if (lower >= 'a' && lower <= 'f')
            *u = *u << 4 | (uint32_t)(lower - 'a' + 10);
        else
            return json_unexpected(s, "four hex digits");
    }
    return true;
}

/* Behind \u: a code point, out of two escapes where it is beyond 16 bits, as UTF-8. Never longer
 * than the escape. */
static bool unicode(struct json_scan *s)
{
    uint32_t u, low;
    if (!hex4(s, &u))
        return false;
    if (u >= 0xd800 && u < 0xdc00 && s->end - s->p >= 2 && s->p[0] == '\\' && s->p[1] == 'u') {
        s->p += 2;
        if (!hex4(s, &low))
            return false;
        if (low < 0xdc00 || low > 0xdfff)
            return json_wrong(s, JSON_CORRUPT, "%s: a surrogate without its other half", s->name);
        u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
    } else if (u >= 0xd800 && u < 0xe000) {
        return json_wrong(s, JSON_CORRUPT, "%s: a surrogate without its other half", s->name);
    }
    if (u == 0)
        return json_wrong(s, JSON_UNSUPPORTED, "%s: a string holds a NUL", s->name);
    if (u < 0x80) {
        *s->text++ = (char)u;
    } else if (u < 0x800) {
        *s->text++ = (char)(0xc0 | u >> 6);
        *s->text++ = (char)(0x80 | (u & 63));
    } else if (u < 0x10000) {
        *s->text++ = (char)(0xe0 | u >> 12);
        *s->text++ = (char)(0x80 | (u >> 6 & 63));
        *s->text++ = (char)(0x80 | (u & 63));
    } else {
        *s->text++ = (char)(0xf0 | u >> 18);
        *s->text++ = (char)(0x80 | (u >> 12 & 63));
        *s->text++ = (char)(0x80 | (u >> 6 & 63));
        *s->text++ = (char)(0x80 | (u & 63));
    }
    return true;
}

/* Length of the UTF-8 sequence at p (Unicode 15, table 3-7), 0 when there is none. */
static int utf8(const unsigned char *p, const unsigned char *end)
{
    int n = *p < 0x80 ? 1 : *p < 0xc2 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf5 ? 4 : 0;
    if (n == 0 || end - p < n)
        return 0;
    for (int i = 1; i < n; i++)
        if (p[i] >> 6 != 2)
            return 0;
    if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
        (*p == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

bool json_string(struct json_scan *s, const char **out)
{
    static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    if (!json_peek(s, '"'))
        return json_unexpected(s, "a string");
    s->p++;
    *out = s->text;
    while (s->p < s->end && *s->p != '"') {
        const char *e;
        int n;
        if (*s->p < 0x20)
            return json_unexpected(s, "no control character in a string");
        if (*s->p != '\\') {
            if (!(n = utf8(s->p, s->end)))
                return json_unexpected(s, "UTF-8");
            memcpy(s->text, s->p, (size_t)n);
            s->text += n;
            s->p += n;
        } else if (++s->p < s->end && *s->p == 'u') {
            s->p++;
            if (!unicode(s))
                return false;
        } else if (s->p < s->end && *s->p && (e = strchr(escapes, *s->p))) {
            *s->text++ = meanings[e - escapes];
            s->p++;
        } else {
            return json_unexpected(s, "an escape");
        }
    }
    if (s->p == s->end)
        return json_unexpected(s, "'\"'");
    s->p++;
    *s->text++ = 0;
    return true;
}

bool json_number(struct json_scan *s, uint64_t *out)
{
    uint64_t v = 0;
    blanks(s);
    const unsigned char *first = s->p;
    for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s->p - '0', &v))
            return json_wrong(s, JSON_CORRUPT, "%s: a number beyond 64 bits at byte %zu", s->name,
                              s->before + (size_t)(first - s->start));
    if (s->p == first || (*first == '0' && s->p - first > 1))
        return json_unexpected(s, "a whole number");
    *out = v;
    return true;
}

static bool digits(struct json_scan *s)
{
    const unsigned char *first = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
        s->p++;
    return s->p > first || json_unexpected(s, "a digit");
}

/* What may stand at this place without blanks before it. */
static bool here(struct json_scan *s, const char *any)
{
    if (s->p == s->end || !*s->p || !strchr(any, *s->p))
        return false;
    s->p++;
    return true;
}

static bool any_number(struct json_scan *s)
{
    here(s, "-");
    if (!here(s, "0") && !digits(s))
        return false;
    if (here(s, ".") && !digits(s))
        return false;
    if (here(s, "eE")) {
        here(s, "+-");
        return digits(s);
    }
    return true;
}

static bool word(struct json_scan *s, const char *w)
{
    size_t n = strlen(w);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, w, n))
        return json_unexpected(s, "a value");
    s->p += n;
    return true;
}

static bool skip(struct json_scan *s, int depth)
{
    const char *ignored;
    char close = json_peek(s, '{') ? '}' : json_peek(s, '[') ? ']' : 0;

    if (close) {
        if (!depth)
            return json_wrong(s, JSON_UNSUPPORTED, "%s: nested too deep", s->name);
        s->p++;
        if (json_accept(s, close))
            return true;
        do {
            if (close == '}' && (!json_string(s, &ignored) || !json_expect(s, ':')))
                return false;
            if (!skip(s, depth - 1))
                return false;
        } while (json_another(s, close));
        return !s->code;
    }
    if (s->p == s->end)
        return json_unexpected(s, "a value");
    switch (*s->p) {
    case '"':
        return json_string(s, &ignored);
    case 't':
        return word(s, "true");
    case 'f':
        return word(s, "false");
    case 'n':
        return word(s, "null");
    default:
        return any_number(s);
    }
}

bool json_skip(struct json_scan *s)
{
    return skip(s, 64);
}

bool json_end(struct json_scan *s)
{
    blanks(s);
    return s->p == s->end || json_unexpected(s, "nothing more");
}
