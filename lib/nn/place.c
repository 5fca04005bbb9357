/* place.c - gives each buffer of a plan its place, so that those in use at once lie apart, and all
 * together take little. */
#include "lib/nn/plan.h"

#include <stdint.h>
#include <stdlib.h>

/* What decides the order of placing: the size, or the size times the steps it is in use, or the
 * first step. What lives for one step, as workspaces do, comes last. */
static double weight(const struct plan *p, const struct buffer *b, int rule)
{
    double w = rule == 0   ? (double)b->bytes
               : rule == 1 ? (double)b->bytes * (b->last - b->first + 1)
                           : (double)(p->steps - b->first + 1);
    return b->last > b->first ? w : w * 1e-12;
}

static int by_weight(const void *a, const void *b)
{
    const struct placing *x = a, *y = b;
    return x->weight != y->weight ? (x->weight < y->weight) - (x->weight > y->weight)
                                  : x->buffer - y->buffer;
}

/* Each buffer, in the rule's order, into the lowest gap that its lifetime leaves: so that the
 * workspaces of most steps are the same memory, which is in cache from the step before. */
static void place_by(struct plan *p, int rule)
{
    int *placed = p->scratch, n = 0;
    for (int i = 0; i < p->buffers; i++)
        p->placing[i] = (struct placing){weight(p, &p->buffer[i], rule), i};
    qsort(p->placing, (size_t)p->buffers, sizeof *p->placing, by_weight);
    p->extent = 0;
    for (int i = 0; i < p->buffers; i++) {
        int id = p->placing[i].buffer, j;
        struct buffer *b = &p->buffer[id];
        b->offset = 0;
        for (j = 0; j < n; j++) { /* placed[] is sorted by offset */
            const struct buffer *q = &p->buffer[placed[j]];
            if ((q->last < b->first) | (b->last < q->first)) /* a coin's toss: no branch */
                continue;
            if (q->offset >= b->offset + b->bytes)
                break;
            if (q->offset + q->bytes > b->offset)
                b->offset = q->offset + q->bytes;
        }
        for (j = n++; j > 0 && p->buffer[placed[j - 1]].offset > b->offset; j--)
            placed[j] = placed[j - 1];
        placed[j] = id;
        if (b->offset + b->bytes > p->extent)
            p->extent = b->offset + b->bytes;
    }
}

void nn_place(struct plan *p)
{
    int best = 0;
    size_t least = SIZE_MAX;
    for (int rule = 0; rule < 3; rule++) {
        place_by(p, rule);
        if (p->extent < least)
            least = p->extent, best = rule;
    }
    if (best < 2)
        place_by(p, best);
}
