/* schedule.c - turns a graph and a plan's choices into steps, and each step's memory into buffers
 * with a lifetime; then gives each buffer its place.
 *
 * Forward, an operation reads its inputs' maps and writes its own. Backward, in reverse: a
 * normalisation turns the gradient of its map's view into that of the map, in place, and is the
 * last to read the map (or leaves both to the convolution in front of it); an operation makes its
 * weights' gradient, then its inputs' (in that order, so that an input that was made again for the
 * first is gone before the second needs room), then its parameters take their step. A map that the
 * plan drops is made again just before its first reader. */
#include "lib/nn/net.h"

#include <assert.h>
#include <string.h>

struct state {
    struct nn *nn;
    struct plan *p;
    int alive[MAX_VALUES]; /* the map's buffer now, or -1 */
    int left[MAX_VALUES];  /* readers that have not yet written its gradient */
    bool backward;
};

static int add(struct state *s, size_t bytes, int step)
{
    struct plan *p = s->p;
    assert(p->buffers < MAX_BUFFERS);
    p->buffer[p->buffers] = (struct buffer){.bytes = nn_up(bytes), .first = step, .last = step};
    return p->buffers++;
}

static void touch(struct state *s, int buffer, int step)
{
    assert(buffer >= 0);
    s->p->buffer[buffer].last = step;
}

static void read_map(struct state *s, int root, int step)
{
    if (root == s->p->image)
        return;
    touch(s, s->alive[root], step);
    if (!s->backward)
        s->p->idle[root][0] = step;
    else if (s->p->idle[root][1] < 0)
        s->p->idle[root][1] = step;
}

static size_t pixels(const struct plan *p, int level)
{
    return (size_t)p->n * (size_t)(p->h >> level) * (size_t)(p->w >> level);
}

static size_t map_bytes(const struct state *s, int root, bool gradient)
{
    const struct value *v = &s->nn->g.value[root];
    size_t size = !gradient && s->p->narrow[root] ? 2 : 4;
    return pixels(s->p, v->level) * (size_t)nn_lanes(v) * size;
}

static int push(struct state *s, const struct op *op, enum pass pass)
{
    struct plan *p = s->p;
    assert(p->steps < MAX_STEPS);
    int at = p->steps++;
    p->step[at] = (struct step){.op = (short)op->id, .pass = pass, .workspace = -1};
    return at;
}

/* The maps under the operation's inputs: at most three. */
static int roots(const struct state *s, const struct op *op, int root[3])
{
    int n = 0;
    for (int i = 0; i < op->nin; i++)
        for (int j = 0; j < 2; j++) {
            int part = s->nn->g.value[op->in[i]].part[j];
            if (part >= 0)
                root[n++] = s->nn->g.value[part].root;
        }
    return n;
}

static size_t wants(struct nn *nn, const struct step *at, int n, int h, int w, int threads)
{
    const struct op *op = &nn->g.op[at->op];
    nn->at = at;
    nn->n = n, nn->h = h, nn->w = w, nn->threads = threads;
    return op->kind->workspace ? op->kind->workspace(nn, op, at->pass) : 0;
}

/* The most that any batch asks for with one thread: not always the largest, for convolutions may
 * go another way where tiles are few. */
static size_t least(struct nn *nn, struct plan *p, const struct step *at)
{
    size_t *most = &p->least[at->op][at->pass];
    if (*most)
        return *most - 1;
    for (int n = 1; n <= p->n; n++)
        for (int h = 16; h <= p->h; h += 16)
            for (int w = 16; w <= p->w; w += 16) {
                size_t bytes = wants(nn, at, n, h, w, 1);
                *most = bytes + 1 > *most ? bytes + 1 : *most;
            }
    return *most - 1;
}

size_t nn_wants(struct nn *nn, struct plan *p, const struct step *at, int threads)
{
    int before = nn->threads;
    size_t most = least(nn, p, at), bytes = wants(nn, at, p->n, p->h, p->w, threads);
    nn->threads = before;
    return nn_up(bytes > most ? bytes : most);
}

/* Workspace is asked for once the buffers that the step reads are known. */
static void want_workspace(struct state *s, int at)
{
    size_t bytes = nn_wants(s->nn, s->p, &s->p->step[at], s->nn->threads);
    if (bytes)
        s->p->step[at].workspace = add(s, bytes, at);
}

