/* Every scan has keys, its patient's name and each fingerprint, and a set of all keys finds in one
 * step whom another scan meets. */
#include "formats/ledger.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define NOBODY "0000000000000000"
enum { PRINT = sizeof NOBODY - 1 };

/* A name as it is compared, to be freed; NULL if memory is short. */
static char *folded(const char *name)
{
    utf8proc_uint8_t *text = NULL;
    utf8proc_ssize_t e = utf8proc_map((const utf8proc_uint8_t *)name, 0, &text,
                                      UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_COMPOSE |
                                          UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE);
    char *from = e == UTF8PROC_ERROR_NOMEM ? NULL
                 : e < 0                   ? strdup(name) /* no UTF-8: as it is */
                                           : (char *)text;
    if (!from)
        return NULL;
    size_t head = strspn(from, " \t"), n = strlen(from + head);
    while (n && strchr(" \t", from[head + n - 1]))
        n--;
    memmove(from, from + head, n);
    from[n] = 0;
    return from;
}

/* The i-th key of a scan: the name, then its fingerprints. 1; 0 for one that is nobody's; -1 after
 * the last, -2 if memory is short (*key is NULL then, else it is to be freed). */
static int scan_key(const char *patient, const char *prints, int i, char **key)
{
    if (i == 0) {
        char *name = folded(patient);
        *key = name ? malloc(strlen(name) + 2) : NULL;
        if (*key)
            sprintf(*key, "n%s", name);
        free(name);
        return *key ? 1 : -2;
    }
    *key = NULL;
    for (; prints && *prints && i > 1; i--)
        prints += strcspn(prints, ",") + (prints[strcspn(prints, ",")] == ',');
    if (!prints || !*prints)
        return -1;
    int n = (int)strcspn(prints, ",");
    if (n != PRINT || !strncmp(prints, NOBODY, PRINT))
        return 0;
    return asprintf(key, "v%.*s", n, prints) < 0 ? (*key = NULL, -2) : 1;
}

static int add_key(struct ledger *l, const char *key, uint32_t who)
{
    uint32_t known = l->key.count, i = names_add(&l->key, key);
    if (i == NAMES_NONE)
        return -1;
    if (i < known)
        return 0;
    if (i >= l->room) {
        uint32_t room = l->room ? 2 * l->room : 64, *p = realloc(l->owner, room * sizeof *p);
        if (!p)
            return -1;
        l->owner = p;
        l->room = room;
    }
    l->owner[i] = who;
    return 0;
}

/* The number of a patient, new or not. */
static uint32_t add_patient(struct ledger *l, const char *patient)
{
    uint32_t known = l->people.count, i = names_add(&l->people, patient);
    if (i == NAMES_NONE || i < known)
        return i;
    if (i >= l->same_room) {
        uint32_t room = l->same_room ? 2 * l->same_room : 64,
                 *p = realloc(l->same, room * sizeof *p);
        if (!p)
            return NAMES_NONE;
        l->same = p;
        l->same_room = room;
    }
    l->same[i] = i;
    return i;
}

static int add_keys(struct ledger *l, const char *patient, const char *prints, uint32_t who)
{
    char *key;
    int e = 0, k = 0;
    for (int i = 0; !e && (k = scan_key(patient, prints, i, &key)) >= 0; i++) {
        e = k ? add_key(l, key, who) : 0;
        free(key);
    }
    return k == -2 ? -1 : e;
}

/* How many fingerprints a text of that length is. */
static uint32_t prints_in(size_t length)
{
    return (uint32_t)((length + PRINT) / (PRINT + 1));
}

int ledger_add(struct ledger *l, const char *patient, const char *prints)
{
    char *line = NULL;
    int e = -1;
    if (asprintf(&line, "%s\t%s", prints ? prints : "", patient) < 0)
        return -1;
    if (names_find(&l->scans, line) != NAMES_NONE) {
        free(line);
        return 0;
    }
    uint32_t who = add_patient(l, patient);
    if (l->scans.count < LEDGER_MAX && who != NAMES_NONE &&
        names_add(&l->scans, line) != NAMES_NONE)
        e = 0;
    l->size.scans++;
    l->size.prints += prints_in(prints ? strlen(prints) : 0);
    l->size.bytes += strlen(line);
    free(line);
    return e ? -1 : add_keys(l, patient, prints, who);
}

int ledger_tie(struct ledger *l, const char *patient, const char *prints, const char *other)
{
    return add_keys(l, patient, prints, names_find(&l->people, other));
}

bool ledger_blind(const struct ledger *l)
{
    for (uint32_t i = 0; i < l->scans.count; i++)
        if (*names_text(&l->scans, i) == '\t')
            return true;
    return false;
}

int ledger_add_lines(struct ledger *l, const char *patients, const char *scans)
{
    const char *texts[] = {scans ? scans : "", patients};
    int e = 0;
    for (int t = 0; t < 2; t++)
        for (const char *p = texts[t]; *p && !e; p += strcspn(p, "\n"), p += *p == '\n') {
            char *line = strndup(p, strcspn(p, "\n")),
                 *tab = line && !t ? strchr(line, '\t') : NULL;
            if (tab)
                *tab = 0;
            if (!line)
                e = -1;
            else if (tab || (*line && names_find(&l->people, line) == NAMES_NONE))
                e = ledger_add(l, tab ? tab + 1 : line, tab ? line : NULL);
            free(line);
        }
    return e;
}

/* --- text and memory ---------------------------------------------------------------------------*/

static int by_text(const void *a, const void *b, void *names)
{
    return strcmp(names_text(names, *(const uint32_t *)a), names_text(names, *(const uint32_t *)b));
}

