/* Heavy and light patients are dealt in turn: numbers differ by one at most, sums as little as
 * that leaves. */
#include "lib/image/deal.h"

#include "lib/base/rng.h"

/* Moves the heaviest of order[0..n-1] to the front; the first of equals. */
static void heaviest_first(const uint64_t *weight, uint32_t *order, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (weight[order[i]] > weight[order[best]])
            best = i;
    uint32_t chosen = order[best];
    for (; best > 0; best--)
        order[best] = order[best - 1];
    order[0] = chosen;
}

void img_deal(const uint64_t *weight, uint32_t n, uint32_t k, uint64_t seed, uint32_t *fold,
              uint32_t *order, uint64_t *load)
{
    struct rng r = rng_seed(seed);
    rng_mix_text(&r, "folds");
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    rng_shuffle(&r, order, n);
    uint64_t *had = load + k, rounds = 0; /* the round in which a fold got its last item */
    for (uint32_t f = 0; f < 2 * k; f++)
        load[f] = 0;
    for (uint32_t at = 0; at < n; at += k) {
        uint32_t round = n - at < k ? n - at : k;
        rounds++;
        for (uint32_t i = 0; i < round; i++) {
            uint32_t best = k;
            heaviest_first(weight, order + at + i, round - i);
            for (uint32_t f = 0; f < k; f++)
                if (had[f] != rounds && (best == k || load[f] < load[best]))
                    best = f;
            fold[order[at + i]] = best;
            load[best] += weight[order[at + i]];
            had[best] = rounds;
        }
    }
}
