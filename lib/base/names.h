/* names.h - a set of texts, each with a number from 0 in the order in which it came. */
#ifndef NAMES_H
#define NAMES_H

#include <stddef.h>
#include <stdint.h>

struct names {
    char *text; /* all of them, each with its NUL */
    size_t len, room;
    size_t *at; /* where number i starts in text */
    uint32_t count, at_room;
    uint32_t *slot, slots; /* hash table of number + 1, 0 for free; slots is a power of two */
};

#define NAMES_NONE UINT32_MAX

/* The number of a text, added if it is new; NAMES_NONE if memory is short. A zeroed struct is an
 * empty set. */
uint32_t names_add(struct names *, const char *);

/* The number, or NAMES_NONE. */
uint32_t names_find(const struct names *, const char *);

/* Room for so many more texts of so many bytes, their NULs included: until they have come the set
 * takes no more memory. -1 if memory is short. */
int names_reserve(struct names *, uint32_t count, size_t bytes);
/* Bytes that it takes. */
size_t names_memory(const struct names *);

/* Valid until the next names_add. */
const char *names_text(const struct names *, uint32_t number);

void names_free(struct names *);

/* Which of some names is nearest to one that is none of them: its first 63 bytes count. */
struct names_near {
    const char *to, *name; /* NULL until the first is tried */
    size_t edits;
};

/* Tries a name, shorter than 64. */
void names_try(struct names_near *, const char *name);

#endif
