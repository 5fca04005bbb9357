/* graph.c - a description becomes a graph, in two readings. It is one thing: both append operations
 * by the same rules, and only the second lowers them to views and copies. */
#include "lib/nn/graph.h"
#include "lib/kernels/product.h"
#include "lib/nn/ops.h"
#include "lib/nn/text.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DOWN_MOST 4096 /* of an axis */
#define CHANNELS_MOST 65536
#define NONE (-2) /* the value of a loss */

/* What a reading knows. A line of the description is numbered by its place. */
struct reading {
    struct graph *g;
    const int *uses; /* of each line's value, by other lines; NULL in the first reading */
    int lines, room, *of, *count; /* of: the value that a line makes */
    int losses;                   /* of the second reading */
    char *why;
    size_t size;
};

static int say(char *why, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int say(char *why, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, size, fmt, ap);
    va_end(ap);
    return -1;
}

/* --- lists that grow -------------------------------------------------------------------------- */

/* One more element, zeroed; NULL if memory is short. A list has room for powers of two. */
static void *grow(void **list, int *count, size_t size)
{
    if ((*count & (*count - 1)) == 0) {
        void *more = realloc(*list, (*count ? 2 * (size_t)*count : 1) * size);
        if (!more)
            return NULL;
        *list = more;
    }
    void *one = (char *)*list + (size_t)(*count)++ * size;
    memset(one, 0, size);
    return one;
}

static struct value *new_value(struct graph *g)
{
    struct value *v = grow((void **)&g->value, &g->values, sizeof *v);
    if (v)
        *v = (struct value){.root = -1, .part = {-1, -1}, .norm = -1, .dropout = -1};
    return v;
}

void nn_graph_free(struct graph *g)
{
    free(g->op);
    free(g->value);
    free(g->param);
    *g = (struct graph){0};
}

size_t nn_graph_bytes(const struct graph *g)
{
    return (size_t)g->ops * sizeof *g->op + (size_t)g->values * sizeof *g->value +
           (size_t)g->params * sizeof *g->param;
}

bool nn_graph_products(const struct graph *g)
{
    bool any = false;
    for (int i = 0; i < g->ops; i++)
        any |= g->op[i].kind->products;
    return any;
}

/* --- parameters, attributes ------------------------------------------------------------------- */

/* The parameters that a shape rule declared. */
static int declare(struct reading *r, struct op *op, const struct nn_build *b)
{
    struct graph *g = r->g;
    for (int i = 0; i < b->params; i++) {
        const struct nn_param *from = &b->param[i];
        struct param *p = grow((void **)&g->param, &g->params, sizeof *p);
        if (!p)
            return say(r->why, r->size, "no memory");
        *p = (struct param){
            .trained = from->trained,
            .shared = op->kind->effect == NN_NORM && !op->kind->each,
            .first = from->first,
            .fan = from->fan,
            .t = {.dtype = DT_F32, .rank = from->rank},
        };
        if (snprintf(p->t.name, sizeof p->t.name, "%s.%s", op->name, from->suffix) >=
            (int)sizeof p->t.name)
            return say(r->why, r->size, "its name is too long");
        memcpy(p->t.dim, from->dim, (size_t)from->rank * sizeof *from->dim);
        p->packs = i == 0 && op->kind->bf16;
        op->param[op->params++] = g->params - 1;
    }
    return 0;
}

/* Checks what the line gives against the kind's rules. */
static int attributes(const struct nn_kind *kind, const struct nn_line *line, struct nn_attr *attr,
                      char *why, size_t size)
{
    const struct nn_rule none = {0}, *rule = kind->rule ? kind->rule : &none;
    int rules = 0;
    for (; rule[rules].name; rules++) {
        const struct nn_rule *r = &rule[rules];
        for (int k = 0; k < 3; k++)
            attr[rules].v[k] = r->type == NN_AXES && k == 0 && r->preset > 1 ? 1 : r->preset;
    }
    for (int i = 0; i < line->attrs; i++) {
        int j = 0, count = line->attr[i].count;
        const double *v = line->attr[i].value;
        while (j < rules && strcmp(rule[j].name, line->attr[i].name))
            j++;
        if (j == rules) {
            char list[256] = "";
            for (size_t k = 0, at = 0; (int)k < rules && at < sizeof list; k++)
                at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", k ? ", " : "",
                                       rule[k].name);
            return say(why, size, "unknown attribute '%s' (wanted %s)", line->attr[i].name,
                       *list ? list : "none");
        }
        const struct nn_rule *r = &rule[j];
        if (r->type != NN_AXES && count != 1)
            return say(why, size, "%s: wanted one number (got %d)", r->name, count);
        for (int k = 0; k < count; k++) {
            if (r->type != NN_REAL && v[k] != floor(v[k]))
                return say(why, size, "%s: wanted an integer (got %g)", r->name, v[k]);
            if (!(v[k] >= r->low && v[k] <= r->high))
                return say(why, size, "%s: out of range (wanted %g..%g, got %g)", r->name, r->low,
                           r->high, v[k]);
        }
        if (r->type == NN_AXES) /* the last of the list is x; one number is for the plane */
            for (int k = 0; k < 3; k++)
                attr[j].v[k] = count == 1 ? (k ? v[0] : 1) : k + count >= 3 ? v[k + count - 3] : 1;
        else
            attr[j].v[0] = v[0];
    }
    for (int j = 0; j < rules; j++)
        if (isnan(attr[j].v[0]))
            return say(why, size, "%s is missing", rule[j].name);
    return 0;
}

