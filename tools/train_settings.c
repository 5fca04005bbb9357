/* The settings of train: what may be in the file of -c, and what stands where it says nothing. */
#include "tools/train.h"

#include <string.h>

#define SETTINGS 26
static const char *const archs[] = {"unet", "attention", "residual", NULL};
static const char *const losses[] = {"dice", "dice+ce", "ce", "dice+focal", "focal", NULL};
static const char *const dices[] = {"batch", "sample", NULL};
static const char *const optimisers[] = {"adam", "adamw", "sgd", NULL};
static const char *const schedules[] = {"constant", "cosine", "polynomial", NULL};
static const char *const dtypes[] = {"f32", "f16", "bf16", NULL};
static const char *const keeps[] = {"best", "last", NULL};

enum { CLASSES = 4 }; /* that the study has, and the least */
#define GAMMA 2

static void settings_table(struct settings *s, struct config_field f[SETTINGS])
{
    const struct config_field table[SETTINGS] = {
        {"arch", CONFIG_CHOICE, &s->arch, 0, 0, archs, true},
        {"base", CONFIG_INT, &s->base, 1, 256, NULL, true},
        {"channels", CONFIG_INT, &s->channels, 1, NN_MAX_CIN, NULL, false},
        {"classes", CONFIG_INT, &s->classes, CLASSES, NN_MAX_CLASSES, NULL, false},
        {"regions", CONFIG_TEXT, s->regions, 0, 0, NULL, false},
        {"dropout", CONFIG_NUMBER, &s->dropout, 0, 0.99, NULL, false},
        {"batch", CONFIG_INT, &s->batch, 1, NN_MAX_BATCH, NULL, false},
        {"size", CONFIG_SIZE, s->size, 16, NN_MAX_SIDE, NULL, false},
        {"loss", CONFIG_CHOICE, &s->loss, 0, 0, losses, false},
        {"dice", CONFIG_CHOICE, &s->dice, 0, 0, dices, false},
        {"background", CONFIG_BOOL, &s->background, 0, 0, NULL, false},
        {"squared", CONFIG_BOOL, &s->squared, 0, 0, NULL, false},
        {"gamma", CONFIG_NUMBER, &s->gamma, 0, 10, NULL, false},
        {"class_weights", CONFIG_LIST, &s->class_weights, 0, 1e6, NULL, false},
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

/* What the settings say of the loss has to fit together. */
static void check_loss(struct settings *s, const char *path)
{
    const bool dice = s->loss != NN_CE && s->loss != NN_FOCAL;
    const bool focal = s->loss == NN_FOCAL || s->loss == NN_DICE_FOCAL;
    const struct config_list *w = &s->class_weights;
    double sum = 0;
    char why[256];
    if (targets_make(&s->targets, s->classes, s->regions, why, sizeof why))
        tool_die("%s: regions: %s", path, why);
    if (!dice && (s->dice || !s->background || s->squared))
        tool_die("%s: %s is of Dice, which the loss is without (loss is %s)", path,
                 s->dice      ? "dice"
                 : s->squared ? "squared"
                              : "background",
                 losses[s->loss]);
    if (!s->background && s->targets.regions)
        tool_die("%s: background is of classes; among regions it is none", path);
    if (s->gamma != GAMMA && !focal)
        tool_die("%s: gamma is the focal loss's alone (loss is %s)", path, losses[s->loss]);
    if (!w->n)
        return;
    if (s->loss == NN_DICE)
        tool_die("%s: class_weights are of cross-entropy and focal loss (loss is dice)", path);
    if (w->n != s->targets.outputs)
        tool_die("%s: class_weights: (wanted %d numbers, one for each %s, got %d)", path,
                 s->targets.outputs, s->targets.regions ? "region" : "class", w->n);
    for (int k = 0; k < w->n; k++)
        sum += w->v[k];
    if (!(sum > 0))
        tool_die("%s: class_weights: (wanted one above 0)", path);
}

void settings_read(struct settings *s, const char *path, const uint64_t *seed)
{
    struct config_field f[SETTINGS];
    char why[512];
    *s = (struct settings){.channels = 4,
                           .classes = CLASSES,
                           .batch = 8,
                           .loss = NN_DICE_CE,
                           .background = true,
                           .gamma = GAMMA,
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
    check_loss(s, path);
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
