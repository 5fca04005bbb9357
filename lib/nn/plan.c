/* plan.c - chooses what a network keeps, so that it fits a ceiling at the least cost.
 *
 * Training has these ways to need less, and takes whichever frees the most of what is too much for
 * its cost, one at a time, until the plan fits. Without a ceiling it takes those that cost next to
 * nothing, down to 87 % of what keeping everything would need; where they do not reach that, it
 * keeps everything.
 *
 * - a map is dropped after the forward pass and made again when the backward pass needs it: exact,
 *   at the cost of its operation (next to nothing for a pooling or the first convolution);
 * - a map is kept as bfloat16: at no time, but the gradient loses precision, so it is charged as
 *   much as a convolution of some 70 channels;
 * - at last, the moments are kept as bfloat16 (stochastically rounded).
 *
 * A parameter's gradient is used up as soon as it is whole unless something needs all of them at
 * once (clipping, or options.gradients). */
#include "lib/nn/net.h"

#include <math.h>
#include <string.h>

/* In flops for each element of a map. */
#define MEMORY_COST 200.0 /* of writing it, and of reading it: a flop takes what 1/800 ns takes */
#define NARROW_COST 1500.0

/* The choices must be the same for any number of threads, so they are made as if there were these
 * many; then each step gets as many as there are and it has room for. */
#define THREADS 2

#define NOTHING 0.012 /* of a forward pass */
#define WITHOUT_CEILING 0.87

double nn_flops(const struct nn *nn, const struct plan *p, const struct op *op)
{
    double pixels =
        (double)p->n * (p->h >> nn->g.value[op->out].level) * (p->w >> nn->g.value[op->out].level);
    return op->kind->flops ? pixels * op->kind->flops(&nn->g, op) : 0;
}

/* Of making an operation's map. */
static double cost_of(const struct nn *nn, const struct plan *p, const struct op *op)
{
    const struct value *v = &nn->g.value[op->out];
    double pixels = (double)p->n * (p->h >> v->level) * (p->w >> v->level);
    return op->kind->view ? 0 : nn_flops(nn, p, op) + MEMORY_COST * pixels * kr_pad(v->c);
}

static size_t live(const struct plan *p, size_t at_step[MAX_STEPS])
{
    size_t most = 0;
    memset(at_step, 0, MAX_STEPS * sizeof *at_step);
    for (int i = 0; i < p->buffers; i++)
        for (int s = p->buffer[i].first; s <= p->buffer[i].last; s++)
            at_step[s] += p->buffer[i].bytes;
    for (int s = 0; s < p->steps; s++)
        most = at_step[s] > most ? at_step[s] : most;
    return most;
}

/* What is too much, summed over the steps. */
static double excess(const struct plan *p, size_t room)
{
    size_t at_step[MAX_STEPS];
    double sum = 0;
    live(p, at_step);
    for (int s = 0; s < p->steps; s++)
        sum += at_step[s] > room ? (double)(at_step[s] - room) : 0;
    return sum;
}

/* What freeing `bytes` from step `from` to step `to` takes off that. */
static double relief(const size_t at_step[MAX_STEPS], size_t room, int from, int to, size_t bytes)
{
    double sum = 0;
    for (int s = from; s <= to; s++)
        if (at_step[s] > room)
            sum += at_step[s] - room < bytes ? (double)(at_step[s] - room) : (double)bytes;
    return sum;
}

struct choice {
    bool *flag;
    double worth;
};

/* The best choice that has not been made nor found useless. Below a limit to the cost none that
 * loses precision. */
static struct choice best(const struct nn *nn, struct plan *p, size_t room, double most,
                          const bool useless[2][MAX_VALUES])
{
    struct choice c = {NULL, 0};
    size_t at_step[MAX_STEPS];
    live(p, at_step);
    for (int v = 0; v < nn->g.values; v++) {
        if (p->map[v] < 0 || nn->g.value[v].planes)
            continue;
        const struct op *op = &nn->g.op[nn->g.value[v].writer];
        const struct buffer *b = &p->buffer[p->map[v]];
        double cost = cost_of(nn, p, op);
        if (!p->drop[v] && !useless[0][v] && p->idle[v][1] >= 0 && cost <= most) {
            double worth = relief(at_step, room, p->idle[v][0] + 1, p->idle[v][1] - 1, b->bytes);
            if (worth / cost > c.worth)
                c = (struct choice){&p->drop[v], worth / cost};
        }
        cost = NARROW_COST * (double)b->bytes / 4;
        if (!p->narrow[v] && !useless[1][v] && op->kind->narrow && isinf(most)) {
            double worth = relief(at_step, room, b->first, b->last, b->bytes / 2);
            if (worth / cost > c.worth)
                c = (struct choice){&p->narrow[v], worth / cost};
        }
    }
    return c;
}

/* Shrinks the plan until its buffers have room, or as far as they will, by choices that cost at
 * most `most` each. */