/* --- operations ------------------------------------------------------------------------------- */

/* Appends an operation that reads values `in`; its extent by the shape rule. NULL on failure. */
static struct op *append(struct reading *r, const struct nn_kind *kind, const char *name, int line,
                         const int in[], int ins, const struct nn_attr *attr)
{
    struct graph *g = r->g;
    struct op *op = grow((void **)&g->op, &g->ops, sizeof *op);
    struct value *v = op ? new_value(g) : NULL;
    if (!v) {
        say(r->why, r->size, "no memory");
        return NULL;
    }
    *op = (struct op){.kind = kind, .id = g->ops - 1, .line = line, .ins = ins, .out = -1};
    if (attr)
        memcpy(op->attr, attr, sizeof op->attr);
    if (*name)
        snprintf(op->name, sizeof op->name, "%s", name);
    else
        snprintf(op->name, sizeof op->name, "%s#%d", kind->name, op->id);
    struct nn_build b = {.attr = op->attr, .ins = ins, .why = r->why, .size = r->size};
    for (int i = 0; i < ins; i++) {
        op->in[i] = in[i];
        b.in[i] = &g->value[in[i]].e;
    }
    b.out = ins ? *b.in[0] : (struct nn_extent){.down = {1, 1, 1}};
    if (kind->products && kr_products()) {
        say(r->why, r->size, "%s", kr_products());
        return NULL;
    }
    if ((kind->shape && kind->shape(&b)) || declare(r, op, &b))
        return NULL;
    if (op->params && !*name) {
        say(r->why, r->size, "it has parameters, so it needs a name");
        return NULL;
    }
    if (b.out.c < 1 || b.out.c > CHANNELS_MOST) {
        say(r->why, r->size, "too many channels (wanted 1..%d, got %d)", CHANNELS_MOST, b.out.c);
        return NULL;
    }
    for (int i = 0; i < 3; i++)
        if (b.out.down[i] < 1 || b.out.down[i] > DOWN_MOST) {
            say(r->why, r->size, "its map is too small or finer than the image (1/%d of an axis)",
                b.out.down[i]);
            return NULL;
        }
    int id = g->values - 1;
    *v = (struct value){.e = b.out,
                        .root = id,
                        .part = {id, -1},
                        .writer = op->id,
                        .norm = -1,
                        .dropout = -1,
                        .fixed = kind->effect == NN_INPUT,
                        .planes = kind->planes || kind->effect == NN_HEAD,
                        .last = id};
    op->out = id;
    return op;
}

/* One more reader of the maps under a value. */
static void reads(struct graph *g, int value, enum nn_reading how)
{
    for (int i = 0; i < 2; i++) {
        int part = g->value[value].part[i];
        if (part < 0)
            continue;
        struct value *root = &g->value[g->value[part].root];
        assert(root->last == part);
        root->readers++;
        root->plain |= how == NN_PLAIN;
    }
}

static bool is_view(const struct value *v)
{
    return v->norm >= 0 || v->activation || v->dropout >= 0;
}

static bool is_concat(const struct value *v)
{
    return v->root < 0;
}

/* A map that holds what the value is: of one operand, or of two side by side. -1 on failure. */
static int copied(struct reading *r, int value, int line)
{
    struct op *op = append(r, &nn_copy, "", line, &value, 1, NULL);
    if (!op)
        return -1;
    reads(r->g, value, nn_copy.reads);
    return op->out;
}

