/* schedule.c - turns a graph and a plan's choices into steps, and each step's memory into buffers
 * with a lifetime.
 *
 * Forward, an operation reads its inputs' maps and writes its own. Backward, in reverse: a
 * normalisation turns the gradient of its map's view into that of the map, in place, and is the
 * last to read the map (or leaves both to the operation in front of it); an operation makes its
 * weights' gradient, then its inputs' (in that order, so that an input that was recomputed for the
 * first is gone before the second needs room), then its parameters take their step. A map that the
 * plan recomputes is made again just before its first reader. */
#include "lib/nn/plan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct state {
    struct plan *p;
    const struct graph *g;
    int threads;
    int *alive; /* the map's buffer now, or -1 */
    int *left;  /* readers that have not yet written its gradient */
    bool backward;
    const struct op *late; /* whose gradients are on their way, or NULL */
};

static int image(const struct plan *);

/* --- the tables ------------------------------------------------------------------------------- */

int nn_plan_new(struct plan *p, const struct graph *g, const struct nn_options *o, bool learn,
                const struct nn_size *size)
{
    *p = (struct plan){.g = g, .opt = o, .learn = learn, .size = *size};
    p->groups = learn ? o->groups.own : 1;
    p->stepwise = learn && (o->accumulate || p->groups > 1 || o->groups.narrow ||
                            o->hooks.gradient || (!o->gradients && o->training.clip == 0));
    size_t ops = (size_t)g->ops, values = (size_t)g->values + 1, params = (size_t)g->params + 1;
    p->step_room = (learn ? 7 : 1) * g->ops;
    p->buffer_room = (learn ? 7 : 4) * g->ops + 2 * g->params;
    size_t steps = (size_t)p->step_room, buffers = (size_t)p->buffer_room;
    p->bytes = steps * (sizeof *p->step + sizeof *p->live) +
               buffers * (sizeof *p->buffer + sizeof *p->placing + 2 * sizeof *p->scratch) +
               ops * sizeof *p->op +
               values * (sizeof *p->value + sizeof *p->choice + 2 * sizeof(int)) +
               (learn || !nn_flows(o) ? 0 : values * sizeof *p->flow) + 2 * params * sizeof(int);
    p->step = calloc(steps, sizeof *p->step);
    p->live = calloc(steps, sizeof *p->live);
    p->buffer = calloc(buffers, sizeof *p->buffer);
    p->placing = calloc(buffers, sizeof *p->placing);
    p->scratch = calloc(2 * buffers, sizeof *p->scratch);
    p->op = calloc(ops, sizeof *p->op);
    p->value = calloc(values, sizeof *p->value);
    p->choice = calloc(values, sizeof *p->choice);
    p->flow = learn || !nn_flows(o) ? NULL : calloc(values, sizeof *p->flow);
    p->dweight = calloc(params, sizeof *p->dweight);
    p->wide = calloc(params, sizeof *p->wide);
    if (p->flow)
        nn_windows(p);
    if (!learn && p->op && nn_groups(p))
        return -1;
    p->image = p->choice ? image(p) : -1;
    return p->step && p->live && p->buffer && p->placing && p->scratch && p->op && p->value &&
                   p->choice && p->dweight && p->wide && (p->flow || learn || !nn_flows(o))
               ? 0
               : -1;
}

void nn_plan_free(struct plan *p)
{
    void *all[] = {p->step,  p->live,   p->buffer, p->placing, p->scratch, p->op,
                   p->value, p->choice, p->flow,   p->dweight, p->wide};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
    *p = (struct plan){0};
}

