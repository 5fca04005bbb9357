/* tidy.h - between the parts of tidy: the filter, and the choice of rules. */
#ifndef TIDY_H
#define TIDY_H

#include "lib/metric/tidy.h"

/* Of each rule its option, which takes a volume or, where `always` is not 0, no argument. */
struct tidy_rule {
    char letter;
    double always;
    const char *name;
};
extern const struct tidy_rule tidy_rules[MET_RULES];

#define TIDY_MOST_MM3 1e9
#define TIDY_OPTIONS 256

/* The options in their one spelling; "" for no rule. */
void tidy_describe(const struct met_tidy *, char out[TIDY_OPTIONS]);

/* A case to choose by; nothing of it is kept but its tumour. */
void tidy_hold(const char *patient, const struct met_grid *, const uint8_t *label,
               const uint8_t *pred);
/* Tries the rules, and writes the table; as JSON nobody reads it again by -f. */
void tidy_choose(int neighbours, uint64_t seed, bool json);

#endif
