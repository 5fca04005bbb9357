/* entropy.h - how sure probabilities are. */
#ifndef ENTROPY_H
#define ENTROPY_H

#include "lib/base/targets.h"

/* For n pixels, the probabilities of output k from prob[k * n] on: 0 where one class is certain, 1
 * where all are alike. Of classes it is their entropy, divided by the greatest that so many can
 * have; of regions the mean of theirs, each likely or not by itself. The same on every machine. */
void img_entropy(const struct targets *, const float *prob, size_t n, float *out);

#endif
