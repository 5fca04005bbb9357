/* Random numbers: keys make them, not the order of draws; and they are spread as they should be. */
#include "lib/base/rng.h"
#include "tests/lib/tap.h"

#include <math.h>
#include <string.h>

enum { N = 50, DEALS = 4000 };

static uint32_t ids[N], drawn[2 * N];

static void number_ids(void)
{
    for (uint32_t i = 0; i < N; i++)
        ids[i] = i;
}

/* Each as often as its share says, rounded down or up in every deal, and on average. */
static void shares(uint32_t m)
{
    double weight[N], sum = 0, often[N] = {0}, worst = 0;
    int wrong = 0, beside = 0, twice = 0;
    for (int i = 0; i < N; i++) {
        weight[i] = i % 7 ? 1.0 / (1 + i % 5) : 0;
        sum += weight[i];
    }
    for (uint64_t seed = 0; seed < DEALS; seed++) {
        struct rng r = rng_seed(seed);
        double times[N] = {0};
        number_ids();
        rng_deal(&r, weight, ids, N, drawn, m);
        for (uint32_t k = 0; k < m; k++) {
            times[drawn[k]]++;
            beside += k && drawn[k] == drawn[k - 1];
        }
        for (int i = 0; i < N; i++) {
            double share = m * weight[i] / sum;
            wrong += times[i] < floor(share) || times[i] > ceil(share);
            often[i] += times[i] / DEALS;
            twice += times[i] > 1;
        }
    }
    for (int i = 0; i < N; i++)
        worst = fmax(worst, fabs(often[i] - m * weight[i] / sum));
    /* a count varies by less than 1, so its deviation is at most 0.5: five standard errors */
    ok(wrong == 0 && worst < 5 * 0.5 / sqrt(DEALS),
       "deal of %u: by weight, rounded down or up (%.4f off at most)", m, worst);
    ok(beside <= twice / 5, "deal of %u: what comes again does not come at once (%d of %d)", m,
       beside, twice);
}

static void evenly(void)
{
    double weight[N], at[2] = {0};
    int wrong = 0;
    for (int i = 0; i < N; i++)
        weight[i] = 1 / 3.0;
    for (uint64_t seed = 0; seed < DEALS; seed++) {
        struct rng r = rng_seed(seed);
        int times[N] = {0};
        number_ids();
        rng_deal(&r, weight, ids, N, drawn, N);
        for (int k = 0; k < N; k++) {
            times[drawn[k]]++;
            at[drawn[k] == 17] += k;
        }
        for (int i = 0; i < N; i++)
            wrong += times[i] != 1;
    }
    ok(wrong == 0, "deal: of equal weights each once");
    /* a place from 0 to 49 has a deviation of 14.4 */
    ok(fabs(at[1] / DEALS - 24.5) < 5 * 14.4 / sqrt(DEALS), "deal: in any place (%.2f)",
       at[1] / DEALS);
    uint32_t other[N];
    struct rng r = rng_seed(3), s = rng_seed(3);
    number_ids();
    rng_deal(&r, weight, ids, N, drawn, N);
    number_ids();
    rng_deal(&s, weight, ids, N, other, N);
    ok(!memcmp(drawn, other, sizeof other), "deal: the same key gives the same");
}

int main(void)
{
    shares(N);
    shares(11);
    shares(2 * N);
    evenly();
    return done_testing();
}
