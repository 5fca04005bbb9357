/* pack.c - weights as the products of 16 bits read them, made once, before the first use. */
#include "lib/nn/handle.h"

#include <stdlib.h>

size_t nn_packed_bytes(const struct nn *nn, const struct op *op)
{
    if (!op->output || !op->params || !nn_packed(&nn->opt, &nn->g.param[op->param[0]]))
        return 0;
    const struct plan *p = &nn->plans.eval;
    const struct nn_call c = nn_planned(p, op, PASS_FORWARD, &p->size, 1);
    const struct kr_bf16 k = op->kind->bf16(&c);
    return kr_bf16_packed(&k);
}

/* One after the other, each forgotten before the next; a parameter of 16 bits by way of floats. */
int nn_pack(struct nn *nn)
{
    const struct plan *p = &nn->plans.eval;
    size_t at = 0, bytes;
    if (!nn->unpacked)
        return 0;
    for (int i = 0; i < nn->g.ops; i++) {
        const struct op *op = &nn->g.op[i];
        if (!(bytes = nn_packed_bytes(nn, op)))
            continue;
        struct stored *q = &nn->param[op->param[0]];
        const struct tensor *t = &q->raw;
        struct nn_call c = nn_planned(p, op, PASS_FORWARD, &p->size, nn->opt.threads);
        float *wide = NULL;
        if (t->dtype != DT_F32) {
            if (!(wide = malloc(tensor_count(t) * sizeof *wide)))
                return nn_fail(nn, NN_EMEM, "no memory: %zu bytes", tensor_count(t) * 4);
            tensor_to_f32(t, 0, tensor_count(t), wide);
        }
        c.param[0] = wide ? wide : t->data;
        const struct kr_bf16 k = op->kind->bf16(&c);
        kr_bf16_pack(&k, nn->packed + at);
        free(wide);
        q->packed = nn->packed + at;
        at += nn_up(bytes);
        if (nn->opt.hooks.packed)
            nn->opt.hooks.packed(nn->opt.hooks.ctx, t);
    }
    nn->unpacked = false;
    return 0;
}
