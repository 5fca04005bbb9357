/* json.h - JSON that others wrote. jansson reads it, and is asked for more than RFC 8259 does:
 *
 * - no key twice in an object: of two readers one would take the first, the other the last;
 * - no NUL in a text, which for us is a C string; valid UTF-8, surrogates in pairs;
 * - nothing nested deeper than JSON_DEPTH, no more than JSON_VALUES values: the library takes some
 *   200 bytes for each, whatever the file has. */
#ifndef JSON_H
#define JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define JSON_DEPTH 64
#define JSON_VALUES (1u << 20)

enum { JSON_MEMORY = -1, JSON_CORRUPT = -3, JSON_UNSUPPORTED = -4 };

/* The object or list that the text is, for json_decref. NULL, one of the codes and "NAME: byte 12:
 * what" in why, if it is none. `whole`: without a number below 0, and so -0. Members keep their
 * order. One thread at a time, json_decref too. */
json_t *json_read(const char *name, const char *text, size_t n, bool whole, int *code, char *why,
                  size_t size);

/* Words for what is wrong, which may quote texts of the file: control characters, which a terminal
 * would obey, become '?'. Returns the code. */
int json_fail(int code, char *why, size_t size, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
