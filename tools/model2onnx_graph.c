/* model2onnx_graph.c - each operation of a network in words of ONNX.
 *
 * The graph's input is `image`, (batch, channels, height, width), of volumes with depth before
 * height; its output is `prob`, of the same size. It pads by itself to what the network divides by,
 * as infer does, and takes that off again. A linear layer is a convolution of 1x1; a weight that
 * lacks an axis of length 1 is given it by its shape, so no bytes are moved. */
#include "tools/model2onnx.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME = 128, NAMES = 32, AXES_MOST = 3, RANK_MOST = 8 };

static struct {
    struct onnx_out node, constant; /* fields of the graph */
    size_t open; /* where the node that may still get attributes began; 0: none */
    struct names constants;
    const struct nn_said *now;
    const char *last; /* what the next node makes is called so; NULL: by its operation */
    int nodes;
} g;

typedef const char *value;

/* --- nodes ------------------------------------------------------------------------------------ */

/* A text that lives until so many others were made. */
static char *text(void)
{
    static char ring[NAMES][NAME];
    static int at;
    return ring[at++ % NAMES];
}

static void close_node(void)
{
    if (g.open)
        onnx_end(&g.node, g.open);
    g.open = 0;
}

/* A node, whose attributes may follow; what it makes. */
static value node_of(const char *type, int ins, const value in[])
{
    char *name = text();
    close_node();
    snprintf(name, NAME, "/%s/%s_%d", g.now->name, type, g.nodes++);
    g.open = onnx_begin(&g.node, ONNX_GRAPH_NODE);
    for (int i = 0; i < ins; i++)
        onnx_text(&g.node, ONNX_NODE_INPUT, in[i]);
    onnx_text(&g.node, ONNX_NODE_OUTPUT, g.last ? g.last : name);
    onnx_text(&g.node, ONNX_NODE_NAME, name);
    onnx_text(&g.node, ONNX_NODE_TYPE, type);
    return g.last ? g.last : name;
}

#define NODE(type, ...)                                                                            \
    node_of(type, (int)(sizeof((value[]){__VA_ARGS__}) / sizeof(value)), (value[]){__VA_ARGS__})

static void attribute(const char *name, int type, int field, int n, const int64_t v[])
{
    const size_t at = onnx_begin(&g.node, ONNX_NODE_ATTRIBUTE);
    onnx_text(&g.node, ONNX_ATTRIBUTE_NAME, name);
    for (int i = 0; i < n; i++)
        onnx_int(&g.node, field, v[i]);
    onnx_int(&g.node, ONNX_ATTRIBUTE_TYPE, type);
    onnx_end(&g.node, at);
}

static void set_ints(const char *name, int n, const int64_t v[])
{
    attribute(name, ONNX_IS_INTS, ONNX_ATTRIBUTE_INTS, n, v);
}

static void set_int(const char *name, int64_t v)
{
    attribute(name, ONNX_IS_INT, ONNX_ATTRIBUTE_I, 1, &v);
}

static void set_real(const char *name, double v)
{
    const size_t at = onnx_begin(&g.node, ONNX_NODE_ATTRIBUTE);
    onnx_text(&g.node, ONNX_ATTRIBUTE_NAME, name);
    onnx_float(&g.node, ONNX_ATTRIBUTE_F, (float)v);
    onnx_int(&g.node, ONNX_ATTRIBUTE_TYPE, ONNX_IS_FLOAT);
    onnx_end(&g.node, at);
}

static void set_word(const char *name, const char *v)
{
    const size_t at = onnx_begin(&g.node, ONNX_NODE_ATTRIBUTE);
    onnx_text(&g.node, ONNX_ATTRIBUTE_NAME, name);
    onnx_text(&g.node, ONNX_ATTRIBUTE_S, v);
    onnx_int(&g.node, ONNX_ATTRIBUTE_TYPE, ONNX_IS_STRING);
    onnx_end(&g.node, at);
}

/* --- numbers ---------------------------------------------------------------------------------- */