/* The value of input i as the kind can read it. */
static int readable(struct reading *r, const struct nn_kind *kind, int value, int line)
{
    const struct value *v = &r->g->value[value];
    bool poor = (is_concat(v) && kind->reads != NN_PARTS) ||
                (kind->reads == NN_PLAIN && !is_concat(v) && is_view(v));
    return poor ? copied(r, value, line) : value;
}

static bool shares(const struct graph *g, int a, int b)
{
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            int x = g->value[a].part[i], y = g->value[b].part[j];
            if (x >= 0 && y >= 0 && g->value[x].root == g->value[y].root)
                return true;
        }
    return false;
}

/* Whether a view may lie on the value itself. */
static bool carries(const struct graph *g, const struct nn_kind *kind, int value, bool alone)
{
    const struct value *v = &g->value[value];
    if (is_concat(v) || !alone || v->fixed)
        return false;
    const struct nn_kind *writer = g->op[g->value[v->root].writer].kind;
    if (v->planes)
        return kind->effect == NN_NORM && !kind->each && !is_view(v);
    if (!writer->finishes)
        return false;
    return kind->effect == NN_NORM         ? !is_view(v)
           : kind->effect == NN_ACTIVATION ? !v->activation && v->dropout < 0
                                           : v->dropout < 0;
}

/* A view: the operation's own value takes the place of a map. */
static int view(struct reading *r, const struct nn_kind *kind, const struct nn_line *line,
                int value, bool alone, const struct nn_attr *attr)
{
    struct graph *g = r->g;
    if (!carries(g, kind, value, alone) && (value = copied(r, value, line->line)) < 0)
        return -1;
    struct op *op = append(r, kind, line->name, line->line, &value, 1, attr);
    if (!op)
        return -1;
    struct value *x = &g->value[value], *v = &g->value[op->out];
    assert(g->value[x->root].last == value && !g->value[x->root].readers);
    *v = *x;
    v->part[0] = op->out;
    v->writer = op->id;
    g->value[x->root].last = op->out;
    if (kind->effect == NN_NORM)
        v->norm = op->id;
    else if (kind->effect == NN_DROPOUT)
        v->dropout = op->id;
    else {
        v->activation = true;
        v->slope = kind->rule ? (float)attr[0].v[0] : 0;
    }
    return op->out;
}

static int concat(struct reading *r, const struct nn_kind *kind, const struct nn_line *line,
                  int in[])
{
    struct graph *g = r->g;
    for (int i = 0; i < 2; i++) {
        const struct value *v = &g->value[in[i]];
        if (v->planes || is_concat(v) || v->fixed || (i && shares(g, in[0], in[1])))
            if ((in[i] = copied(r, in[i], line->line)) < 0)
                return -1;
    }
    struct op *op = append(r, kind, line->name, line->line, in, 2, NULL);
    if (!op)
        return -1;
    struct value *v = &g->value[op->out];
    v->root = -1;
    v->part[0] = in[0], v->part[1] = in[1];
    return op->out;
}

static int lower(struct reading *r, const struct nn_kind *kind, const struct nn_line *line,
                 const struct nn_attr *attr)
{
    struct graph *g = r->g;
    int in[NN_IN];
    for (int i = 0; i < line->ins; i++) {
        in[i] = r->of[line->in[i]];
        const struct value *v = &g->value[in[i]];
        bool head = g->op[g->value[is_concat(v) ? 0 : v->root].writer].kind->effect == NN_HEAD;
        if (head != (kind->effect == NN_LOSS) && !is_concat(v))
            return say(r->why, r->size,
                       head ? "only a loss can read a head's output" : "wanted a head's output");
        bool norm = kind->effect == NN_NORM && carries(g, kind, in[i], r->uses[line->in[i]] == 1);
        if (v->planes && !head && !norm && !(kind->planes_in && i == 0))
            return say(r->why, r->size, "cannot read a map of planes");
        if (v->planes && r->uses[line->in[i]] != 1)
            return say(r->why, r->size, "its input can be read once only");
    }
    if (kind->effect == NN_NORM || kind->effect == NN_ACTIVATION || kind->effect == NN_DROPOUT)
        return view(r, kind, line, in[0], r->uses[line->in[0]] == 1, attr);
    if (kind->effect == NN_CONCAT)
        return concat(r, kind, line, in);
    for (int i = 0; i < line->ins; i++) {
        if ((in[i] = readable(r, kind, in[i], line->line)) < 0)
            return -1;
        for (int j = 0; j < i; j++)
            if (shares(g, in[i], in[j]) && (in[i] = copied(r, in[i], line->line)) < 0)
                return -1;
    }
    struct op *op = append(r, kind, line->name, line->line, in, line->ins, attr);
    if (!op)
        return -1;
    for (int i = 0; i < op->ins; i++)
        reads(g, op->in[i], kind->reads);
    if (kind->effect == NN_INPUT)
        g->input = op->id;
    if (kind->effect == NN_LOSS) {
        if (r->losses++ == 0) {
            g->loss = op->id;
            g->head = g->value[op->in[0]].writer;
        }
        op->out = -1;
        g->values--;
        return NONE;
    }
    return op->out;
}

