/* take.c - another network's parameters, as far as they fit: what fine-tuning begins with. */
#include "lib/nn/handle.h"
#include "lib/nn/ops.h"

#include <stdio.h>
#include <string.h>

/* How a parameter of ours is filled: an index of its first two dimensions is theirs by a map, or
 * the same one where there is no map. */
struct way {
    const int *map[2];
    int theirs[2];   /* of a map: how many they have */
    bool image[2];   /* a map of the image's channels, else of the outputs */
    bool repeats;    /* along a new extent: a transposed convolution's kernel is its stride */
    int channels[2]; /* of a map: how many we have */
};

/* Whether a value's channels are those of the image, each by itself. */
static bool is_image(const struct graph *g, int value)
{
    for (;;) {
        const struct op *op = &g->op[g->value[value].writer];
        const enum nn_effect e = op->kind->effect;
        if (e == NN_INPUT)
            return true;
        if (e != NN_NORM && e != NN_ACTIVATION && e != NN_DROPOUT && op->kind != &nn_copy &&
            op->kind != &nn_max_pool && op->kind != &nn_average_pool && op->kind != &nn_nearest &&
            op->kind != &nn_linear_resize)
            return false;
        value = op->in[0];
        if (g->value[value].root < 0) /* side by side with others */
            return false;
    }
}

static void over(struct way *w, int axis, bool image, int ours, const int *map, int theirs)
{
    w->map[axis] = map;
    w->theirs[axis] = theirs;
    w->image[axis] = image;
    w->channels[axis] = ours;
}

static struct way way_of(const struct nn *nn, int param, const struct nn_giver *from)
{
    const struct graph *g = &nn->g;
    struct way w = {0};
    for (int i = 0; i < g->ops; i++) {
        const struct op *op = &g->op[i];
        for (int k = 0; k < op->params; k++) {
            if (op->param[k] != param)
                continue;
            const int rank = g->param[param].t.rank;
            w.repeats = op->kind == &nn_transposed_convolution;
            if (op->kind->effect == NN_HEAD)
                over(&w, 0, false, nn_classes(nn), from->output, from->outputs);
            if (is_image(g, op->in[0]) && (op->kind->effect == NN_NORM || rank > 1))
                over(&w, rank > 1 && !w.repeats, true, nn_inputs(nn), from->input, from->inputs);
        }
    }
    return w;
}

static int known(const int *map, int n)
{
    int k = 0;
    for (int i = 0; i < n; i++)
        k += map[i] >= 0;
    return k;
}

/* Whether theirs has the shape to fill ours, maybe with an extent less. */
static bool fits(const struct tensor *ours, const struct tensor *theirs, const struct way *w)
{
    const int more = ours->rank - theirs->rank;
    if (more && !(more == 1 && ours->rank == 5))
        return false;
    for (int i = 0; i < theirs->rank; i++)
        if (theirs->dim[i] !=
            (i < 2 && w->map[i] ? (uint32_t)w->theirs[i] : ours->dim[i < 2 ? i : i + more]))
            return false;
    return true;
}

static int index_of(const struct way *w, int axis, size_t i)
{
    return w->map[axis] ? w->map[axis][i] : (int)i;
}

/* A kernel of theirs, as each slice of ours that has it. */
static void fill(const struct tensor *theirs, size_t at, size_t n, size_t depth, bool repeats,
                 float *to)
{
    for (size_t d = 0; d < depth; d++, to += n) {
        if (!repeats && depth % 2 && d != depth / 2) {
            memset(to, 0, n * sizeof *to);
            continue;
        }
        tensor_to_f32(theirs, at, n, to);
        for (size_t i = 0; !repeats && depth % 2 == 0 && i < n; i++)
            to[i] /= (float)depth;
    }
}

/* How many numbers were taken. A new channel's weights are 0; of a normalisation, and of outputs,
 * what is new stays. */
static size_t copy(struct tensor *ours, const struct tensor *theirs, const struct way *w)
{
    const bool weights = ours->rank > 1;
    const size_t rows = ours->dim[0], columns = weights ? ours->dim[1] : 1;
    const size_t stride = weights ? theirs->dim[1] : 1;
    const size_t depth = ours->rank > theirs->rank ? ours->dim[2] : 1;
    const size_t all = tensor_count(ours) / (rows * columns), n = all / depth;
    float *to = ours->data;
    size_t taken = 0;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++, to += all) {
            const int r = index_of(w, 0, i), c = index_of(w, 1, j);
            if (r >= 0 && c >= 0) {
                fill(theirs, ((size_t)r * stride + (size_t)c) * n, n, depth, w->repeats, to);
                taken += all;
            } else if (weights && w->image[r < 0 ? 0 : 1]) {
                memset(to, 0, all * sizeof *to);
            }
        }
    return taken;
}

/* Takes one; `why` says what was not, "" if nothing. */
static size_t take(struct nn *nn, int param, const struct nn_giver *from, bool *part, char *why,
                   size_t size)
{
    struct tensor *ours = &nn->param[param].t;
    const struct tensor *theirs = nn_find(from->list, from->count, ours->name);
    const struct way w = way_of(nn, param, from);
    *why = 0;
    *part = false;
    if (!theirs) {
        snprintf(why, size, "it has none");
        return 0;
    }
    if (theirs->dtype != DT_F32 && theirs->dtype != DT_F16 && theirs->dtype != DT_BF16 &&
        theirs->dtype != DT_F64) {
        snprintf(why, size, "it has no floats (got %s)", dtype_name(theirs->dtype));
        return 0;
    }
    if (!fits(ours, theirs, &w)) {
        char a[64], b[64];
        nn_shape_text(ours, a, sizeof a);
        nn_shape_text(theirs, b, sizeof b);
        snprintf(why, size, "it has another shape (wanted %s, got %s)", a, b);
        return 0;
    }
    for (int axis = 0; axis < 2; axis++) {
        if (!w.map[axis])
            continue;
        const char *what = w.image[axis] ? "channels of the image" : "outputs";
        const int n = w.channels[axis], k = known(w.map[axis], n);
        if (k == 0) {
            snprintf(why, size, "it knows none of the %s", what);
            return 0;
        }
        if (k < n) {
            size_t at = strlen(why);
            snprintf(why + at, size - at, "%sit knows %d of %d %s", at ? ", " : "", k, n, what);
            *part = true;
        }
    }
    return copy(ours, theirs, &w);
}

int nn_take(struct nn *nn, const struct nn_giver *from, double *share)
{
    size_t taken = 0, all = 0;
    char why[256];
    if (!nn->ready || !nn->opt.train)
        return nn_fail(nn, NN_EARG, "only initialised parameters can be taken from others");
    for (int i = 0; i < nn->g.params; i++) {
        bool part;
        if (from->next)
            from->next(from->ctx);
        taken += take(nn, i, from, &part, why, sizeof why);
        all += tensor_count(&nn->param[i].t);
        if (*why && from->left)
            from->left(from->ctx, nn->param[i].t.name, part, why);
    }
    *share = all ? (double)taken / (double)all : 0;
    return 0;
}
