/* How sure probabilities are, beside the definition in double. */
#include "lib/image/entropy.h"
#include "lib/base/rng.h"
#include "tests/lib/tap.h"

#include <math.h>

enum { N = 1003, K = 4 }; /* pixels that 4 does not divide, outputs */

static double nats(double p)
{
    return p > 0 ? -p * log(p) : 0;
}

static void compare(const char *regions, const char *name)
{
    static float prob[K * N], expected[N + 1];
    struct targets t;
    struct rng r = rng_seed(3);
    char why[256];
    int e = targets_make(&t, K, regions, why, sizeof why), k = t.outputs;
    double worst = 0;
    for (int i = 0; i < N; i++) {
        double v[K], sum = 0, want = 0;
        for (int j = 0; j < k; j++)
            sum += v[j] = pow(rng_uniform(&r), 8);
        for (int j = 0; j < k; j++)
            prob[j * N + i] = (float)(t.regions ? v[j] : v[j] / sum);
        if (i < 2) /* certain, and all alike */
            for (int j = 0; j < k; j++)
                prob[j * N + i] = i == 0 ? (float)(j == 0) : t.regions ? 0.5f : 1.0f / (float)k;
        for (int j = 0; j < k; j++)
            want += t.regions ? (nats(prob[j * N + i]) + nats(1 - prob[j * N + i])) / k / log(2)
                              : nats(prob[j * N + i]) / log(k);
        expected[i] = (float)want;
    }
    static float out[N + 1];
    out[N] = 99;
    img_entropy(&t, prob, N, out);
    for (int i = 0; i < N; i++)
        worst = fmax(worst, fabs(out[i] - expected[i]));
    ok(!e && worst < 1e-6 && out[N] == 99, "%s: within %.1g of the definition", name, worst);
    ok(out[0] == 0 && out[1] <= 1 && out[1] > 1 - 1e-6f, "%s: 0 is certain, 1 is all alike", name);
}

int main(void)
{
    compare("", "classes");
    compare("wt=1,2,3;tc=1,3;et=3", "regions");
    struct targets one;
    float prob[] = {1, 1}, out[2];
    char why[256];
    ok(!targets_make(&one, 1, "", why, sizeof why), "one class");
    img_entropy(&one, prob, 2, out);
    ok(out[0] == 0 && out[1] == 0, "is always certain");
    return done_testing();
}
