/* One word of state: a key is mixed in word by word, and what comes out is mixed once more. */
#include "lib/base/rng.h"

#include <math.h>

static uint64_t finalise(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

struct rng rng_seed(uint64_t seed)
{
    return (struct rng){finalise(seed + 0x9e3779b97f4a7c15u)};
}

void rng_mix(struct rng *r, uint64_t word)
{
    r->state = finalise((r->state + 0x9e3779b97f4a7c15u) ^ finalise(word + 0x632be59bd9b4e019u));
}

void rng_mix_text(struct rng *r, const char *text)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a; the finaliser does the mixing */
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        h = (h ^ *p) * 0x100000001b3u;
    rng_mix(r, h);
}

uint64_t rng_u64(struct rng *r)
{
    return finalise(r->state += 0x9e3779b97f4a7c15u);
}

double rng_uniform(struct rng *r)
{
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

double rng_range(struct rng *r, double lo, double hi)
{
    return lo + (hi - lo) * rng_uniform(r);
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;
    do
        x = rng_u64(r);
    while (x >= limit);
    return x % n;
}

double rng_normal(struct rng *r)
{
    double u = 1 - rng_uniform(r), v = rng_uniform(r);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

void rng_shuffle(struct rng *r, uint32_t *v, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)rng_below(r, i), t = v[i - 1];
        v[i - 1] = v[j];
        v[j] = t;
    }
}

void rng_deal(struct rng *r, const double *weight, uint32_t *v, uint32_t n, uint32_t *drawn,
              uint32_t m)
{
    double sum = 0, below = 0;
    uint32_t i = 0;
    rng_shuffle(r, v, n);
    for (uint32_t k = 0; k < n; k++)
        sum += weight[v[k]];
    /* Of 21 bits, so that k + start is exact, and never where shares that are whole meet. */
    double start = ((double)rng_below(r, 1 << 20) + 0.5) * 0x1p-20;
    for (uint32_t k = 0; k < m; k++) {
        double at = (k + start) * (sum / m);
        while (i < n - 1 && at >= below + weight[v[i]])
            below += weight[v[i++]];
        drawn[k] = v[i];
    }
    rng_shuffle(r, drawn, m);
}