static char *sorted(const struct names *n, char separator)
{
    uint32_t *order = malloc((n->count + 1) * sizeof *order);
    char *text = malloc(n->len + 1), *to = text;
    for (uint32_t i = 0; order && i < n->count; i++)
        order[i] = i;
    if (order && text) {
        qsort_r(order, n->count, sizeof *order, by_text, (void *)(uintptr_t)n);
        for (uint32_t i = 0; i < n->count; i++) {
            to = stpcpy(to, names_text(n, order[i]));
            *to++ = separator;
        }
        to[to > text ? -1 : 0] = 0;
    } else {
        free(text);
        text = NULL;
    }
    free(order);
    return text;
}

char *ledger_patients(const struct ledger *l, char separator)
{
    return sorted(&l->people, separator);
}

char *ledger_scans(const struct ledger *l)
{
    return sorted(&l->scans, '\n');
}

struct ledger_size ledger_size_of(const char *patients, const char *scans)
{
    struct ledger_size s = {0};
    const char *text = scans && *scans ? scans : patients;
    for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        size_t prints = text == scans ? strcspn(p, "\t\n") : 0;
        s.scans++;
        s.prints += prints_in(prints);
    }
    s.bytes = strlen(text) + s.scans;
    return s;
}

int ledger_reserve(struct ledger *l, const struct ledger_size *s)
{
    size_t prints = (size_t)s->prints * PRINT, names = s->bytes > prints ? s->bytes - prints : 0;
    uint32_t *owner, *same;
    if (names_reserve(&l->scans, s->scans, s->bytes + s->scans) ||
        names_reserve(&l->people, s->scans, names + s->scans) ||
        names_reserve(&l->key, s->scans + s->prints,
                      prints + 2 * (size_t)s->prints + names + 2 * (size_t)s->scans) ||
        !(owner = realloc(l->owner, (l->key.at_room + 1) * sizeof *owner)))
        return -1;
    l->owner = owner;
    l->room = l->key.at_room + 1;
    if (!(same = realloc(l->same, (l->people.at_room + 1) * sizeof *same)))
        return -1;
    l->same = same;
    l->same_room = l->people.at_room + 1;
    return 0;
}

size_t ledger_memory(const struct ledger *l)
{
    return names_memory(&l->scans) + names_memory(&l->people) + names_memory(&l->key) +
           l->room * sizeof *l->owner + l->same_room * sizeof *l->same;
}

size_t ledger_text_bytes(const struct ledger_size *s)
{
    size_t prints = (size_t)s->prints * PRINT;
    return s->bytes + s->scans + (s->bytes > prints ? s->bytes - prints : 0) + s->scans;
}

size_t ledger_file_bytes(const struct ledger_size *s)
{
    return ledger_text_bytes(s) + 5 * 3 * (size_t)s->scans; /* "\u000a" */
}

/* --- who meets whom ----------------------------------------------------------------------------*/

bool ledger_next(const struct ledger *l, const char *patient, const char *prints, int *at,
                 struct meeting *m)
{
    char *key;
    int k;
    while ((k = scan_key(patient, prints, (*at)++, &key)) >= 0) {
        uint32_t i = k ? names_find(&l->key, key) : NAMES_NONE;
        free(key);
        if (i != NAMES_NONE) {
            *m = (struct meeting){names_text(&l->people, l->owner[i]), *at > 1};
            return true;
        }
    }
    if (k == -2)
        errx(1, "out of memory"); /* who cannot be looked for must not pass for unknown */
    return false;
}

bool ledger_meets(const struct ledger *l, const char *patient, const char *prints,
                  struct meeting *m)
{
    int at = 0;
    return ledger_next(l, patient, prints, &at, m);
}

static uint32_t one_of(const struct ledger *l, const char *patient)
{
    uint32_t i = names_find(&l->people, patient);
    while (l->same[i] != i)
        i = l->same[i];
    return i;
}

bool ledger_join(struct ledger *l, const char *patient, const char *other)
{
    uint32_t a = one_of(l, patient), b = one_of(l, other);
    if (strcmp(names_text(&l->people, a), names_text(&l->people, b)) < 0)
        l->same[b] = a;
    else
        l->same[a] = b;
    return a != b;
}

const char *ledger_one(const struct ledger *l, const char *patient)
{
    return names_text(&l->people, one_of(l, patient));
}

void ledger_words(const char *patient, const char *here_name, const struct meeting *m,
                  const char *there_name, char *words, size_t size)
{
    snprintf(words, size, "patient %.100s of %s is %.100s of %s: the same %s", patient, here_name,
             m->patient, there_name, m->voxels ? "voxels" : "name");
}

int ledger_shared(const struct ledger *here, const char *here_name, const struct ledger *there,
                  const char *there_name, char *words, size_t size)
{
    struct names shared = {0};
    const char *first = NULL;
    int n = 0;
    for (uint32_t i = 0; i < here->scans.count && n >= 0; i++) {
        const char *line = names_text(&here->scans, i), *tab = strchr(line, '\t');
        char *prints = strndup(line, (size_t)(tab - line));
        struct meeting m;
        if (!prints || ledger_meets(there, tab + 1, prints, &m)) {
            if (prints && (!first || strcmp(tab + 1, first) < 0)) {
                ledger_words(tab + 1, here_name, &m, there_name, words, size);
                first = tab + 1;
            }
            n = !prints || names_add(&shared, tab + 1) == NAMES_NONE ? -1 : (int)shared.count;
        }
        free(prints);
    }
    names_free(&shared);
    return n;
}

void ledger_free(struct ledger *l)
{
    names_free(&l->scans);
    names_free(&l->people);
    names_free(&l->key);
    free(l->owner);
    free(l->same);
    *l = (struct ledger){0};
}