struct nn_call nn_planned(const struct plan *p, const struct op *op, enum nn_pass pass,
                          const struct nn_size *size, int threads)
{
    const struct graph *g = p->g;
    struct nn_call c = nn_shapes(g, op, size);
    c.pass = pass;
    c.learn = p->learn;
    c.algo = p->opt->algo;
    c.bf16 = p->opt->bf16;
    c.training = &p->opt->training;
    c.targets = &p->opt->targets;
    c.threads = threads;
    if (p->flow)
        c.beside.before = nn_reach_of(op).before, c.beside.behind = nn_reach_of(op).behind;
    c.beside.group = p->op[op->id].group;
    c.beside.phase = p->op[op->id].phase;
    for (int i = 0; i < op->ins; i++)
        for (int j = 0, n = 0; j < 2; j++) {
            int part = g->value[op->in[i]].part[j];
            if (part < 0)
                continue;
            struct kr_in *in = &c.in[i][n++];
            in->dtype = nn_narrow(p, g->value[part].root) ? KR_BF16 : KR_F32;
            in->planar = part == p->image;
        }
    if (op->out >= 0 && g->value[op->out].root == op->out) {
        const struct value *last = &g->value[g->value[op->out].last];
        c.out.dtype = nn_narrow(p, op->out) ? KR_BF16 : KR_F32;
        c.centred = last->norm >= 0 && !g->op[last->norm].kind->mixes && !g->value[op->out].fixed;
    }
    return c;
}

double nn_flops(const struct plan *p, const struct op *op)
{
    struct nn_call c = nn_planned(p, op, PASS_FORWARD, &p->size, 1);
    return op->kind->flops ? op->kind->flops(&c) : 0;
}

/* --- buffers ---------------------------------------------------------------------------------- */

static int add(struct state *s, size_t bytes, int step)
{
    struct plan *p = s->p;
    assert(p->buffers < p->buffer_room);
    p->buffer[p->buffers] = (struct buffer){.bytes = nn_up(bytes), .first = step, .last = step};
    return p->buffers++;
}

/* The same for each group. */
static int add_map(struct state *s, size_t bytes, int step)
{
    const int b = add(s, (size_t)s->p->groups * nn_up(bytes), step);
    s->p->buffer[b].part = nn_up(bytes);
    return b;
}

static void touch(struct state *s, int buffer, int step)
{
    assert(buffer >= 0);
    s->p->buffer[buffer].last = step;
}

static void read_map(struct state *s, int root, int step)
{
    struct plan_value *v = &s->p->value[root];
    if (root == s->p->image || root == s->p->logits)
        return;
    touch(s, s->alive[root], step);
    if (!s->backward)
        v->idle[0] = step;
    else if (v->idle[1] < 0)
        v->idle[1] = step;
}

static size_t map_bytes(const struct state *s, int root, bool gradient, int slices)
{
    const struct value *v = &s->g->value[root];
    struct nn_shape shape = nn_shape_of(v, &s->p->size);
    size_t size = !gradient && nn_narrow(s->p, root) ? 2 : 4;
    if (s->p->flow)
        shape.d = slices;
    return nn_pixels(&shape) * (size_t)nn_lanes(v) * size;
}

static int push(struct state *s, const struct op *op, enum nn_pass pass)
{
    struct plan *p = s->p;
    assert(p->steps < p->step_room);
    int at = p->steps++;
    p->step[at] = (struct step){.op = op->id, .pass = pass, .workspace = -1};
    return at;
}

/* --- workspaces ------------------------------------------------------------------------------- */

static size_t wants(const struct plan *p, const struct step *at, const struct nn_size *size,
                    int threads)
{
    const struct op *op = &p->g->op[at->op];
    if (!op->kind->workspace)
        return 0;
    struct nn_call c = nn_planned(p, op, at->pass, size, threads);
    return op->kind->workspace(&c);
}

/* The most that so many slices ask for with one thread, of whatever height and width. */
static size_t least_of(const struct plan *p, const struct step *at, struct nn_size s)
{
    const int *m = p->g->multiple;
    const struct nn_size *z = &p->size;
    size_t most = 0;
    int dh = m[1] > 16 ? m[1] : 16 / m[1] * m[1], dw = m[2] > 16 ? m[2] : 16 / m[2] * m[2];
    for (s.h = z->h % dh ? z->h % dh : dh; s.h <= z->h; s.h += dh)
        for (s.w = z->w % dw ? z->w % dw : dw; s.w <= z->w; s.w += dw) {
            size_t bytes = wants(p, at, &s, 1);
            most = bytes > most ? bytes : most;
        }
    return most;
}

/* The same of any batch: not always the largest, for convolutions may go another way where tiles
 * are few. */