/* Written once, whoever needs them. */
static value constant(const char *name, int type, int n, const void *raw, size_t bytes)
{
    if (names_find(&g.constants, name) == NAMES_NONE) {
        tool_add_name(&g.constants, name);
        const size_t at = onnx_begin(&g.constant, ONNX_GRAPH_INITIALIZER);
        if (n)
            onnx_int(&g.constant, ONNX_TENSOR_DIMS, n);
        onnx_int(&g.constant, ONNX_TENSOR_TYPE, type);
        onnx_text(&g.constant, ONNX_TENSOR_NAME, name);
        onnx_bytes(&g.constant, ONNX_TENSOR_RAW, raw, bytes);
        onnx_end(&g.constant, at);
    }
    return name;
}

/* A list; called after what it holds. */
static value ints(int n, const int64_t v[])
{
    char *name = text();
    size_t at = (size_t)snprintf(name, NAME, "/ints");
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(name + at, NAME - at, "%s%lld", i ? "," : "/", (long long)v[i]);
    return constant(name, ONNX_I64, n, v, (size_t)n * sizeof *v);
}

#define INTS(...)                                                                                  \
    ints((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

static value real(double v)
{
    char *name = text();
    const float f = (float)v;
    snprintf(name, NAME, "/real/%.9g", (double)f);
    return constant(name, ONNX_F32, 0, &f, sizeof f);
}

/* --- weights ---------------------------------------------------------------------------------- */

static int type_of(const struct tensor *t)
{
    switch (t->dtype) {
    case DT_F32:
        return ONNX_F32;
    case DT_F16:
        return ONNX_F16;
    case DT_BF16:
        return ONNX_BF16;
    case DT_F64:
        return ONNX_F64;
    default:
        tool_die("%s: parameter '%s': (wanted a float, got %s)", opt.path, t->name,
                 dtype_name(t->dtype));
    }
}

/* The file's bytes as an array of that shape. */
static value weight(int i, int rank, const int64_t dim[])
{
    const struct tensor *t = parameter(&g.now->param[i]);
    const int type = type_of(t);
    const size_t at = onnx_begin(&g.constant, ONNX_GRAPH_INITIALIZER);
    for (int k = 0; k < rank; k++)
        onnx_int(&g.constant, ONNX_TENSOR_DIMS, dim[k]);
    onnx_int(&g.constant, ONNX_TENSOR_TYPE, type);
    onnx_text(&g.constant, ONNX_TENSOR_NAME, t->name);
    if (rank != t->rank) { /* its shape in the model */
        char own[TENSOR_MAX_RANK * 12] = "";
        for (int k = 0; k < t->rank; k++)
            snprintf(own + strlen(own), sizeof own - strlen(own), k ? "x%u" : "%u", t->dim[k]);
        onnx_text(&g.constant, ONNX_TENSOR_DOC, own);
    }
    if (opt.weights) {
        char number[2][24];
        snprintf(number[0], sizeof number[0], "%zu", offset(t));
        snprintf(number[1], sizeof number[1], "%zu", tensor_bytes(t));
        onnx_pair(&g.constant, ONNX_TENSOR_EXTERNAL, "location", opt.weights);
        onnx_pair(&g.constant, ONNX_TENSOR_EXTERNAL, "offset", number[0]);
        onnx_pair(&g.constant, ONNX_TENSOR_EXTERNAL, "length", number[1]);
        onnx_int(&g.constant, ONNX_TENSOR_LOCATION, ONNX_EXTERNAL);
    } else {
        onnx_bytes(&g.constant, ONNX_TENSOR_RAW, t->data, tensor_bytes(t));
    }
    onnx_end(&g.constant, at);
    if (type == ONNX_F32)
        return t->name;
    value wide = NODE("Cast", t->name);
    set_int("to", ONNX_F32);
    return wide;
}

/* Of a kernel (a, b, axes...), of which the foremost may be missing. */
static value kernel(int i)
{
    const struct tensor *t = &g.now->param[i];
    int64_t dim[RANK_MOST] = {t->dim[0], t->dim[1]};
    const int k = t->rank - 2, lacks = axes() - k;
    for (int a = 0; a < axes(); a++)
        dim[2 + a] = a < lacks ? 1 : t->dim[2 + a - lacks];
    return weight(i, 2 + axes(), dim);
}

/* Of channels; `along` axes behind them. */
static value vector(int i, int along)
{
    const int64_t dim[RANK_MOST] = {g.now->param[i].dim[0], 1, 1, 1};
    return weight(i, 1 + along, dim);
}

/* --- operations ------------------------------------------------------------------------------- */

static const double *attr(const char *name)
{
    for (int i = 0; i < g.now->attrs; i++)
        if (!strcmp(g.now->attr[i].name, name))
            return g.now->attr[i].v;
    tool_die("operation '%s' (%s) has no %s", g.now->name, g.now->op, name);
}

/* Of the axes that there are, as an attribute of the node. */
static void set_axes(const char *as, const double v[3])
{
    int64_t n[AXES_MOST];
    for (int a = 0; a < axes(); a++)
        n[a] = (int64_t)v[3 - axes() + a];
    set_ints(as, axes(), n);
}

static value join(value a, value b)
{
    value y = NODE("Concat", a, b);
    set_int("axis", 0);
    return y;
}

/* Sides of a value; the axes from `from` on. */
static value sides(value x, int from)
{
    value y = NODE("Shape", x);
    set_int("start", from);
    return y;
}

static value convolution(const value in[])
{
    const double *k = attr("kernel"), *d = attr("dilation");
    value w = kernel(0), b = g.now->params > 1 ? vector(1, 0) : NULL;
    value y = b ? NODE("Conv", in[0], w, b) : NODE("Conv", in[0], w);
    int64_t pad[2 * AXES_MOST];
    for (int a = 0; a < axes(); a++) {
        const int z = 3 - axes() + a;
        pad[a] = pad[axes() + a] = (int)k[z] % 2 ? (int64_t)(d[z] * (k[z] - 1) / 2) : 0;
    }
    set_axes("kernel_shape", k);
    set_axes("strides", attr("stride"));
    set_axes("dilations", d);
    set_ints("pads", 2 * axes(), pad);
    return y;
}

static value transposed_convolution(const value in[])
{
    value w = kernel(0), b = g.now->params > 1 ? vector(1, 0) : NULL;
    value y = b ? NODE("ConvTranspose", in[0], w, b) : NODE("ConvTranspose", in[0], w);
    set_axes("kernel_shape", attr("kernel"));
    set_axes("strides", attr("stride"));
    return y;
}

/* A convolution of 1x1: linear, head. */
static value linear(const value in[])
{
    value w = kernel(0), b = g.now->params > 1 ? vector(1, 0) : NULL;
    return b ? NODE("Conv", in[0], w, b) : NODE("Conv", in[0], w);
}

static value pool(const value in[], const char *type)
{
    value y = NODE(type, in[0]);
    set_axes("kernel_shape", attr("size"));
    set_axes("strides", attr("size"));
    return y;
}

static value max_pool(const value in[])
{
    return pool(in, "MaxPool");
}

static value average_pool(const value in[])
{
    return pool(in, "AveragePool");
}

static value batch_norm(const value in[])
{
    value p[4];
    for (int i = 0; i < 4; i++)
        p[i] = vector(i, 0);
    value y = NODE("BatchNormalization", in[0], p[0], p[1], p[2], p[3]);
    set_real("epsilon", *attr("eps"));
    return y;
}

/* The mean along axes from..to, one after the other: a runtime that sums a whole plane in floats,
 * one number behind the other, loses digits. */
static value mean(value x, int from, int to)
{
    for (int64_t axis = to; axis >= from; axis--) {
        x = NODE("ReduceMean", x);
        set_ints("axes", 1, &axis);
        set_int("keepdims", 1);
    }
    return x;
}

/* By the statistics over these axes of each sample; w and b may be NULL. */
static value normalised(value x, int from, int to, value w, value b)
{
    value off = NODE("Sub", x, mean(x, from, to));
    value spread = mean(NODE("Mul", off, off), from, to);
    value root = NODE("Sqrt", NODE("Add", spread, real(*attr("eps"))));
    if (!w)
        return NODE("Div", off, root);
    return NODE("Add", NODE("Mul", off, NODE("Div", w, root)), b);
}

static value instance_norm(const value in[])
{
    value w = g.now->params ? vector(0, axes()) : NULL, b = w ? vector(1, axes()) : NULL;
    return normalised(in[0], 2, 1 + axes(), w, b);
}

/* A group's channels are an axis more. */
static value group_norm(const value in[])
{
    const int n = (int)*attr("groups");
    value size = join(INTS(0, n, g.now->channels / n), sides(in[0], 2));
    value y = normalised(NODE("Reshape", in[0], size), 2, 2 + axes(), NULL, NULL);
    y = NODE("Reshape", y, NODE("Shape", in[0]));
    if (!g.now->params)
        return y;
    value w = vector(0, axes()), b = vector(1, axes());
    return NODE("Add", NODE("Mul", y, w), b);
}

static value transpose(value x, int n, const int64_t order[])
{
    value y = NODE("Transpose", x);
    set_ints("perm", n, order);
    return y;
}

#define TRANSPOSE(x, ...)                                                                          \
    transpose(x, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                        \
              (int64_t[]){__VA_ARGS__})

static value layer_norm(const value in[])
{
    value w = vector(0, 0), b = vector(1, 0);
    value x = about.volume ? TRANSPOSE(in[0], 0, 2, 3, 4, 1) : TRANSPOSE(in[0], 0, 2, 3, 1);
    value y = NODE("LayerNormalization", x, w, b);
    set_int("axis", -1);
    set_real("epsilon", *attr("eps"));
    return about.volume ? TRANSPOSE(y, 0, 4, 1, 2, 3) : TRANSPOSE(y, 0, 3, 1, 2);
}

static value relu(const value in[])
{
    return NODE("Relu", in[0]);
}

static value leaky_relu(const value in[])
{
    value y = NODE("LeakyRelu", in[0]);
    set_real("alpha", *attr("slope"));
    return y;
}

static value gelu(const value in[])
{
    value part = NODE("Erf", NODE("Mul", in[0], real(sqrt(0.5))));
    value both = NODE("Mul", in[0], NODE("Add", part, real(1)));
    return NODE("Mul", both, real(0.5));
}

static value sigmoid(const value in[])
{
    return NODE("Sigmoid", in[0]);
}

static value silu(const value in[])
{
    return NODE("Mul", in[0], sigmoid(in));
}

static value softmax(const value in[])
{
    value y = NODE("Softmax", in[0]);
    set_int("axis", 1);
    return y;
}

static value same(const value in[])
{
    return in[0];
}

static value concat(const value in[])
{
    value y = NODE("Concat", in[0], in[1]);
    set_int("axis", 1);
    return y;
}

static value add(const value in[])
{
    return NODE("Add", in[0], in[1]);
}

static value multiply(const value in[])
{
    return NODE("Mul", in[0], in[1]);
}

static value gate(const value in[])
{
    return NODE("Mul", in[1], NODE("Sigmoid", in[0]));
}

static value attention_score(const value in[])
{
    value sum = NODE("Relu", NODE("Add", in[0], in[1]));
    return linear(&sum);
}

/* Up by a factor: an absent region of interest, scales. */
static value resize(const value in[], bool smooth)
{
    const double *f = attr("factor");
    float scale[2 + AXES_MOST] = {1, 1};
    char *name = text();
    size_t at = (size_t)snprintf(name, NAME, "/factor");
    for (int a = 0; a < axes(); a++) {
        scale[2 + a] = (float)f[3 - axes() + a];
        at += (size_t)snprintf(name + at, NAME - at, "/%g", (double)scale[2 + a]);
    }
    constant(name, ONNX_F32, 2 + axes(), scale, (size_t)(2 + axes()) * sizeof *scale);
    value y = NODE("Resize", in[0], "", name);
    set_word("mode", smooth ? "linear" : "nearest");
    set_word("coordinate_transformation_mode", smooth ? "half_pixel" : "asymmetric");
    if (!smooth)
        set_word("nearest_mode", "floor");
    return y;
}

static value nearest(const value in[])
{
    return resize(in, false);
}

static value linear_resize(const value in[])
{
    return resize(in, true);
}

/* The table, brought to the value's size. A grid of slices in a network of planes lies across its
 * one. */
static value positions(const value in[])
{
    const struct tensor *t = &g.now->param[0];
    const bool deep = t->rank == 4, flat = deep && !about.volume;
    const int64_t c = t->dim[0], plane[2] = {t->dim[t->rank - 2], t->dim[t->rank - 1]};
    const int64_t slab[5] = {1, c, deep ? t->dim[1] : 1, plane[0], plane[1]},
                  sheet[4] = {1, c, plane[0], plane[1]};
    value table = deep || about.volume ? weight(0, 5, slab) : weight(0, 4, sheet);
    value size = sides(in[0], 2);
    value to = join(flat ? INTS(1, c, 1) : INTS(1, c), size);
    value grid = NODE("Resize", table, "", "", to);
    set_word("mode", "linear");
    set_word("coordinate_transformation_mode", "half_pixel");
    if (flat)
        grid = NODE("Reshape", grid, join(INTS(1, c), size));
    return NODE("Add", in[0], grid);
}

/* Channels become heads of channels, and the axes behind them one: (batch, heads, channels,
 * positions), where it is planar with slices after the batch. */
static value heads(value x, int n, int64_t c, bool planar)
{
    if (planar)
        return NODE("Reshape", TRANSPOSE(x, 0, 2, 1, 3, 4), INTS(0, 0, n, c / n, -1));
    return NODE("Reshape", x, INTS(0, n, c / n, -1));
}

static value attention(const value in[])
{
    const int n = (int)*attr("heads");
    const int64_t c = outline.said[g.now->in[0]].channels, cv = g.now->channels;
    const bool planar = *attr("planar") != 0 && about.volume;
    value x = heads(in[0], n, c, planar);
    value q = NODE("Mul", x, real(1 / sqrt((double)c / n)));
    value k = heads(in[1], n, c, planar), v = heads(in[2], n, cv, planar);
    if (planar) {
        value p = NODE("Softmax", NODE("MatMul", TRANSPOSE(q, 0, 1, 2, 4, 3), k));
        set_int("axis", -1);
        value y = NODE("MatMul", v, TRANSPOSE(p, 0, 1, 2, 4, 3)); /* channels, positions */
        return TRANSPOSE(NODE("Reshape", y, join(INTS(0, 0, cv), sides(in[0], 3))), 0, 2, 1, 3, 4);
    }
    value p = NODE("Softmax", NODE("MatMul", TRANSPOSE(q, 0, 1, 3, 2), k));
    set_int("axis", -1);
    value y = NODE("MatMul", v, TRANSPOSE(p, 0, 1, 3, 2));
    return NODE("Reshape", y, join(INTS(0, cv), sides(in[0], 2)));
}

static const struct {
    const char *op;
    value (*say)(const value in[]);
} words[] = {
    {"convolution", convolution},
    {"transposed_convolution", transposed_convolution},
    {"linear", linear},
    {"head", linear},
    {"max_pool", max_pool},
    {"average_pool", average_pool},
    {"batch_norm", batch_norm},
    {"instance_norm", instance_norm},
    {"group_norm", group_norm},
    {"layer_norm", layer_norm},
    {"relu", relu},
    {"leaky_relu", leaky_relu},
    {"gelu", gelu},
    {"silu", silu},
    {"sigmoid", sigmoid},
    {"softmax", softmax},
    {"dropout", same},
    {"copy", same},
    {"concat", concat},
    {"add", add},
    {"multiply", multiply},
    {"gate", gate},
    {"attention_score", attention_score},
    {"nearest", nearest},
    {"linear_resize", linear_resize},
    {"positions", positions},
    {"attention", attention},
};

/* --- the whole -------------------------------------------------------------------------------- */

static value say(const struct nn_said *op, const value in[])
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(words[i].op, op->op))
            return words[i].say(in);
    tool_die("%s: operation '%s' (%s): no words of ONNX for it", opt.path, op->name, op->op);
}

