/* plan.c - chooses what a network keeps, so that it fits a ceiling at the least cost.
 *
 * Training has these ways to need less, and takes whichever frees the most of what is too much for
 * its cost, one at a time, until the plan fits. Without a ceiling it takes those that cost next to
 * nothing, down to 87 % of what keeping everything would need; where they do not reach that, it
 * keeps everything.
 *
 * - a map is recomputed when the backward pass needs it, and not kept: exact, at the cost of its
 *   operation (next to nothing for a pooling or the first convolution);
 * - a map is kept as bfloat16: at no time, but the gradient loses precision, so it is charged as
 *   much as a convolution of some 70 channels;
 * - at last, the moments are kept as bfloat16 (stochastically rounded).
 *
 * A parameter's gradient is used up as soon as it is whole unless something needs all of them at
 * once (clipping, or options.gradients); or added to the whole (options.accumulate). */
#include "lib/nn/plan.h"

#include "lib/kernels/product.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In flops for each element of a map. */
#define MEMORY_COST 200.0 /* of writing it, and of reading it: a flop takes what 1/800 ns takes */
#define NARROW_COST 1500.0

#define NOTHING 0.012 /* of a forward pass */
#define WITHOUT_CEILING 0.87

/* Of making an operation's map. */
static double cost_of(const struct plan *p, const struct op *op)
{
    if (op->out < 0 || p->g->value[op->out].root != op->out)
        return 0;
    struct nn_shape s = nn_shape_of(&p->g->value[op->out], &p->size);
    return p->groups * (nn_flops(p, op) + MEMORY_COST * (double)nn_pixels(&s) * kr_pad(s.c));
}

/* What is in use at each step, to p->live. */
static void live(struct plan *p)
{
    memset(p->live, 0, (size_t)p->steps * sizeof *p->live);
    for (int i = 0; i < p->buffers; i++) {
        const struct buffer *b = &p->buffer[i];
        p->live[b->first] += b->bytes;
        if (b->last + 1 < p->steps)
            p->live[b->last + 1] -= b->bytes;
    }
    for (int s = 1; s < p->steps; s++)
        p->live[s] += p->live[s - 1];
}

/* What is too much, summed over the steps. */
static double excess(struct plan *p, size_t room)
{
    double sum = 0;
    live(p);
    for (int s = 0; s < p->steps; s++)
        sum += p->live[s] > room ? (double)(p->live[s] - room) : 0;
    return sum;
}

/* What freeing `bytes` from step `from` to step `to` takes off that, for each flop that it costs; 0
 * where that cannot be above `least`. */
static double relief(const struct plan *p, size_t room, int from, int to, size_t bytes, double cost,
                     double least)
{
    double sum = 0;
    if ((double)bytes * (to - from + 1) / cost <= least)
        return 0;
    for (int s = from; s <= to; s++)
        if (p->live[s] > room)
            sum += p->live[s] - room < bytes ? (double)(p->live[s] - room) : (double)bytes;
    return sum / cost;
}

struct best {
    bool *flag, *useless;
    double worth;
};

/* The best choice that has not been made nor found useless. Below a limit to the cost none that
 * loses precision. */
static struct best best(struct plan *p, size_t room, double most, struct plan_choice *useless)
{
    struct best c = {NULL, NULL, 0};
    live(p);
    for (int i = 0; i < p->g->values; i++) {
        const struct value *v = &p->g->value[i];
        const struct plan_value *pv = &p->value[i];
        struct plan_choice *choice = &p->choice[i];
        if (pv->map < 0 || v->planes)
            continue;
        const struct op *op = &p->g->op[v->writer];
        const struct buffer *b = &p->buffer[pv->map];
        double cost = p->op[op->id].cost;
        if (!choice->recompute && !useless[i].recompute && pv->idle[1] >= 0 && cost <= most) {
            double worth =
                relief(p, room, pv->idle[0] + 1, pv->idle[1] - 1, b->bytes, cost, c.worth);
            if (worth > c.worth)
                c = (struct best){&choice->recompute, &useless[i].recompute, worth};
        }
        cost = NARROW_COST * (double)b->bytes / 4;
        if (!nn_narrow(p, i) && !useless[i].narrow && nn_may_narrow(p, i) && isinf(most)) {
            double worth = relief(p, room, b->first, b->last, b->bytes / 2, cost, c.worth);
            if (worth > c.worth)
                c = (struct best){&choice->narrow, &useless[i].narrow, worth};
        }
    }
    return c;
}

/* Makes each choice that brings the steps nearer to the goal and costs at most `most`. Whether none
 * has more than that in the end. */
static bool press(struct plan *p, size_t goal, double most, struct plan_choice *useless)
{
    double now = excess(p, goal);
    for (struct best c; (c = best(p, goal, most, useless)).flag;) {
        *c.flag = true;
        nn_schedule(p);
        double then = excess(p, goal);
        if (then < now) {
            now = then;
            continue;
        }
        *c.flag = false;
        *c.useless = true;
        nn_schedule(p);
    }
    return now == 0;
}

/* Shrinks the plan until its buffers have room, or as far as they will, by choices that cost at
 * most `most` each. */