static size_t least(struct plan *p, const struct step *at)
{
    size_t *most = &p->op[at->op].least[at->pass], bytes;
    const struct op *op = &p->g->op[at->op];
    const struct nn_size *z = &p->size;
    const int m = p->g->multiple[0], slices = p->flow ? nn_pace(p, op)->most : 0;
    if (*most)
        return *most - 1;
    *most = 1;
    for (int k = 1; k <= slices; k++)
        if ((bytes = least_of(p, at, nn_slab(p, op, k))) >= *most)
            *most = bytes + 1;
    for (int n = 1; n <= z->n && !p->flow; n++)
        for (int d = z->d % m + m; d <= z->d; d += m)
            if ((bytes = least_of(p, at, (struct nn_size){n, d, 0, 0})) >= *most)
                *most = bytes + 1;
    return *most - 1;
}

size_t nn_wants(struct plan *p, const struct step *at, int threads)
{
    const struct op *op = &p->g->op[at->op];
    const struct nn_size size = p->flow ? nn_slab(p, op, nn_pace(p, op)->most) : p->size;
    size_t most = least(p, at), bytes = wants(p, at, &size, threads);
    return nn_up(bytes > most ? bytes : most);
}

/* Workspace is asked for once the buffers that the step reads are known. */
static void want_workspace(struct state *s, int at)
{
    const struct step *step = &s->p->step[at];
    size_t *known = &s->p->op[step->op].wants[step->pass];
    if (!*known)
        *known = nn_wants(s->p, step, s->threads) + 1;
    size_t bytes = *known - 1;
    if (bytes)
        s->p->step[at].workspace = add(s, bytes, at);
}

/* --- forward ---------------------------------------------------------------------------------- */

/* In evaluation a view costs a step only where its numbers come of the data, and what serves
 * training alone is left out. */
static bool runs_forward(const struct plan *p, const struct op *op)
{
    return op->kind->forward && (p->learn || (op->output && (!nn_is_view(op) || op->kind->each)));
}

/* Whether it may write over its first input, if nobody else reads that. */
static bool may_overwrite(const struct plan *p, const struct op *op)
{
    if (p->learn || !op->kind->overwrites || p->flow)
        return !p->learn && op->kind->in_place;
    const struct nn_call c = nn_planned(p, op, PASS_FORWARD, &p->size, 1);
    return op->kind->overwrites(&c);
}

static void forward(struct state *s, const struct op *op, enum nn_pass pass)
{
    struct plan *p = s->p;
    const struct graph *g = s->g;
    if (op->out >= 0 && op->out == p->image)
        return;
    int at = push(s, op, pass);
    if (nn_is_view(op)) /* numbers for each channel only */
        return;
    NN_FOR_ROOTS(g, op, i, j, root)
    read_map(s, root, at);
    if (op->out >= 0 && op->out != p->logits) {
        int under = op->ins ? nn_root(g, op, 0, 0) : -1;
        bool over = may_overwrite(p, op) && under != p->image && g->value[under].readers == 1 &&
                    !(p->flow && (p->flow[under].stay || p->flow[op->out].stay)) &&
                    nn_lanes(&g->value[under]) == nn_lanes(&g->value[op->out]);
        int b = over ? s->alive[under]
                     : add_map(s, map_bytes(s, op->out, false, p->flow ? p->flow[op->out].room : 0),
                               at);
        s->alive[op->out] = b;
        touch(s, b, at);
        if (!s->backward)
            p->value[op->out].idle[0] = at;
        if (pass == PASS_RECOMPUTE)
            p->value[op->out].again = b;
        else
            p->value[op->out].map = b;
        if (p->flow && p->flow[op->out].stay && !p->flow[op->out].kept)
            p->value[op->out].tail =
                add(s, map_bytes(s, op->out, false, p->flow[op->out].stay), at);
    }
    for (int i = 0; i < op->params; i++) {
        const struct param *q = &g->param[op->param[i]];
        if (nn_widened(p->opt, q))
            p->wide[op->param[i]] = add(s, tensor_count(&q->t) * sizeof(float), at);
    }
    want_workspace(s, at);
}

/* --- backward --------------------------------------------------------------------------------- */

