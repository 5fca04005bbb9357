/* targets.c - the text of regions, read and checked; what probabilities of them predict. */
#include "lib/base/targets.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reading {
    struct targets *t;
    bool said[TARGETS_MAX]; /* what the region paints, behind a colon */
    char *why;
    size_t size;
};

__attribute__((format(printf, 2, 3))) static int refuse(const struct reading *r, const char *fmt,
                                                        ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->why, r->size, fmt, ap);
    va_end(ap);
    return -1;
}

/* A label of the region in hand, whose digits *at stands before. */
static int label(const struct reading *r, const char **at)
{
    char *end;
    const char *name = r->t->name[r->t->outputs];
    unsigned long v = isdigit((unsigned char)**at) ? strtoul(*at, &end, 10) : 0;
    if (v < 1 || v >= (unsigned)r->t->classes)
        return refuse(r, "region '%s': (wanted labels from 1 to %d, got '%.*s')", name,
                      r->t->classes - 1, (int)strcspn(*at, ",:;") % 40, *at);
    *at = end;
    return (int)v;
}

static int region(struct reading *r, const char **at)
{
    struct targets *t = r->t;
    const int k = t->outputs;
    const size_t n = strcspn(*at, "=;");
    int l;
    if (k == TARGETS_MAX)
        return refuse(r, "(wanted at most %d regions)", TARGETS_MAX);
    if (!n || n >= TARGETS_NAME || (*at)[n] != '=' ||
        strspn(*at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != n)
        return refuse(r, "(wanted NAME=LABEL,LABEL... with ; between, got '%.40s')", *at);
    memcpy(t->name[k], *at, n);
    t->name[k][n] = 0;
    for (int i = 0; i < k; i++)
        if (!strcmp(t->name[i], t->name[k]))
            return refuse(r, "region '%s' stands twice", t->name[k]);
    *at += n;
    do {
        ++*at; /* = or , */
        if ((l = label(r, at)) < 0)
            return -1;
        if (t->labels[k] >> l & 1)
            return refuse(r, "region '%s': label %d stands twice", t->name[k], l);
        t->labels[k] |= 1u << l;
    } while (**at == ',');
    if (**at == ':') {
        ++*at;
        if ((l = label(r, at)) < 0)
            return -1;
        if (!(t->labels[k] >> l & 1))
            return refuse(r, "region '%s' paints label %d, which it does not hold", t->name[k], l);
        t->paints[k] = (uint8_t)l;
        r->said[k] = true;
    }
    if (**at && **at != ';')
        return refuse(r, "region '%s': (wanted labels with , between, got '%.40s')", t->name[k],
                      *at);
    *at += **at == ';';
    t->outputs++;
    return 0;
}

/* What each region paints where the text does not say. */
static int infer_paint(const struct reading *r)
{
    struct targets *t = r->t;
    unsigned later = 0;
    for (int k = t->outputs; k-- > 0; later |= t->labels[k]) {
        unsigned own = t->labels[k] & ~later;
        int l = 0;
        if (r->said[k])
            continue;
        if (!own || own & (own - 1))
            return refuse(
                r,
                "region '%s': %s of its labels is in no later region: which does it paint? "
                "(wanted :LABEL behind it)",
                t->name[k], own ? "more than one" : "none");
        while (!(own >> l & 1))
            l++;
        t->paints[k] = (uint8_t)l;
    }
    return 0;
}

int targets_make(struct targets *t, int classes, const char *regions, char *why, size_t size)
{
    struct reading r = {.t = t, .why = why, .size = size};
    *t = (struct targets){.classes = classes, .regions = *regions};
    if (classes < 1 || classes > TARGETS_MAX)
        return refuse(&r, "(wanted at most %d classes, got %d)", TARGETS_MAX, classes);
    if (strlen(regions) >= TARGETS_TEXT)
        return refuse(&r, "regions: too long (wanted less than %d bytes)", TARGETS_TEXT);
    for (; !t->regions && t->outputs < classes; t->outputs++)
        t->labels[t->outputs] = 1u << (t->paints[t->outputs] = (uint8_t)t->outputs);
    while (*regions)
        if (region(&r, &regions))
            return -1;
    for (int k = 0; k < t->outputs; k++)
        for (int l = 0; l < classes; l++)
            t->of[l] |= (uint16_t)((t->labels[k] >> l & 1) << k);
    return t->regions ? infer_paint(&r) : 0;
}

void targets_predict(const struct targets *t, const float *prob, size_t n, uint8_t *pred)
{
    for (size_t i = 0; i < n; i++) {
        int best = 0;
        for (int k = 1; !t->regions && k < t->outputs; k++)
            best = prob[(size_t)k * n + i] > prob[(size_t)best * n + i] ? k : best;
        pred[i] = t->regions ? 0 : t->paints[best];
        for (int k = 0; t->regions && k < t->outputs; k++)
            if (prob[(size_t)k * n + i] > 0.5f)
                pred[i] = t->paints[k];
    }
}