static void forward(struct state *s, const struct op *op, enum pass pass)
{
    struct plan *p = s->p;
    if (op->out >= 0 && op->out == p->image)
        return;
    int root[3], n = roots(s, op, root), at = push(s, op, pass);
    if (op->kind->view) /* numbers for each channel only */
        return;
    for (int i = 0; i < n; i++)
        read_map(s, root[i], at);
    if (op->out >= 0) {
        bool over = op->kind->in_place && !p->learn && s->nn->g.value[root[0]].readers == 1;
        int b = over ? s->alive[root[0]] : add(s, map_bytes(s, op->out, false), at);
        s->alive[op->out] = b;
        if (!s->backward)
            p->idle[op->out][0] = at;
        if (pass == PASS_AGAIN)
            p->again[op->out] = b;
        else
            p->map[op->out] = b;
    }
    if (op->kind->aux && pass == PASS_FORWARD)
        p->aux[op->id] = add(s, pixels(p, s->nn->g.value[op->out].level) * sizeof(float), at);
    else if (op->kind->aux)
        touch(s, p->aux[op->id], at);
    for (int i = 0; i < op->nparams; i++)
        if (s->nn->g.param[op->param[i]].widened)
            p->wide[op->param[i]] =
                add(s, tensor_count(&s->nn->g.param[op->param[i]].t) * sizeof(float), at);
    want_workspace(s, at);
}

/* Makes sure that a map is there for the step that comes next. */
static void need(struct state *s, int map)
{
    if (!s->p->drop[map] || s->p->again[map] >= 0)
        return;
    const struct op *op = &s->nn->g.op[s->nn->g.value[map].writer];
    int root[3], n = roots(s, op, root);
    for (int i = 0; i < n; i++)
        need(s, root[i]);
    forward(s, op, PASS_AGAIN);
}

/* Whether an operation's inputs want a gradient, and its parameters. */
static bool flows(const struct graph *g, const struct op *op)
{
    for (int i = 0; i < op->nin; i++)
        for (int j = 0; j < 2; j++) {
            int part = g->value[op->in[i]].part[j];
            if (part >= 0 && !g->value[part].fixed)
                return true;
        }
    return false;
}

static bool trains(const struct graph *g, const struct op *op)
{
    for (int i = 0; i < op->nparams; i++)
        if (g->param[op->param[i]].trained)
            return true;
    return false;
}

static void update(struct state *s, const struct op *op)
{
    if (!trains(&s->nn->g, op) || !s->nn->stepwise)
        return;
    int at = push(s, op, PASS_UPDATE);
    for (int i = 0; i < op->nparams; i++)
        if (s->p->dweight[op->param[i]] >= 0)
            touch(s, s->p->dweight[op->param[i]], at);
}

/* Gradients of parameters: in the plan's buffers if each is used up at once. */
static void want_gradients(struct state *s, const struct op *op, int at)
{
    for (int i = 0; i < op->nparams && s->nn->stepwise; i++) {
        const struct param *q = &s->nn->g.param[op->param[i]];
        if (q->trained && s->p->dweight[op->param[i]] < 0)
            s->p->dweight[op->param[i]] = add(s, tensor_count(&q->t) * sizeof(float), at);
    }
}

/* A normalisation is taken along by the convolution in front of it, which then reads the map, or
 * is a pass over the map of its own. */
static void backward_view(struct state *s, const struct op *op)
{
    const struct graph *g = &s->nn->g;
    int root = op->out >= 0 ? g->value[op->out].root : -1;
    if (op->kind->data && !op->absorbed) {
        const struct op *from = &g->op[g->value[root].writer];
        bool behind = from->kind->behind && trains(g, from) && !s->p->narrow[root] &&
                      from->kind->behind(s->nn, from, flows(g, from));
        s->p->behind[from->id] = behind;
        if (!behind)
            need(s, root);
        int at = push(s, op, PASS_DATA);
        if (!behind)
            read_map(s, root, at);
        touch(s, s->p->grad[root], at);
        want_gradients(s, op, at);
    }
    update(s, op);
}

static void backward(struct state *s, const struct op *op)
{
    const struct graph *g = &s->nn->g;
    struct plan *p = s->p;
    int root[3], n = roots(s, op, root), at;
    bool behind = p->behind[op->id], flow = flows(g, op);
    bool both = flow && op->kind->backward && (behind || !op->kind->data);
    bool data = both || (flow && op->kind->data);
    bool weight = op->kind->weight && trains(g, op) && !both;
    if (weight) {
        for (int i = 0; i < n; i++)
            need(s, root[i]);
        if (behind)
            need(s, op->out);
        at = push(s, op, PASS_WEIGHT);
        for (int i = 0; i < n; i++)
            read_map(s, root[i], at);
        if (behind)
            read_map(s, op->out, at);
        touch(s, p->grad[op->out], at);
        want_gradients(s, op, at);
        want_workspace(s, at);
    }
    if (data) {
        bool reads[3];
        for (int i = 0; i < n; i++) {
            const struct value *v = &g->value[g->value[root[i]].last];
            p->final[op->id][i] = --s->left[root[i]] == 0;
            reads[i] = both || op->kind->data_reads ||
                       (p->final[op->id][i] && (v->relu || (v->norm >= 0 && !v->fixed)));
            if (reads[i])
                need(s, root[i]);
        }
        if (both)
            need(s, op->out);
        at = push(s, op, both ? PASS_BACKWARD : PASS_DATA);
        if (both)
            read_map(s, op->out, at);
        for (int i = 0; i < n; i++) {
            if (reads[i])
                read_map(s, root[i], at);
            if (g->value[root[i]].fixed)
                continue;
            p->first[op->id][i] = p->grad[root[i]] < 0;
            if (p->first[op->id][i] && i == 0 && op->kind->in_place)
                p->grad[root[i]] = p->grad[op->out];
            else if (p->first[op->id][i])
                p->grad[root[i]] = add(s, map_bytes(s, root[i], true), at);
            touch(s, p->grad[root[i]], at);
        }
        if (op->out >= 0 && p->grad[op->out] >= 0)
            touch(s, p->grad[op->out], at);
        if (op->kind->aux)
            touch(s, p->aux[op->id], at);
        if (!op->kind->weight || both)
            want_gradients(s, op, at);
        for (int i = 0; i < op->nin; i++) { /* absorbed normalisations */
            int norm = g->value[op->in[i]].norm;
            if (norm >= 0 && g->op[norm].absorbed && op->kind->data_reads)
                want_gradients(s, &g->op[norm], at);
        }
        want_workspace(s, at);
    }
    update(s, op);
}