/* Makes sure that a map is there for the step that comes next. */
static void need(struct state *s, int map)
{
    if (map == s->p->image || !s->p->choice[map].recompute || s->p->value[map].again >= 0)
        return;
    const struct op *op = &s->g->op[s->g->value[map].writer];
    NN_FOR_ROOTS(s->g, op, i, j, root)
    need(s, root);
    forward(s, op, PASS_RECOMPUTE);
}

/* Whether an operation's inputs want a gradient, and its parameters. */
static bool flows(const struct graph *g, const struct op *op)
{
    NN_FOR_ROOTS(g, op, i, j, root)
    if (!g->value[root].fixed)
        return true;
    return false;
}

static bool trains(const struct graph *g, const struct op *op)
{
    for (int i = 0; i < op->params; i++)
        if (g->param[op->param[i]].trained)
            return true;
    return false;
}

static void use_gradients(struct state *s, const struct op *op, enum nn_pass pass)
{
    int at = push(s, op, pass);
    for (int i = 0; i < op->params; i++)
        if (s->p->dweight[op->param[i]] >= 0)
            touch(s, s->p->dweight[op->param[i]], at);
}

/* Those that have been on their way for as long as the next ones took are there, or waited for. */
static void arrive(struct state *s)
{
    if (s->late)
        use_gradients(s, s->late, PASS_UPDATE);
    s->late = NULL;
}

static void update(struct state *s, const struct op *op)
{
    bool agreed = false;
    if (!trains(s->g, op) || !s->p->stepwise)
        return;
    for (int i = 0; i < op->params; i++)
        agreed |= nn_agreed(s->g, op->param[i]);
    if (!agreed || !s->p->opt->hooks.start) {
        use_gradients(s, op, PASS_UPDATE);
        return;
    }
    use_gradients(s, op, PASS_START);
    arrive(s);
    s->late = op;
}

/* Gradients of parameters: in the plan's buffers if each is used up at once. */
static void want_gradients(struct state *s, const struct op *op, int at)
{
    for (int i = 0; i < op->params && s->p->stepwise; i++) {
        const struct param *q = &s->g->param[op->param[i]];
        if (q->trained && s->p->dweight[op->param[i]] < 0)
            s->p->dweight[op->param[i]] = add(
                s, (size_t)nn_slots(s->p->groups) * nn_up(tensor_count(&q->t) * sizeof(float)), at);
    }
}

/* A normalisation is taken along by the operation in front of it, which then reads the map, or is a
 * pass over the map of its own. */
static void backward_view(struct state *s, const struct op *op)
{
    const struct graph *g = s->g;
    struct plan *p = s->p;
    if (op->kind->effect == NN_NORM) {
        int root = g->value[op->out].root;
        const struct op *from = &g->op[g->value[root].writer];
        bool behind = false;
        if (from->kind->behind && trains(g, from) && !nn_narrow(p, root)) {
            struct nn_call c = nn_planned(p, from, PASS_BACKWARD, &p->size, 1);
            behind = from->kind->behind(&c, flows(g, from));
        }
        p->op[from->id].behind = behind;
        if (!behind)
            need(s, root);
        int at = push(s, op, PASS_DATA);
        if (!behind)
            read_map(s, root, at);
        touch(s, p->value[root].grad, at);
        want_gradients(s, op, at);
    }
    update(s, op);
}

