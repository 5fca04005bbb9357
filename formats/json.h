/* json.h - the words of JSON, as strictly as RFC 8259 says them: strings, whole numbers and
 * punctuation, for a reader that knows what they are to form (safetensors.c, layout.c).
 *
 * All functions return true when they found what they are named after and stepped over it, and
 * blanks before it; false after noting what is wrong (json_peek, which steps over blanks alone,
 * json_accept and json_another also when it is not there). */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_scan {
    const unsigned char *start, *p, *end;
    char *text; /* where the next decoded string goes; as many bytes in all as the JSON has */
    char *why;  /* of the first thing wrong */
    size_t size;
    int code;         /* JSON_... or one of the caller's; 0 as long as nothing is wrong */
    const char *name; /* of the text, for messages: */
    size_t before;    /* its bytes are counted from here */
};

enum { JSON_CORRUPT = -3, JSON_UNSUPPORTED = -4 };

/* Notes the first thing wrong; always false, so that a check can return it. */
__attribute__((format(printf, 3, 4))) bool json_wrong(struct json_scan *, int code, const char *fmt,
                                                      ...);
bool json_unexpected(struct json_scan *, const char *wanted);

bool json_peek(struct json_scan *, char);
bool json_accept(struct json_scan *, char);
bool json_expect(struct json_scan *, char);

/* Behind an element: true to go on with the next one, false at the end or when something is
 * wrong. */
bool json_another(struct json_scan *, char close);

/* Decoded into s->text, with a final NUL: no more bytes than the string has with its quotes. Only
 * valid UTF-8 without NUL. */
bool json_string(struct json_scan *, const char **);

/* No sign, fraction, exponent or leading zero; below 2^64. */
bool json_number(struct json_scan *, uint64_t *);

/* A value of any kind, nested at most 64 deep. */
bool json_skip(struct json_scan *);

/* Nothing but blanks to the end. */
bool json_end(struct json_scan *);

#endif
