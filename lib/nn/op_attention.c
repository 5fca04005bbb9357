/* op_attention.c - softmax(q k^T / sqrt(c / heads)) v over all positions of a sample, or of each of
 * its slices, by OpenBLAS. Nothing is kept between the passes: backward computes the probabilities
 * again. */
#include "lib/nn/op.h"

#include "lib/kernels/product.h"

enum { Q, K, V };
enum { HEADS, PLANAR };

static const struct nn_rule rule[] = {
    {"heads", NN_INTEGER, 1, 1024, 1}, {"planar", NN_BOOL, 0, 1, 0}, {0}};

static int shape(struct nn_build *b)
{
    const int heads = nn_int(b->attr, HEADS), c = b->in[Q]->c, cv = b->in[V]->c;
    if (b->in[K]->c != c)
        return nn_refuse(b, "queries and keys differ in channels (%d and %d)", c, b->in[K]->c);
    if (c % heads || cv % heads)
        return nn_refuse(b, "its channels are not those of %d heads (got %d and %d)", heads, c, cv);
    for (int i = 0; i < 3; i++)
        if (b->in[K]->down[i] != b->in[V]->down[i])
            return nn_refuse(b, "keys and values differ in size");
    if (nn_int(b->attr, PLANAR) && b->in[Q]->down[0] != b->in[K]->down[0])
        return nn_refuse(b, "queries and keys differ in slices");
    b->out.c = cv;
    return 0;
}

static struct nn_reach reach(const struct nn_attr *a)
{
    return (struct nn_reach){.whole = !nn_int(a, PLANAR)};
}

static struct kr_attention describe(const struct nn_call *c)
{
    const struct nn_shape *q = &c->x[Q], *k = &c->x[K];
    const bool planar = nn_int(c->attr, PLANAR);
    return (struct kr_attention){.n = planar ? q->n * q->d : q->n,
                                 .heads = nn_int(c->attr, HEADS),
                                 .c = q->c,
                                 .cv = c->y.c,
                                 .from = (planar ? 1 : q->d) * q->h * q->w,
                                 .to = (planar ? 1 : k->d) * k->h * k->w,
                                 .q = c->in[Q][0].x,
                                 .k = c->in[K][0].x,
                                 .v = c->in[V][0].x,
                                 .threads = c->threads};
}

static void forward(const struct nn_call *c)
{
    const struct kr_attention a = describe(c);
    kr_attention_forward(&a, c->out.y, c->workspace);
}

static void data(const struct nn_call *c)
{
    const struct kr_attention a = describe(c);
    struct kr_attention_dx dx[3];
    for (int i = 0; i < 3; i++)
        dx[i] = (struct kr_attention_dx){c->dx[i][0].dx, c->dx[i][0].accumulate};
    kr_attention_backward(&a, c->dy.dy, dx, c->workspace);
}

static size_t workspace(const struct nn_call *c)
{
    const struct kr_attention a = describe(c);
    return kr_attention_workspace(&a);
}

static double flops(const struct nn_call *c)
{
    const struct kr_attention a = describe(c);
    return 2.0 * a.n * a.from * a.to * (a.c + a.cv);
}

const struct nn_kind nn_attention = {.name = "attention",
                                     .rule = rule,
                                     .least = 3,
                                     .most = 3,
                                     .reads = NN_PLAIN,
                                     .products = true,
                                     .data_reads = true,
                                     .reach = reach,
                                     .shape = shape,
                                     .forward = forward,
                                     .data = data,
                                     .workspace = workspace,
                                     .flops = flops};