static void backward(struct state *s, const struct op *op)
{
    const struct graph *g = s->g;
    const struct nn_kind *kind = op->kind;
    struct plan *p = s->p;
    struct plan_op *o = &p->op[op->id];
    int at;
    bool behind = o->behind, flow = flows(g, op);
    bool both = flow && kind->backward && (behind || !kind->data);
    bool data = both || (flow && kind->data);
    bool weight = kind->weight && trains(g, op) && !both;
    bool own = behind || kind->effect == NN_HEAD; /* reads its output again */
    if (weight) {
        NN_FOR_ROOTS(g, op, i, j, root)
        need(s, root);
        if (own)
            need(s, op->out);
        at = push(s, op, PASS_WEIGHT);
        NN_FOR_ROOTS(g, op, i, j, root)
        read_map(s, root, at);
        if (own)
            read_map(s, op->out, at);
        if (p->value[op->out].grad >= 0)
            touch(s, p->value[op->out].grad, at);
        want_gradients(s, op, at);
        want_workspace(s, at);
    }
    if (data) {
        bool reads[NN_IN][2] = {{false}};
        NN_FOR_ROOTS(g, op, i, j, root)
        {
            const struct value *v = &g->value[g->value[root].last];
            bool final = o->final[i][j] = --s->left[root] == 0;
            reads[i][j] = both || kind->data_reads ||
                          (final && (v->activation || (v->norm >= 0 && !v->fixed)));
            if (reads[i][j])
                need(s, root);
        }
        if (both)
            need(s, op->out);
        at = push(s, op, both ? PASS_BACKWARD : PASS_DATA);
        if (both)
            read_map(s, op->out, at);
        NN_FOR_ROOTS(g, op, i, j, root)
        {
            if (reads[i][j])
                read_map(s, root, at);
            if (g->value[root].fixed)
                continue;
            int *grad = &p->value[root].grad;
            bool first = o->first[i][j] = *grad < 0;
            if (first && i == 0 && j == 0 && kind->in_place &&
                nn_lanes(&g->value[root]) == nn_lanes(&g->value[op->out]))
                *grad = p->value[op->out].grad;
            else if (first)
                *grad = add_map(s, map_bytes(s, root, true, 0), at);
            touch(s, *grad, at);
        }
        if (op->out >= 0 && p->value[op->out].grad >= 0)
            touch(s, p->value[op->out].grad, at);
        if (!kind->weight || both)
            want_gradients(s, op, at);
        want_workspace(s, at);
    }
    update(s, op);
}

/* The image, if all that read it take it as it is given, or -1. The trap looks at maps, and a
 * stream keeps slices. */
static int image(const struct plan *p)
{
    const struct graph *g = p->g;
    int v = g->op[g->input].out;
    if (p->flow || p->opt->trap)
        return -1;
    for (int i = 0; i < g->ops; i++)
        for (int j = 0; j < g->op[i].ins; j++) {
            const struct op *op = &g->op[i];
            if (op->in[j] != v)
                continue;
            struct nn_call c = nn_planned(p, op, PASS_FORWARD, &p->size, 1);
            if (!op->kind->planar || !op->kind->planar(&c) || (p->opt->bare && i >= g->head))
                return -1;
        }
    return v;
}

static void clear(int *v, int n)
{
    for (int i = 0; i < n; i++)
        v[i] = -1;
}

void nn_schedule(struct plan *p)
{
    const struct graph *g = p->g;
    int *alive = p->scratch, *left = p->scratch + g->values;
    struct state s = {
        .p = p, .g = g, .threads = nn_base_threads(p->learn), .alive = alive, .left = left};
    p->steps = p->buffers = 0;
    p->image = -1;
    clear(p->dweight, g->params), clear(p->wide, g->params);
    clear(alive, g->values);
    for (int i = 0; i < g->values; i++) {
        p->value[i] = (struct plan_value){-1, -1, -1, -1, {-1, -1}};
        left[i] = g->value[i].readers;
    }
    for (int i = 0; i < g->ops; i++) {
        memset(p->op[i].first, 0, sizeof p->op[i].first);
        memset(p->op[i].final, 0, sizeof p->op[i].final);
        p->op[i].behind = false;
    }
    p->logits = p->opt->bare && !p->learn && !p->flow ? g->op[g->head].out : -1;
    p->image = image(p);
    for (int i = 0; i < g->ops; i++)
        if (runs_forward(p, &g->op[i]))
            forward(&s, &g->op[i], PASS_FORWARD);
    for (int i = 0; i < g->values && p->flow; i++) {
        const int b = p->flow[i].kept ? p->value[i].map : p->value[i].tail;
        if (b >= 0)
            p->buffer[b].first = 0, p->buffer[b].last = p->steps - 1;
    }
    s.backward = true;
    for (int i = g->ops - 1; i >= 0 && p->learn; i--)
        if (nn_is_view(&g->op[i]))
            backward_view(&s, &g->op[i]);
        else
            backward(&s, &g->op[i]);
    arrive(&s);
}
