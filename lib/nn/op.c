/* op.c - what operations say while a graph is built and while it runs. */
#include "lib/nn/op.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void nn_declare(struct nn_build *b, const char *suffix, bool trained, enum nn_first first,
                size_t fan, int rank, const uint32_t dim[])
{
    assert(b->params < NN_PARAMS && rank <= TENSOR_MAX_RANK);
    struct nn_param *p = &b->param[b->params++];
    *p = (struct nn_param){.suffix = suffix, .trained = trained, .first = first, .fan = fan};
    p->rank = rank;
    memcpy(p->dim, dim, (size_t)rank * sizeof *dim);
}

int nn_refuse(struct nn_build *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(b->why, b->size, fmt, ap);
    va_end(ap);
    return -1;
}

int nn_same_size(struct nn_build *b)
{
    for (int i = 1; i < b->ins; i++)
        if (memcmp(b->in[0]->down, b->in[i]->down, sizeof b->in[0]->down))
            return nn_refuse(b, "its inputs differ in size");
    return 0;
}

int nn_same_channels(struct nn_build *b)
{
    for (int i = 1; i < b->ins; i++)
        if (b->in[0]->c != b->in[i]->c)
            return nn_refuse(b, "its inputs differ in channels (%d and %d)", b->in[0]->c,
                             b->in[i]->c);
    return 0;
}

int nn_fault(const struct nn_call *c, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->why, c->size, fmt, ap);
    va_end(ap);
    return *c->failed = code;
}
