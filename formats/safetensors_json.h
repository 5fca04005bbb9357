/* safetensors_json.h - the words of JSON, as strictly as RFC 8259 says them, for the header of a
 * safetensors file: strings, whole numbers and punctuation. What they form is safetensors.c's
 * affair.
 *
 * All functions return true when they found what they are named after and stepped over it, and
 * blanks before it; false after noting what is wrong (st_accept and st_another also when it is not
 * there). */
#ifndef SAFETENSORS_JSON_H
#define SAFETENSORS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct st_scan {
    const unsigned char *start, *p, *end;
    char *text; /* where the next decoded string goes; as many bytes in all as the JSON has */
    char *why;  /* of the first thing wrong */
    size_t size;
    int code; /* an st_error; 0 as long as nothing is wrong */
};

/* Notes the first thing wrong; always false, so that a check can return it. */
__attribute__((format(printf, 3, 4))) bool st_wrong(struct st_scan *, int code, const char *fmt,
                                                    ...);
bool st_unexpected(struct st_scan *, const char *wanted);

bool st_accept(struct st_scan *, char);
bool st_expect(struct st_scan *, char);

/* Behind an element: true to go on with the next one, false at the end or when something is wrong.
 */
bool st_another(struct st_scan *, char close);

/* Decoded into s->text, with a final NUL: no more bytes than the string has with its quotes. Only
 * valid UTF-8 without NUL. */
bool st_string(struct st_scan *, const char **);

/* No sign, fraction, exponent or leading zero; below 2^64. */
bool st_number(struct st_scan *, uint64_t *);

#endif