/* The image, if all that read it take it as it is given, or -1. The trap looks at maps. */
static int image(const struct nn *nn)
{
    const struct graph *g = &nn->g;
    int v = 0;
    while (!g->value[v].fixed)
        v++;
    for (int i = 0; i < g->ops; i++)
        for (int j = 0; j < g->op[i].nin; j++) {
            const struct op *op = &g->op[i];
            if (op->in[j] == v && !(op->kind->planar && op->kind->planar(nn, op)))
                return -1;
        }
    return nn->opt.trap ? -1 : v;
}

static void clear(int *v, int n)
{
    for (int i = 0; i < n; i++)
        v[i] = -1;
}

void nn_schedule(struct nn *nn, struct plan *p)
{
    const struct graph *g = &nn->g;
    struct state s = {.nn = nn, .p = p};
    p->steps = p->buffers = 0;
    clear(p->map, MAX_VALUES), clear(p->again, MAX_VALUES), clear(p->grad, MAX_VALUES);
    clear(p->dweight, MAX_PARAMS), clear(p->wide, MAX_PARAMS), clear(p->aux, MAX_OPS);
    clear(s.alive, MAX_VALUES);
    memset(p->idle, -1, sizeof p->idle);
    memset(p->first, 0, sizeof p->first), memset(p->final, 0, sizeof p->final);
    memset(p->behind, 0, sizeof p->behind);
    nn->now = p;
    nn->n = p->n, nn->h = p->h, nn->w = p->w;
    p->image = image(nn);
    for (int i = 0; i < g->values; i++)
        s.left[i] = g->value[i].readers;
    for (int i = 0; i < g->ops; i++)
        if (g->op[i].kind->forward && !(g->op[i].kind->view && !p->learn))
            forward(&s, &g->op[i], PASS_FORWARD);
    s.backward = true;
    for (int i = g->ops - 1; i >= 0 && p->learn; i--)
        if (g->op[i].kind->view)
            backward_view(&s, &g->op[i]);
        else
            backward(&s, &g->op[i]);
    nn->at = NULL;
}

/* What decides the order of placing: the size, or the size times the steps it is in use, or the
 * first step. What lives for one step, as workspaces do, comes last. */
static double weight(const struct buffer *b, int rule)
{
    double w = rule == 0   ? (double)b->bytes
               : rule == 1 ? (double)b->bytes * (b->last - b->first + 1)
                           : (double)(MAX_STEPS - b->first);
    return b->last > b->first ? w : w * 1e-12;
}

/* Each buffer, in the rule's order, into the lowest gap that its lifetime leaves: so that the
 * workspaces of most steps are the same memory, which is in cache from the step before. */
static void place_by(struct plan *p, int rule)
{
    int order[MAX_BUFFERS], placed[MAX_BUFFERS], n = 0;
    for (int i = 0; i < p->buffers; i++) {
        double w = weight(&p->buffer[i], rule);
        int j = i;
        for (; j > 0 && weight(&p->buffer[order[j - 1]], rule) < w; j--)
            order[j] = order[j - 1];
        order[j] = i;
    }
    p->extent = 0;
    for (int i = 0; i < p->buffers; i++) {
        struct buffer *b = &p->buffer[order[i]];
        b->offset = 0;
        for (int j = 0; j < n; j++) { /* placed[] is sorted by offset */
            const struct buffer *q = &p->buffer[placed[j]];
            if (q->last < b->first || b->last < q->first)
                continue;
            if (q->offset >= b->offset + b->bytes)
                break;
            if (q->offset + q->bytes > b->offset)
                b->offset = q->offset + q->bytes;
        }
        int j = n++;
        for (; j > 0 && p->buffer[placed[j - 1]].offset > b->offset; j--)
            placed[j] = placed[j - 1];
        placed[j] = order[i];
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
    place_by(p, best);
}
