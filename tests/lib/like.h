/* like.h - a network for a test, with first values or with another's parameters. */
#ifndef LIKE_H
#define LIKE_H

#include "lib/nn/nn.h"

#include <stdio.h>
#include <stdlib.h>

/* The test ends where there is none. */
static struct nn *net_like(const struct nn_spec *s, const struct nn_options *o,
                           const struct nn *like)
{
    char why[256];
    size_t count = 0;
    const struct tensor *params = like ? nn_params(like, &count) : NULL;
    struct nn *nn = nn_new(s, o, why, sizeof why);
    if (!nn || (like ? nn_load(nn, params, count) : nn_init(nn, 7))) {
        printf("Bail out! %s\n", nn ? nn_why(nn) : why);
        exit(1);
    }
    return nn;
}

#endif