/* Zeros behind the last row and column (and slice), to what the network divides by. */
static value padded(value image, value *size)
{
    int64_t by[AXES_MOST];
    bool any = false;
    for (int a = 0; a < axes(); a++)
        any |= (by[a] = about.multiple[3 - axes() + a]) > 1;
    if (!any)
        return image;
    *size = tool_copy(sides(image, 2));
    value rest = NODE("Mod", NODE("Neg", *size), ints(axes(), by));
    value none = about.volume ? INTS(0, 0, 0, 0, 0, 0, 0) : INTS(0, 0, 0, 0, 0, 0);
    return NODE("Pad", image, join(none, rest));
}

static value cut(value x, value size)
{
    static const int64_t zero[AXES_MOST] = {0}, at[AXES_MOST] = {2, 3, 4};
    value from = ints(axes(), zero), of = ints(axes(), at);
    return NODE("Slice", x, from, size, of);
}

/* A value from outside or to there. */
static void describe(struct onnx_out *o, int field, const char *name, int channels)
{
    static const char *const side[] = {"depth", "height", "width"};
    const size_t info = onnx_begin(o, field);
    onnx_text(o, ONNX_VALUE_NAME, name);
    const size_t type = onnx_begin(o, ONNX_VALUE_TYPE), tensor = onnx_begin(o, ONNX_TYPE_TENSOR);
    onnx_int(o, ONNX_TENSOR_ELEMENTS, ONNX_F32);
    const size_t shape = onnx_begin(o, ONNX_TENSOR_SHAPE);
    for (int i = 0; i < 2 + axes(); i++) {
        const size_t dim = onnx_begin(o, ONNX_SHAPE_DIM);
        if (i == 1)
            onnx_int(o, ONNX_DIM_VALUE, channels);
        else
            onnx_text(o, ONNX_DIM_NAME, i ? side[i + 1 - axes()] : "batch");
        onnx_end(o, dim);
    }
    onnx_end(o, shape);
    onnx_end(o, tensor);
    onnx_end(o, type);
    onnx_end(o, info);
}

void graph_write(struct onnx_out *o)
{
    value size = NULL;
    char **made = tool_alloc((size_t)outline.count * sizeof *made);
    for (int i = 0; i < outline.count; i++) {
        value in[4] = {0};
        g.now = &outline.said[i];
        for (int k = 0; k < g.now->ins; k++)
            in[k] = made[g.now->in[k]];
        made[i] = tool_copy(g.now->ins ? say(g.now, in) : padded("image", &size));
    }
    value logits = made[outline.count - 1];
    g.last = size ? NULL : "prob";
    value prob = model.targets.regions ? sigmoid(&logits) : softmax(&logits);
    g.last = "prob";
    if (size)
        cut(prob, size);
    close_node();
    onnx_append(o, &g.node);
    onnx_text(o, ONNX_GRAPH_NAME, model.arch);
    onnx_append(o, &g.constant);
    describe(o, ONNX_GRAPH_INPUT, "image", about.inputs);
    describe(o, ONNX_GRAPH_OUTPUT, "prob", about.outputs);
    for (int i = 0; i < outline.count; i++)
        free(made[i]);
    free(made);
    free((char *)(uintptr_t)size);
    free(g.node.data);
    free(g.constant.data);
    names_free(&g.constants);
}
