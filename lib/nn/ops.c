/* ops.c - the table of all operations. */
#include "lib/nn/ops.h"

#include <stddef.h>
#include <string.h>

#define ENTRY(name) &nn_##name,
const struct nn_kind *const nn_kinds[] = {NN_OPS(ENTRY) NULL};

const struct nn_kind *nn_kind(const char *name)
{
    for (int i = 0; nn_kinds[i]; i++)
        if (!strcmp(nn_kinds[i]->name, name))
            return nn_kinds[i];
    return NULL;
}