static void shrink(struct nn *nn, struct plan *p, size_t room, double most)
{
    bool useless[2][MAX_VALUES] = {{false}};
    memset(p->drop, 0, sizeof p->drop);
    memset(p->narrow, 0, sizeof p->narrow);
    nn_schedule(nn, p);
    nn_place(p);
    /* Gaps between buffers may ask for somewhat less than the room. */
    for (size_t goal = room; p->extent > room; goal -= goal / 64) {
        double now = excess(p, goal);
        for (;;) {
            struct choice c = best(nn, p, goal, most, useless);
            if (!c.flag)
                break;
            *c.flag = true;
            nn_schedule(nn, p);
            double then = excess(p, goal);
            if (then < now) {
                now = then;
                continue;
            }
            *c.flag = false;
            if (c.flag >= p->narrow)
                useless[1][c.flag - p->narrow] = true;
            else
                useless[0][c.flag - p->drop] = true;
            nn_schedule(nn, p);
        }
        nn_place(p);
        if (goal < 64 || now > 0)
            break;
    }
}

/* Whether the plan can be made to fit, with moments as they are chosen. */
static bool fits(struct nn *nn, size_t ceiling)
{
    if (!nn->opt.train)
        return nn_measure(nn) <= ceiling;
    nn->train.extent = 0;
    size_t rest = nn_measure(nn) - nn->memory.maps;
    shrink(nn, &nn->train, rest < ceiling ? ceiling - rest : 0, INFINITY);
    return nn_measure(nn) <= ceiling;
}

/* The smallest ceiling, in whole MiB, that fits. */
static size_t least(struct nn *nn)
{
    fits(nn, 0);
    size_t low = 0, high = (nn_measure(nn) + (1 << 20) - 1) >> 20;
    while (nn->opt.train && high - low > 1) {
        size_t middle = low + (high - low) / 2;
        *(fits(nn, middle << 20) ? &high : &low) = middle;
    }
    while (!fits(nn, high << 20)) /* the first was only a guess */
        high++;
    return high;
}

/* Gives each step of a plan its threads. The buffers have their places for `base` threads, within
 * `room`. */
static void spread(struct nn *nn, struct plan *p, int base, size_t room)
{
    size_t at_step[MAX_STEPS];
    int all = nn->opt.threads, tries = 8;
    nn->now = p;
    live(p, at_step);
    for (size_t goal = room;; goal -= goal / 64, tries--) {
        for (int s = 0; s < p->steps; s++) {
            struct step *step = &p->step[s];
            step->threads = tries ? all : all < base ? all : base;
            if (step->workspace < 0)
                continue;
            struct buffer *b = &p->buffer[step->workspace];
            size_t others = at_step[s] - nn_wants(nn, p, step, base);
            while (step->threads > base && others + nn_wants(nn, p, step, step->threads) > goal)
                step->threads--;
            b->bytes = nn_wants(nn, p, step, tries ? step->threads : base);
        }
        nn_place(p);
        if (p->extent <= room || !tries)
            return;
    }
}

int nn_plan(struct nn *nn)
{
    const struct nn_options *o = &nn->opt;
    struct plan *p = &nn->train;
    nn->stepwise = o->train && !o->gradients && o->training.clip == 0;
    nn->eval.n = o->eval_n, nn->eval.h = o->eval_h, nn->eval.w = o->eval_w;
    nn->threads = 1;
    nn_schedule(nn, &nn->eval);
    nn_place(&nn->eval);
    if (o->train) {
        nn->threads = THREADS;
        p->learn = true;
        p->n = o->n, p->h = o->h, p->w = o->w;
        double forward = 0;
        for (int i = 0; i < nn->g.ops; i++)
            forward += nn->g.op[i].out >= 0 ? cost_of(nn, p, &nn->g.op[i]) : 0;
        nn_schedule(nn, p);
        nn_place(p);
        size_t room = (size_t)(WITHOUT_CEILING * (double)p->extent);
        shrink(nn, p, room, NOTHING * forward);
        if (p->extent > room)
            shrink(nn, p, SIZE_MAX, 0);
    }
    bool fit = !o->ceiling || nn_measure(nn) <= o->ceiling || fits(nn, o->ceiling);
    if (!fit) {
        nn->moments_narrow = true;
        fit = fits(nn, o->ceiling);
    }
    if (!fit)
        return nn_fail(nn, NN_EMEM, "does not fit in %zu MiB (at least %zu MiB are needed)",
                       o->ceiling >> 20, least(nn));
    size_t rest = nn_measure(nn) - nn->memory.maps;
    size_t room = o->ceiling ? o->ceiling - rest : SIZE_MAX;
    spread(nn, &nn->eval, 1, room);
    if (o->train)
        spread(nn, p, THREADS, room);
    nn_measure(nn);
    return 0;
}