/* --- a reading -------------------------------------------------------------------------------- */

static int emit(void *ctx, const struct nn_line *line, char *why, size_t size)
{
    struct reading *r = ctx;
    struct nn_attr attr[NN_ATTRS] = {{{0}}};
    const struct nn_kind *kind = nn_kind(line->op);
    r->why = why, r->size = size;
    if (!kind)
        return say(why, size, "no such operation");
    if (line->ins < kind->least || line->ins > kind->most) {
        if (kind->least == kind->most)
            return say(why, size, "wrong number of inputs (wanted %d, got %d)", kind->least,
                       line->ins);
        return say(why, size, "wrong number of inputs (wanted %d..%d, got %d)", kind->least,
                   kind->most, line->ins);
    }
    if (attributes(kind, line, attr, why, size))
        return -1;
    if (kind->effect == NN_INPUT && r->lines)
        return say(why, size, "an input can only be the first operation");
    if (kind->effect != NN_INPUT && !r->lines)
        return say(why, size, "the first operation must be an input");
    if (r->lines == r->room) {
        int room = r->room ? 2 * r->room : 64;
        int *of = realloc(r->of, (size_t)room * sizeof *of);
        r->of = of ? of : r->of;
        int *count = realloc(r->count, (size_t)room * sizeof *count);
        r->count = count ? count : r->count;
        if (!of || !count)
            return say(why, size, "no memory");
        r->room = room;
    }
    for (int i = 0; i < line->ins; i++)
        if (r->of[line->in[i]] == NONE)
            return say(why, size, "a loss makes nothing that could be read");
    int value;
    if (r->uses) {
        value = lower(r, kind, line, attr);
    } else {
        int in[NN_IN];
        for (int i = 0; i < line->ins; i++) {
            in[i] = r->of[line->in[i]];
            r->count[line->in[i]]++;
        }
        const struct op *op = append(r, kind, line->name, line->line, in, line->ins, attr);
        value = !op ? -1 : kind->effect == NN_LOSS ? NONE : op->out;
        r->count[r->lines] = 0;
    }
    if (value == -1)
        return -1;
    if (r->uses && !r->uses[r->lines] && value != NONE)
        return say(why, size, "nobody reads what it makes");
    r->of[r->lines] = value;
    return r->lines++;
}

static int channels(void *ctx, int line)
{
    const struct reading *r = ctx;
    return r->of[line] == NONE ? 0 : r->g->value[r->of[line]].e.c;
}

static const char *kind_name(void *ctx, int i)
{
    (void)ctx;
    return nn_kinds[i] ? nn_kinds[i]->name : NULL;
}

static int read_text(struct reading *r, const struct nn_spec *s, char *why, size_t size)
{
    struct nn_taker t = {.ctx = r, .emit = emit, .channels = channels, .op = kind_name};
    return nn_text(s->text, s->length, s->name, s->set, s->settings, &t, why, size);
}

static int common(int a, int b)
{
    int x = a, y = b;
    while (y) {
        int t = x % y;
        x = y, y = t;
    }
    return a / x * b;
}

/* What the first loss's head is made of. */
static void mark_output(struct graph *g)
{
    g->op[g->loss].output = true;
    for (int i = g->loss; i >= 0; i--)
        for (int j = 0; g->op[i].output && j < g->op[i].ins; j++)
            g->op[g->value[g->op[i].in[j]].writer].output = true;
}

/* The heads: those of all losses have as many outputs, the first is of the image's size. */
static int check_heads(const struct graph *g, const struct nn_spec *s, char *why, size_t size)
{
    const struct nn_extent *first = &g->value[g->op[g->head].out].e;
    for (int i = 0; i < g->ops; i++) {
        const struct op *op = &g->op[i];
        if (op->kind->effect != NN_HEAD)
            continue;
        const struct nn_extent *e = &g->value[op->out].e;
        int n = snprintf(why, size, "%s:%d: operation '%s' (%s): ", s->name, op->line, op->name,
                         op->kind->name);
        char *what = why + (n < (int)size ? n : (int)size - 1);
        size_t left = size - (size_t)(what - why);
        if (e->c != first->c)
            return say(what, left, "heads differ in channels (%d and %d)", first->c, e->c);
        for (int j = 0; j < 3; j++)
            if (i == g->head && e->down[j] != 1)
                return say(what, left, "predicts, and has not the image's size (1/%d of it)",
                           e->down[j]);
    }
    return 0;
}

