/* One block of text, one table of places in it, one hash table that holds numbers: three
 * allocations however many names there are. */
#include "lib/base/names.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a: names are short, and an attacker who makes them collide only slows himself down. */
static uint32_t hash(const char *s)
{
    uint32_t h = 2166136261u;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 16777619u;
    return h;
}

const char *names_text(const struct names *n, uint32_t i)
{
    return n->text + n->at[i];
}

/* The slot that holds the text, or the free one where it belongs. */
static uint32_t *slot_of(const struct names *n, const char *text)
{
    uint32_t i = hash(text) & (n->slots - 1);
    while (n->slot[i] && strcmp(names_text(n, n->slot[i] - 1), text))
        i = (i + 1) & (n->slots - 1);
    return &n->slot[i];
}

uint32_t names_find(const struct names *n, const char *text)
{
    return n->slots ? *slot_of(n, text) - 1 : NAMES_NONE; /* 0 - 1 is NAMES_NONE */
}

static int grow(struct names *n)
{
    uint32_t slots = n->slots ? n->slots * 2 : 64;
    uint32_t *table = slots > n->slots ? calloc(slots, sizeof *table) : NULL;
    if (!table)
        return -1;
    free(n->slot);
    n->slot = table;
    n->slots = slots;
    for (uint32_t i = 0; i < n->count; i++)
        *slot_of(n, names_text(n, i)) = i + 1;
    return 0;
}

static int make_room(struct names *n, size_t room, uint32_t at_room)
{
    if (room > n->room) {
        char *p = realloc(n->text, room);
        if (!p)
            return -1;
        n->text = p;
        n->room = room;
    }
    if (at_room > n->at_room) {
        size_t *p = realloc(n->at, at_room * sizeof *p);
        if (!p)
            return -1;
        n->at = p;
        n->at_room = at_room;
    }
    return 0;
}

uint32_t names_add(struct names *n, const char *text)
{
    size_t len = strlen(text) + 1;
    uint32_t known = names_find(n, text);
    if (known != NAMES_NONE)
        return known;
    if ((n->count >= n->slots / 2 && grow(n)) ||
        (n->len + len > n->room && make_room(n, (n->len + len) * 2, 0)) ||
        (n->count == n->at_room && make_room(n, 0, n->at_room ? n->at_room * 2 : 64)))
        return NAMES_NONE;
    memcpy(n->text + n->len, text, len);
    n->at[n->count] = n->len;
    n->len += len;
    *slot_of(n, text) = n->count + 1;
    return n->count++;
}

int names_reserve(struct names *n, uint32_t count, size_t bytes)
{
    while (n->slots / 2 < n->count + count)
        if (grow(n))
            return -1;
    return make_room(n, n->len + bytes, n->count + count);
}

size_t names_memory(const struct names *n)
{
    return n->room + n->at_room * sizeof *n->at + n->slots * sizeof *n->slot;
}

void names_free(struct names *n)
{
    free(n->text);
    free(n->at);
    free(n->slot);
    memset(n, 0, sizeof *n);
}

/* Edits (insertions, deletions, replacements) between n bytes and a name. */
static size_t distance(const char *a, size_t n, const char *b)
{
    size_t row[64], m = strlen(b);
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 0; i < n; i++) {
        size_t corner = row[0];
        row[0] = i + 1;
        for (size_t j = 1; j <= m; j++) {
            size_t best = corner + (a[i] != b[j - 1]);
            corner = row[j];
            best = best < row[j] + 1 ? best : row[j] + 1;
            row[j] = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
        }
    }
    return row[m];
}

void names_try(struct names_near *near, const char *name)
{
    size_t edits = distance(near->to, strnlen(near->to, 63), name);
    if (!near->name || edits < near->edits) {
        near->name = name;
        near->edits = edits;
    }
}
