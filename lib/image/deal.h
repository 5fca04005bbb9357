/* deal.h - dealing patients (or slices) into folds. */
#ifndef DEAL_H
#define DEAL_H

#include <stdint.h>

/* Deals n items into k folds: fold[i] for item i. The numbers of items of two folds differ by one
 * at most; the sums of their weights are kept close: after a shuffle by the seed, each next k items
 * go one to a fold, the heaviest to the fold that is lightest so far. The same items in the same
 * order and the same seed give the same folds. `order` and `load` are scratch for n and 2 k
 * numbers. */
void img_deal(const uint64_t *weight, uint32_t n, uint32_t k, uint64_t seed, uint32_t *fold,
              uint32_t *order, uint64_t *load);

#endif
