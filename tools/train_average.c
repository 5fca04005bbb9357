/* The average of the weights in train: of all steps, the older the less (ema), or the mean of the
 * weights behind each of the last epochs (average). Running statistics are averaged as weights are:
 * to compute them anew would take one more pass over a stream that is gone. */
#include "tools/train.h"

#include <math.h>

void average_take(struct run *run, struct nn *nn, const struct settings *s)
{
    double n = (double)run->averaged++;
    double kept = s->ema > 0 ? fmin(s->ema, (1 + n) / (10 + n)) : n / (n + 1);
    nn_average(nn, n > 0 ? 1 - kept : 1);
}

void average_show(const struct run *run, struct nn *nn, bool shown)
{
    if (run->averaged)
        nn_show_average(nn, shown);
}