/* What nobody could wait for is no network, whatever its channels. */
static int check_work(struct graph *g, const struct nn_spec *s, char *why, size_t size)
{
    const struct nn_size least = {1, g->multiple[0], g->multiple[1], g->multiple[2]};
    const double pixels = (double)least.d * least.h * least.w;
    double flops = 0, weights = 0;
    for (int i = 0; i < g->ops; i++) {
        const struct op *op = &g->op[i];
        struct nn_call c = nn_shapes(g, op, &least);
        flops += op->kind->flops ? op->kind->flops(&c) : 0;
        for (int j = 0; j < op->params; j++)
            weights += (double)tensor_count(&g->param[op->param[j]].t);
        bool time = flops / pixels > NN_MAX_FLOPS;
        if (time || weights > NN_MAX_WEIGHTS)
            return say(why, size,
                       "%s:%d: operation '%s' (%s): too much work so far (wanted at most %g %s, "
                       "got %.3g)",
                       s->name, op->line, op->name, op->kind->name,
                       time ? NN_MAX_FLOPS : NN_MAX_WEIGHTS, time ? "flops a pixel" : "weights",
                       time ? flops / pixels : weights);
    }
    g->flops = flops / pixels;
    return 0;
}

static int check(struct graph *g, const struct nn_spec *s, int losses, char *why, size_t size)
{
    if (!losses)
        return say(why, size, "%s: no loss", s->name);
    if (check_heads(g, s, why, size))
        return -1;
    for (int i = 0; i < g->params; i++)
        for (int j = 0; j < i; j++)
            if (!strcmp(g->param[i].t.name, g->param[j].t.name))
                return say(why, size, "%s: two parameters are called '%s'", s->name,
                           g->param[i].t.name);
    for (int i = 0; i < 3; i++)
        if (g->multiple[i] > DOWN_MOST)
            return say(why, size, "%s: the image would have to be divisible by %d", s->name,
                       g->multiple[i]);
    return check_work(g, s, why, size);
}

int nn_graph(struct graph *g, const struct nn_spec *s, char *why, size_t size)
{
    struct graph draft = {0};
    struct reading first = {.g = &draft}, second = {.g = g};
    *g = (struct graph){.multiple = {1, 1, 1}};
    int bad = read_text(&first, s, why, size);
    second.uses = first.count;
    bad = bad || read_text(&second, s, why, size);
    for (int i = 0; i < g->values && !bad; i++)
        for (int k = 0; k < 3; k++)
            if (g->multiple[k] <= DOWN_MOST)
                g->multiple[k] = common(g->multiple[k], g->value[i].e.down[k]);
    bad = bad || check(g, s, second.losses, why, size);
    if (!bad)
        mark_output(g);
    nn_graph_free(&draft);
    free(first.of);
    free(first.count);
    free(second.of);
    free(second.count);
    if (bad)
        nn_graph_free(g);
    return bad ? -1 : 0;
}

/* --- calls ------------------------------------------------------------------------------------ */

struct nn_shape nn_shape_of(const struct value *v, const struct nn_size *s)
{
    return (struct nn_shape){.n = s->n,
                             .d = s->d / v->e.down[0],
                             .h = s->h / v->e.down[1],
                             .w = s->w / v->e.down[2],
                             .c = v->e.c};
}

struct nn_call nn_shapes(const struct graph *g, const struct op *op, const struct nn_size *s)
{
    struct nn_call c = {.attr = op->attr, .id = op->id, .ins = op->ins, .threads = 1};
    for (int i = 0; i < op->ins; i++) {
        const struct value *v = &g->value[op->in[i]];
        c.x[i] = nn_shape_of(v, s);
        for (int j = 0; j < 2; j++)
            if (v->part[j] >= 0)
                c.in[i][c.parts[i]++] = (struct kr_in){.c = g->value[v->part[j]].e.c};
    }
    c.y = op->out >= 0 ? nn_shape_of(&g->value[op->out], s) : c.x[0];
    c.out.c = c.y.c;
    return c;
}
