/* compare.h - between the parts of compare: compare.c reads tables, compare_lines.c sets them side
 * by side. */
#ifndef COMPARE_H
#define COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/names.h"

/* What is asked for, and the values. A series is one metric of one part; behind those of the parts
 * of a metric comes the mean of them all, where there are several. A unit is a case or patient. */
struct compared {
    bool json, baseline, by_patient;
    uint64_t seed;
    struct names metrics, parts, tables, units, sites;
    uint32_t *site; /* of each unit, or NULL */
    double **value; /* of each table: units times series, NaN where there is none */
    char **has;     /* of each table: the unit was there */
};

static inline uint32_t parts_of(const struct compared *c)
{
    return c->parts.count + (c->parts.count > 1);
}

static inline uint32_t series_of(const struct compared *c)
{
    return c->metrics.count * parts_of(c);
}

/* Names what has no partner, and writes the table. */
void compare_write(const struct compared *);

#endif
