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

int ledger_add(struct ledger *l, const char *patient, const char *prints)
{
    char *line = NULL;
    int e = -1;
    if (asprintf(&line, "%s\t%s", prints ? prints : "", patient) < 0)
        return -1;
    if (model_names_has(&l->scans, line)) {
        free(line);
        return 0;
    }
    uint32_t who = add_patient(l, patient);
    if (l->scans.n < LEDGER_MAX && who != NAMES_NONE && !model_names_add(&l->scans, line))
        e = model_names_add(&l->patients, patient);
    free(line);
    return e ? -1 : add_keys(l, patient, prints, who);
}

int ledger_tie(struct ledger *l, const char *patient, const char *prints, const char *other)
{
    return add_keys(l, patient, prints, names_find(&l->people, other));
}

bool ledger_blind(const struct ledger *l)
{
    return l->scans.n && *l->scans.text[0] == '\t'; /* no digit or letter stands before it */
}

int ledger_add_lines(struct ledger *l, const char *patients, const char *scans)
{
    const char *texts[] = {scans ? scans : "", patients};
    int e = 0;
    for (int t = 0; t < 2; t++) {
        char *all = strdup(texts[t]), *state = NULL;
        e |= all ? 0 : -1;
        for (char *p = all ? strtok_r(all, "\n", &state) : NULL; p && !e;
             p = strtok_r(NULL, "\n", &state)) {
            char *tab = t ? NULL : strchr(p, '\t');
            if (tab)
                *tab = 0;
            if (tab || !model_names_has(&l->patients, p))
                e = ledger_add(l, tab ? tab + 1 : p, tab ? p : NULL);
        }
        free(all);
    }
    return e;
}

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
    struct model_names shared = {0};
    int n = 0;
    for (int i = 0; i < here->scans.n && n >= 0; i++) {
        char *prints = here->scans.text[i], *tab = strchr(prints, '\t');
        struct meeting m;
        *tab = 0;
        if (ledger_meets(there, tab + 1, prints, &m)) {
            if (!shared.n || strcmp(tab + 1, shared.text[0]) < 0)
                ledger_words(tab + 1, here_name, &m, there_name, words, size);
            n = model_names_add(&shared, tab + 1) ? -1 : shared.n;
        }
        *tab = '\t';
    }
    model_names_free(&shared);
    return n;
}

void ledger_free(struct ledger *l)
{
    model_names_free(&l->patients);
    model_names_free(&l->scans);
    names_free(&l->people);
    names_free(&l->key);
    free(l->owner);
    free(l->same);
    *l = (struct ledger){0};
}
