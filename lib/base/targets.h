/* targets.h - what a network's outputs stand for: classes, one for each label; or regions, sets of
 * labels that may overlap, each with a probability of its own.
 *
 * Regions are a text, in their order: NAME=LABEL,LABEL,... with ; between. A prediction begins with
 * 0, and one region after another, where it is likelier than not, paints its label over what was
 * there: the one label that it holds and no later region does, or the one behind a colon. So
 *
 *     wt=1,2,3;tc=1,3;et=3
 *
 * paints 2, then 1, then 3, and a whole tumour alone is wt=1,2,3:2. */
#ifndef TARGETS_H
#define TARGETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TARGETS_MAX 16 /* labels, and outputs */
#define TARGETS_NAME 16
#define TARGETS_TEXT 512

struct targets {
    int classes; /* labels, background included */
    int outputs;
    bool regions;                         /* else output k is label k */
    unsigned labels[TARGETS_MAX];         /* of an output: bit l for label l */
    uint16_t of[TARGETS_MAX];             /* of a label: bit k for output k */
    uint8_t paints[TARGETS_MAX];          /* of an output: the label */
    char name[TARGETS_MAX][TARGETS_NAME]; /* of a region */
};

/* Of classes from 0 to classes - 1; of regions, where the text is not empty: 0, or -1 with what is
 * wrong with it in `why`. */
int targets_make(struct targets *, int classes, const char *regions, char *why, size_t size);

/* What probabilities predict for n pixels, those of output k from prob[k * n] on: the class of the
 * largest, the first of equals; or what regions paint. */
void targets_predict(const struct targets *, const float *prob, size_t n, uint8_t *pred);

#endif