static void shrink(struct plan *p, size_t room, double most)
{
    size_t bytes = (size_t)p->g->values * sizeof *p->choice;
    struct plan_choice *useless = calloc(1, bytes + 1);
    memset(p->choice, 0, bytes);
    nn_schedule(p);
    /* Gaps between buffers may ask for somewhat less than the room. */
    for (size_t goal = room;; goal -= goal / 64) {
        bool all = useless && press(p, goal, most, useless);
        nn_place(p);
        if (p->extent <= room || goal < 64 || !all)
            break;
    }
    free(useless);
}

/* Of the process, in bytes. */
static size_t peak(const struct plans *s)
{
    size_t maps = s->eval.extent;
    if (s->train.learn && s->train.extent > maps)
        maps = s->train.extent;
    return nn_peak(s->eval.opt, s->rest[s->moments_narrow] + maps);
}

/* Whether the plan can be made to fit, with moments as they are chosen. */
static bool fits(struct plans *s, size_t ceiling)
{
    size_t rest = s->rest[s->moments_narrow];
    if (s->train.learn)
        shrink(&s->train, rest < ceiling ? ceiling - rest : 0, INFINITY);
    return peak(s) <= ceiling;
}

static size_t whole_mib(size_t bytes)
{
    return (bytes + (1 << 20) - 1) >> 20;
}

/* Makes the plan as tight as it will get. That is not always what the tightest room leads to, so
 * rooms below what was reached are tried too, for 1, 4, 16... MiB less of the process. */
static void tighten(struct plans *s)
{
    struct plan *p = &s->train;
    size_t rest = s->rest[s->moments_narrow], best = 0, less = 1;
    shrink(p, best, INFINITY);
    for (size_t least = p->extent; less << 20 < least / 4;) {
        size_t room = ((whole_mib(rest + least) - less) << 20) - rest;
        shrink(p, room, INFINITY);
        less *= 4;
        if (p->extent < least) {
            least = p->extent;
            best = room;
            less = 1;
        }
    }
    shrink(p, best, INFINITY);
}

/* Gives each step of a plan its threads, of which `products` may compute products. The buffers have
 * their places for `base` threads, within `room`. */
static void spread(struct plan *p, int base, int products, size_t room)
{
    int tries = 8;
    live(p);
    for (size_t goal = room;; goal -= goal / 64, tries--) {
        for (int i = 0; i < p->steps; i++) {
            struct step *step = &p->step[i];
            int all = p->g->op[step->op].kind->products ? products : p->opt->threads;
            step->threads = tries ? all : all < base ? all : base;
            if (step->workspace < 0)
                continue;
            struct buffer *b = &p->buffer[step->workspace];
            size_t others = p->live[i] - nn_wants(p, step, base);
            while (step->threads > base && others + nn_wants(p, step, step->threads) > goal)
                step->threads--;
            b->bytes = nn_wants(p, step, tries ? step->threads : base);
        }
        nn_place(p);
        if (p->extent <= room || !tries)
            return;
    }
}

/* As many threads for products as there are and as `left` bytes have room for, beside those that
 * the choices were made for. */
static int spread_products(const struct plans *s, size_t left)
{
    int all = s->eval.opt->threads, base = s->products;
    if (all > KR_PRODUCT_THREADS)
        all = KR_PRODUCT_THREADS;
    left /= KR_PRODUCT_BYTES;
    return !base || all <= base || (size_t)(all - base) <= left ? all : base + (int)left;
}

int nn_plan(struct plans *s, char *why, size_t size)
{
    struct plan *p = &s->train;
    size_t ceiling = s->eval.opt->ceiling;
    nn_schedule(&s->eval);
    nn_place(&s->eval);
    if (p->learn) {
        double forward = 0;
        for (int i = 0; i < p->g->ops; i++)
            forward += p->op[i].cost = cost_of(p, &p->g->op[i]);
        nn_schedule(p);
        nn_place(p);
        size_t room = (size_t)(WITHOUT_CEILING * (double)p->extent);
        shrink(p, room, NOTHING * forward);
        if (p->extent > room)
            shrink(p, SIZE_MAX, 0);
    }
    bool fit = !ceiling || peak(s) <= ceiling || fits(s, ceiling);
    if (!fit) {
        s->moments_narrow = true;
        fit = fits(s, ceiling);
    }
    if (!fit && p->learn) {
        tighten(s);
        fit = peak(s) <= ceiling;
    }
    if (!fit) {
        snprintf(why, size, "does not fit in %zu MiB (at least %zu MiB are needed)", ceiling >> 20,
                 whole_mib(peak(s)));
        return NN_EMEM;
    }
    int base = s->products;
    s->products = spread_products(s, ceiling ? ceiling - peak(s) : SIZE_MAX);
    size_t room = ceiling ? ceiling - s->rest[s->moments_narrow] : SIZE_MAX;
    if (ceiling && base && s->products > base)
        room -= (size_t)(s->products - base) * KR_PRODUCT_BYTES;
    spread(&s->eval, nn_base_threads(false), s->products, room);
    if (p->learn)
        spread(p, nn_base_threads(true), s->products, room);
    return 0;
}
