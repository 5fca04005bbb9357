/* layout_list.c - the cases of all arguments of a tool. */
#include "formats/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/nifti.h"

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int each_once(const struct lay_list *l, char *why)
{
    const char **name = malloc((l->n + 1) * sizeof *name);
    size_t n = 0;
    int e = 0;

    if (!name) {
        snprintf(why, NII_WHY, "out of memory");
        return -1;
    }
    for (size_t p = 0; p < l->places; p++)
        for (size_t i = 0; i < l->place[p].n; i++)
            name[n++] = l->place[p].name[i];
    qsort(name, n, sizeof *name, by_text);
    for (size_t i = 1; i < n && !e; i++)
        if (!strcmp(name[i - 1], name[i])) {
            snprintf(why, NII_WHY, "case %s is named twice", name[i]);
            e = -1;
        }
    free(name);
    return e;
}

int lay_list(struct lay_list *l, enum layout layout, int arguments, char *const argument[],
             const char *const pattern[LAY_FILES], unsigned may_lack, char *why)
{
    *l = (struct lay_list){.place = calloc((size_t)arguments + 1, sizeof *l->place)};
    if (!l->place) {
        snprintf(why, NII_WHY, "out of memory");
        return -1;
    }
    for (; l->places < (size_t)arguments; l->places++) {
        struct lay_place *p = &l->place[l->places];
        if (lay_open(layout, argument[l->places], pattern, p, why))
            return -1;
        p->may_lack = may_lack;
        l->n += p->n;
    }
    return each_once(l, why);
}

int lay_list_case(const struct lay_list *l, size_t i, struct lay_case *c, char *why)
{
    size_t p = 0;

    for (; i >= l->place[p].n; p++)
        i -= l->place[p].n;
    return lay_case(&l->place[p], i, c, why);
}

void lay_list_free(struct lay_list *l)
{
    for (size_t p = 0; p < l->places; p++)
        lay_close(&l->place[p]);
    free(l->place);
    *l = (struct lay_list){0};
}
