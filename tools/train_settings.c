/* The settings of train: what may be in the file of -c, and what stands where it says nothing. */
#include "tools/train.h"

#include <string.h>

#define SETTINGS 20
static const char *const archs[] = {"unet", "attention", "residual", NULL};
static const char *const losses[] = {"dice", "dice+ce", NULL};
static const char *const optimisers[] = {"adam", "adamw", "sgd", NULL};
static const char *const schedules[] = {"constant", "cosine", "polynomial", NULL};
static const char *const dtypes[] = {"f32", "f16", "bf16", NULL};
static const char *const keeps[] = {"best", "last", NULL};

static void settings_table(struct settings *s, struct config_field f[SETTINGS])
{
    const struct config_field table[SETTINGS] = {
        {"arch", CONFIG_CHOICE, &s->arch, 0, 0, archs, true},
        {"base", CONFIG_INT, &s->base, 1, 256, NULL, true},
        {"channels", CONFIG_INT, &s->channels, 1, NN_MAX_CIN, NULL, false},
        {"classes", CONFIG_INT, &s->classes, MET_CLASSES, NN_MAX_CLASSES, NULL, false},
        {"dropout", CONFIG_NUMBER, &s->dropout, 0, 0.99, NULL, false},
        {"batch", CONFIG_INT, &s->batch, 1, NN_MAX_BATCH, NULL, false},
        {"size", CONFIG_SIZE, s->size, 16, NN_MAX_SIDE, NULL, false},
        {"loss", CONFIG_CHOICE, &s->loss, 0, 0, losses, false},
        {"optimiser", CONFIG_CHOICE, &s->optimiser, 0, 0, optimisers, false},
        {"rate", CONFIG_NUMBER, &s->rate, 0, 100, NULL, false},
        {"schedule", CONFIG_CHOICE, &s->schedule, 0, 0, schedules, false},
        {"warmup", CONFIG_INT, &s->warmup, 0, 1000000, NULL, false},
        {"momentum", CONFIG_NUMBER, &s->momentum, 0, 0.9999, NULL, false},
        {"decay", CONFIG_NUMBER, &s->decay, 0, 1, NULL, false},
        {"clip", CONFIG_NUMBER, &s->clip, 0, 1e9, NULL, false},
        {"keep", CONFIG_CHOICE, &s->keep, 0, 0, keeps, false},
        {"patience", CONFIG_INT, &s->patience, 0, 1000000, NULL, false},
        {"checkpoint", CONFIG_NUMBER, &s->checkpoint, 0, 100000, NULL, false},
        {"weights", CONFIG_CHOICE, &s->weights, 0, 0, dtypes, false},
        {"seed", CONFIG_SEED, &s->seed, 0, 0, NULL, false},
    };
    memcpy(f, table, sizeof table);
}

void settings_read(struct settings *s, const char *path, const uint64_t *seed)
{
    struct config_field f[SETTINGS];
    char why[512];
    *s = (struct settings){.channels = 4,
                           .classes = MET_CLASSES,
                           .batch = 8,
                           .loss = NN_DICE_CE,
                           .rate = 1e-3,
                           .schedule = NN_COSINE,
                           .momentum = 0.99,
                           .checkpoint = 10};
    settings_table(s, f);
    if (config_read(path, f, SETTINGS, why, sizeof why))
        tool_die("%s", why);
    if (s->dropout > 0 && strcmp(archs[s->arch], "residual"))
        tool_die("%s: dropout is the residual network's alone (arch is %s)", path, archs[s->arch]);
    if (s->size[0] % 16 || s->size[1] % 16)
        tool_die("%s: size: (wanted multiples of 16, got %dx%d)", path, s->size[0], s->size[1]);
    if (s->patience && s->keep == KEEP_LAST)
        tool_die("%s: patience waits for a best epoch (keep is last)", path);
    if (seed)
        s->seed = *seed;
}

const char *settings_text(const struct settings *s)
{
    static char text[2048];
    static struct settings copy;
    struct config_field f[SETTINGS];
    copy = *s;
    settings_table(&copy, f);
    config_print(f, SETTINGS, text, sizeof text);
    return text;
}
