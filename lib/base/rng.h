/* rng.h - random numbers that depend on a key alone, never on the order of calls.
 *
 * A key names what the numbers are for: (seed, patient, slice, epoch, operation). Two runs that use
 * the same key get the same numbers, on any machine and with any number of threads.
 * The generator is SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
 * generators", OOPSLA 2014); words of the key are mixed in one by one with its finaliser. */
#ifndef RNG_H
#define RNG_H

#include <stdint.h>

struct rng {
    uint64_t state;
};

/* Starts from a seed; then mix in what else belongs to the key. */
struct rng rng_seed(uint64_t seed);
void rng_mix(struct rng *, uint64_t word);
void rng_mix_text(struct rng *, const char *text);

uint64_t rng_u64(struct rng *);
double rng_uniform(struct rng *);                        /* [0, 1), 53 bits */
double rng_range(struct rng *, double lo, double hi);    /* [lo, hi) */
uint64_t rng_below(struct rng *, uint64_t n);            /* 0 .. n-1, unbiased; n > 0 */
double rng_normal(struct rng *);                         /* mean 0, deviation 1 (Box-Muller) */
void rng_shuffle(struct rng *, uint32_t *v, uint32_t n); /* Fisher-Yates, in place */

/* Draws m of n items (n > 0), weight[item] each, by systematic sampling: an item of the share s of
 * all weight is drawn as often as m s says, rounded down or up, and m s times on average. In random
 * order; v is shuffled. Weights are not negative, and one of the items has more than 0. */
void rng_deal(struct rng *, const double *weight, uint32_t *v, uint32_t n, uint32_t *drawn,
              uint32_t m);

#endif
