/* networks.c - the three architectures as lists of operations. */
#include "lib/nn/net.h"

#include <stdio.h>
#include <string.h>

static const char *const names[NN_ARCH_COUNT] = {"unet", "attention", "residual"};

const char *nn_arch_name(enum nn_arch a)
{
    return (unsigned)a < NN_ARCH_COUNT ? names[a] : NULL;
}

int nn_arch_find(const char *name)
{
    for (int i = 0; i < NN_ARCH_COUNT; i++)
        if (!strcmp(name, names[i]))
            return i;
    return -1;
}

/* conv, norm */
static int convnorm(struct graph *g, int x, int c, const char *block, const char *conv,
                    const char *norm)
{
    return nn_norm(g, nn_conv3x3(g, x, c, block, conv), block, norm);
}

static int block(struct graph *g, const struct nn_spec *s, int x, int c, const char *name)
{
    int cin = g->value[x].c;
    int y = nn_relu(g, convnorm(g, x, c, name, "conv1", "norm1"), name);
    if (s->arch != NN_RESIDUAL)
        return nn_relu(g, convnorm(g, y, c, name, "conv2", "norm2"), name);
    if (s->dropout > 0)
        y = nn_dropout(g, y, s->dropout, name);
    y = convnorm(g, y, c, name, "conv2", "norm2");
    if (cin != c)
        x = nn_norm(g, nn_conv1x1(g, x, c, false, name, "shortcut"), name, "shortcut_norm");
    return nn_relu(g, nn_add(g, y, x, name), name);
}

/* The additive gate. Its half-width maps are read by nn_gate alone, which adds, activates, projects
 * and multiplies in passes of its own. */
static int gate(struct graph *g, int up, int x, const char *name)
{
    int c = g->value[x].c, ci = c / 2 > 0 ? c / 2 : 1;
    char block[TENSOR_MAX_NAME];
    snprintf(block, sizeof block, "%s.gate", name);
    int a = nn_norm(g, nn_conv1x1(g, up, ci, false, block, "g"), block, "g_norm");
    int b = nn_norm(g, nn_conv1x1(g, x, ci, false, block, "x"), block, "x_norm");
    return nn_gate(g, a, b, x, block);
}

void nn_build(struct graph *g, const struct nn_spec *s)
{
    static const char *const enc[] = {"enc1", "enc2", "enc3", "enc4"};
    static const char *const dec[] = {"dec1", "dec2", "dec3", "dec4"};
    int skip[4], x = nn_input(g, s->cin);
    for (int i = 0; i < 4; i++) {
        skip[i] = block(g, s, x, s->base << i, enc[i]);
        x = nn_pool(g, skip[i], enc[i]);
    }
    x = block(g, s, x, s->base << 4, "bottleneck");
    for (int i = 3; i >= 0; i--) {
        int up = nn_upconv(g, x, s->base << i, dec[i], "up");
        int side = s->arch == NN_ATTENTION ? gate(g, up, skip[i], dec[i]) : skip[i];
        x = block(g, s, nn_concat(g, side, up, dec[i]), s->base << i, dec[i]);
    }
    nn_loss_op(g, nn_head(g, x, s->classes));
}
