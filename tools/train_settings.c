/* The settings of train: what may be in the file of -c, what stands where it says nothing, and the
 * network that it names. */
#include "tools/train.h"

#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

#include "formats/plain.h"
#include "lib/base/names.h"
#include "lib/image/beside.h"

#define SETTINGS 36
#define MAX_BASE 256
static const char *const losses[] = {"dice", "dice+ce", "ce", "dice+focal", "focal", NULL};
static const char *const dices[] = {"batch", "sample", NULL};
static const char *const optimisers[] = {"adam", "adamw", "sgd", NULL};
static const char *const schedules[] = {"constant", "cosine", "polynomial", NULL};
static const char *const dtypes[] = {"f32", "f16", "bf16", NULL};
static const char *const narrow[] = {"f32", "bf16", NULL};
static const char *const switches[] = {"false", "true", NULL};
static const char *const keeps[] = {"best", "last", NULL};

/* What PyTorch, nnU-Net, MONAI and Keras call it. */
static const struct config_other others[] = {
    {"lr", "rate"},
    {"learning_rate", "rate"},
    {"initial_lr", "rate"},
    {"batch_size", "batch"},
    {"epochs", "epochs -n, which sends so many passes"},
    {"num_epochs", "epochs -n, which sends so many passes"},
    {"max_epochs", "epochs -n, which sends so many passes"},
    {"weight_decay", "decay"},
    {"optimizer", "optimiser"},
    {"criterion", "loss"},
    {"loss_function", "loss"},
    {"class_weight", "class_weights"},
    {"weight", "class_weights"},
    {"clip_grad_norm", "clip"},
    {"max_norm", "clip"},
    {"gradient_clip_val", "clip"},
    {"accumulate_grad_batches", "accumulate"},
    {"gradient_accumulation_steps", "accumulate"},
    {"ema_decay", "ema"},
    {"swa", "average"},
    {"lr_scheduler", "schedule"},
    {"scheduler", "schedule"},
    {"warmup_steps", "warmup"},
    {"early_stopping", "patience"},
    {"model", "arch or network"},
    {"architecture", "arch"},
    {"backbone", "arch"},
    {"filters", "base"},
    {"base_filters", "base"},
    {"init_features", "base"},
    {"n_filters", "base"},
    {"in_channels", "channels"},
    {"num_classes", "classes, or regions"},
    {"out_channels", "classes, or regions"},
    {"drop_rate", "dropout"},
    {"patch_size", "size, or augment -w for windows"},
    {"image_size", "size"},
    {"dtype", "weights, of what is kept in the model, or precision, of what is multiplied"},
    {"random_state", "seed"},
    {"device", "nothing: there are processors alone"},
    {"num_workers", "augment -j and train -j"},
    {"shuffle", "nothing: epochs shuffles"},
    {NULL, NULL}};

enum { CLASSES = 4 }; /* that the study has, and the least */
#define GAMMA 2
#define MOMENTUM 0.99
#define EMA 0.999
#define BASE 16

static void settings_table(struct settings *s, struct config_field f[SETTINGS])
{
    const struct config_field table[SETTINGS] = {
        {"arch", CONFIG_TEXT, s->arch, 0, 0, NULL, false},
        {"network", CONFIG_TEXT, s->network, 0, 0, NULL, false},
        {"base", CONFIG_INT, &s->base, 1, MAX_BASE, NULL, false},
        {"channels", CONFIG_INT, &s->inputs, 1, NN_MAX_CIN, NULL, false},
        {"classes", CONFIG_INT, &s->labels, CLASSES, NN_MAX_CLASSES, NULL, false},
        {"regions", CONFIG_TEXT, s->regions, 0, 0, NULL, false},
        {"dropout", CONFIG_NUMBER, &s->dropout, 0, 0.99, NULL, false},
        {"deep_supervision", CONFIG_CHOICE, &s->deep_supervision, 0, 0, switches, false},
        {"parameters", CONFIG_NUMBERS, &s->numbers, 0, 0, NULL, false},
        {"neighbours", CONFIG_INT, &s->neighbours, 0, NN_MAX_CIN / 2, NULL, false},
        {"batch", CONFIG_INT, &s->batch, 1, NN_MAX_BATCH, NULL, false},
        {"size", CONFIG_SIZE, s->size, 1, NN_MAX_SIDE, NULL, false},
        {"loss", CONFIG_CHOICE, &s->loss, 0, 0, losses, false},
        {"dice", CONFIG_CHOICE, &s->dice, 0, 0, dices, false},
        {"background", CONFIG_CHOICE, &s->background, 0, 0, switches, false},
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
        {"accumulate", CONFIG_INT, &s->accumulate, 1, 1000, NULL, false},
        {"ema", CONFIG_NUMBER, &s->ema, 0, 0.999999, NULL, false},
        {"average", CONFIG_INT, &s->average, 0, 1000000, NULL, false},
        {"keep", CONFIG_CHOICE, &s->keep, 0, 0, keeps, false},
        {"patience", CONFIG_INT, &s->patience, 0, 1000000, NULL, false},
        {"checkpoint", CONFIG_NUMBER, &s->checkpoint, 0, 100000, NULL, false},
        {"weights", CONFIG_CHOICE, &s->weights, 0, 0, dtypes, false},
        {"seed", CONFIG_SEED, &s->seed, 0, 0, NULL, false},
        {"groups", CONFIG_INT, &s->groups, 1, NN_MAX_GROUPS, NULL, false},
        {"gradients", CONFIG_CHOICE, &s->gradients, 0, 0, narrow, false},
        {"precision", CONFIG_CHOICE, &s->precision, 0, 0, narrow, false},
    };
    memcpy(f, table, sizeof table);
}

/* --- what stands where the file says nothing ---------------------------------------------------*/

enum { UNSAID = -1 };
#define NO_REGIONS "none"

/* The regions that BraTS reports, of canonical labels (scheme.h); of other numbers of labels nobody
 * knows what they are. */
static const char *usual_regions(int classes)
{
    return classes == CLASSES       ? "wt=1,2,3;tc=1,3;et=3"
           : classes == CLASSES + 1 ? "wt=1,2,3;tc=1,3;et=3;rc=4"
                                    : "";
}

/* NAME.yaml; else NAME comes with the program. */
static bool is_file(const char *name)
{
    const size_t n = strlen(name), yaml = strlen(".yaml");
    return n > yaml && !strcmp(name + n - yaml, ".yaml");
}

/* What is recommended, or what stood there before there was such a thing. */
static void fill_in(struct settings *s, bool recommended)
{
    if (!*s->arch && !*s->network)
        snprintf(s->arch, sizeof s->arch, "unet");
    if (!s->base && recommended && !is_file(*s->network ? s->network : s->arch))
        s->base = BASE;
    s->groups = s->groups ? s->groups : 1;
    if (s->keep == UNSAID)
        s->keep = s->patience || !recommended ? KEEP_BEST : KEEP_LAST;
    if (s->ema < 0)
        s->ema = s->average || !recommended ? 0 : EMA;
    s->usual = !*s->regions && s->background == UNSAID && recommended;
    if (s->background == UNSAID)
        s->background = true;
    if (!strcmp(s->regions, NO_REGIONS))
        *s->regions = 0;
}

/* What the settings say of the loss and the optimiser has to fit together. */
static void check_learning(struct settings *s, const char *path)
{
    const bool dice = s->loss != NN_CE && s->loss != NN_FOCAL;
    const bool focal = s->loss == NN_FOCAL || s->loss == NN_DICE_FOCAL;
    const struct config_list *w = &s->class_weights;
    double sum = 0;
    if (!dice && (s->dice || !s->background || s->squared))
        tool_die("%s: %s is of Dice, which the loss is without (loss is %s)", path,
                 s->dice      ? "dice"
                 : s->squared ? "squared"
                              : "background",
                 losses[s->loss]);
    if (!s->background && s->targets.regions)
        tool_die("%s: background is of classes; among regions it is none (regions: none has "
                 "classes)",
                 path);
    if (s->gamma != GAMMA && !focal)
        tool_die("%s: gamma is the focal loss's alone (loss is %s)", path, losses[s->loss]);
    if (s->momentum != MOMENTUM && s->optimiser != NN_SGD)
        tool_die("%s: momentum is sgd's alone (optimiser is %s)", path, optimisers[s->optimiser]);
    if (!w->n)
        return;
    if (s->loss == NN_DICE)
        tool_die("%s: class_weights are of cross-entropy and focal loss (loss is dice)", path);
    if (w->n != s->targets.outputs)
        tool_die("%s: class_weights: (wanted %d numbers, one for each %s, got %d%s)", path,
                 s->targets.outputs, s->targets.regions ? "region" : "class", w->n,
                 s->usual && s->targets.regions ? "; regions: none has classes" : "");
    for (int k = 0; k < w->n; k++)
        sum += w->v[k];
    if (!(sum > 0))
        tool_die("%s: class_weights: (wanted one above 0)", path);
}

/* --- the network -------------------------------------------------------------------------------*/

/* The description in a file that lies in the settings' folder, or below: what is beyond, a
 * configuration that somebody else wrote must not make us read. */
static char *read_text(const char *settings, const char *name, size_t *length)
{
    char why[512], *copy = tool_copy(settings), *text = tool_alloc(NN_TEXT_MAX + 2);
    char path[4096];
    if (*name == '/' || !strncmp(name, "../", 3) || strstr(name, "/../"))
        tool_die("%s: network: (wanted a file in the folder of the settings, got '%s')", settings,
                 name);
    snprintf(path, sizeof path, "%s/%s", dirname(copy), name);
    FILE *in = plain_open(path, why, sizeof why);
    if (!in)
        tool_die("%s", why);
    *length = fread(text, 1, NN_TEXT_MAX + 1, in);
    if (ferror(in))
        tool_die("%s: %s", path, strerror(errno));
    if (*length > NN_TEXT_MAX)
        tool_die("%s: too long for a network (wanted at most %d bytes)", path, NN_TEXT_MAX);
    text[*length] = 0;
    if (strlen(text) != *length)
        tool_die("%s: holds a NUL", path);
    fclose(in);
    free(copy);
    return text;
}

static void find_text(struct settings *s, const char *path)
{
    const char *name = *s->network ? s->network : s->arch;
    if (*s->network && *s->arch)
        tool_die("%s: both network and arch (wanted one of them)", path);
    if (*s->network && is_file(name)) {
        const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
        s->spec.text = read_text(path, name, &s->spec.length);
        snprintf(s->called, sizeof s->called, "%.*s", (int)(strlen(base) - strlen(".yaml")), base);
        s->spec.name = name;
        return;
    }
    struct names_near near = {.to = name};
    if (!(s->spec.text = nn_known(name, &s->spec.length))) {
        for (int i = 0; nn_names[i]; i++)
            names_try(&near, nn_names[i]);
        tool_die("%s: unknown network '%.60s' (is '%s' meant?)", path, name, near.name);
    }
    snprintf(s->called, sizeof s->called, "%s", name);
    s->spec.name = s->called;
}

/* What the settings say of the description's parameters; the rest it says itself. */
static void set_parameters(struct settings *s, const char *path)
{
    if (s->base > 0)
        nn_set(&s->spec, "base", s->base);
    if (s->inputs > 0)
        nn_set(&s->spec, "inputs", s->inputs);
    if (s->labels > 0 && !*s->regions)
        nn_set(&s->spec, "classes", s->labels);
    if (s->dropout >= 0)
        nn_set(&s->spec, "dropout", s->dropout);
    if (s->deep_supervision >= 0)
        nn_set(&s->spec, "deep_supervision", s->deep_supervision);
    for (int i = 0, n = s->spec.settings; i < s->numbers.n; i++) {
        for (int k = 0; k < n; k++)
            if (!strcmp(s->spec.set[k].name, s->numbers.of[i].name))
                tool_die("%s: parameters: '%s' is a setting already", path, s->numbers.of[i].name);
        nn_set(&s->spec, s->numbers.of[i].name, s->numbers.of[i].value);
    }
}

static void write_parameters(struct settings *s)
{
    size_t len = 0;
    for (int i = 0; i < s->spec.settings; i++)
        len = model_put_parameter(s->parameters, sizeof s->parameters, len, s->spec.set[i].name,
                                  s->spec.set[i].value);
}

static void ask(struct settings *s, struct nn_about *about)
{
    char why[512];
    if (nn_about(&s->spec, about, why, sizeof why))
        tool_die("%s", why);
}

/* Who has regions for targets says nothing else of the outputs. */
static void check_outputs(const struct settings *s, const char *path)
{
    for (int i = 0; i < s->numbers.n && s->targets.regions; i++)
        if (!strcmp(s->numbers.of[i].name, "classes") &&
            s->numbers.of[i].value != s->targets.outputs)
            tool_die("%s: parameters: classes: (wanted %d, one for each region, got %g)", path,
                     s->targets.outputs, s->numbers.of[i].value);
}

/* With neighbours the network has inputs for the channels of all of them. */
static void read_inputs(struct settings *s, const char *path, struct nn_about *about)
{
    const int planes = img_beside_planes(s->neighbours);
    s->channels = about->inputs;
    if (!s->neighbours)
        return;
    if (s->channels * planes > NN_MAX_CIN)
        tool_die("%s: neighbours: with %d channels (wanted at most %d channels in all, got %d)",
                 path, s->channels, NN_MAX_CIN, s->channels * planes);
    nn_set(&s->spec, "inputs", s->channels * planes);
    ask(s, about);
    if (about->inputs != s->channels * planes)
        tool_die("%s: %s: an input that heeds no parameter inputs (wanted %d channels, got %d)",
                 path, s->spec.name, s->channels * planes, about->inputs);
    if (about->volume)
        tool_die("%s: neighbours are of planar networks (%s sees volumes)", path, s->spec.name);
}

/* Where the settings speak neither of regions nor of classes (weights of as many do) there are the
 * usual regions, if the network's head has as many channels as it is told. */
static void choose_regions(struct settings *s)
{
    const char *usual = usual_regions(s->classes);
    struct nn_spec spec = s->spec;
    struct nn_about about;
    struct targets t;
    char why[512];
    for (int i = 0; i < s->numbers.n; i++)
        if (!strcmp(s->numbers.of[i].name, "classes"))
            return;
    if (s->class_weights.n == s->classes)
        return;
    if (!*usual || targets_make(&t, s->classes, usual, why, sizeof why))
        return;
    nn_set(&spec, "classes", t.outputs);
    errno = 0;
    const int bad = nn_about(&spec, &about, why, sizeof why);
    if (bad && errno == ENOMEM)
        tool_die("%s", why); /* else a network that would have had regions goes without */
    if (!bad && about.outputs == t.outputs)
        snprintf(s->regions, sizeof s->regions, "%s", usual);
}

/* The labels are as many as the settings say, or as the network has outputs; where the targets are
 * regions, the network gets as many outputs as there are. */
static void read_network(struct settings *s, const char *path)
{
    char why[256];
    struct nn_about about;
    find_text(s, path);
    set_parameters(s, path);
    ask(s, &about);
    read_inputs(s, path, &about);
    s->classes = s->labels ? s->labels : *s->regions ? CLASSES : about.outputs;
    if (s->classes < CLASSES)
        tool_die("%s: %s: a head of too few channels (wanted %d to %d, got %d)", path, s->spec.name,
                 CLASSES, NN_MAX_CLASSES, s->classes);
    if (s->usual)
        choose_regions(s);
    if (targets_make(&s->targets, s->classes, s->regions, why, sizeof why))
        tool_die("%s: regions: %s", path, why);
    check_outputs(s, path);
    if (about.outputs != s->targets.outputs) {
        nn_set(&s->spec, "classes", s->targets.outputs);
        ask(s, &about);
    }
    if (about.outputs != s->targets.outputs)
        tool_die("%s: %s: a head that heeds no parameter classes (wanted %d channels, got %d)",
                 path, s->spec.name, s->targets.outputs, about.outputs);
    write_parameters(s);
    memcpy(s->multiple, about.multiple, sizeof s->multiple);
    s->products = about.products;
    s->volume = about.volume;
    s->lag = about.lag;
    s->whole = about.whole;
}

void settings_read(struct settings *s, const char *config, const uint64_t *seed, bool recommended)
{
    const char *path = config ? config : "settings";
    struct config_field f[SETTINGS];
    char why[512];
    *s = (struct settings){.dropout = -1,
                           .deep_supervision = -1,
                           .accumulate = 1,
                           .batch = 8,
                           .loss = NN_DICE_CE,
                           .background = UNSAID,
                           .gamma = GAMMA,
                           .rate = 1e-3,
                           .schedule = NN_COSINE,
                           .momentum = MOMENTUM,
                           .ema = UNSAID,
                           .keep = UNSAID,
                           .checkpoint = 10};
    settings_table(s, f);
    if (config && config_read(config, f, SETTINGS, others, why, sizeof why))
        tool_die("%s", why);
    fill_in(s, recommended);
    read_network(s, path);
    if (s->size[0] % s->multiple[1] || s->size[1] % s->multiple[2])
        tool_die("%s: size: (wanted multiples of %dx%d, got %dx%d)", path, s->multiple[1],
                 s->multiple[2], s->size[0], s->size[1]);
    if (s->groups > s->batch)
        tool_die("%s: groups: (wanted at most %d, as a batch has items, got %d)", path, s->batch,
                 s->groups);
    if (s->patience && s->keep == KEEP_LAST)
        tool_die("%s: patience waits for a best epoch (keep is last)", path);
    if (s->ema > 0 && s->average)
        tool_die("%s: both ema and average (wanted one of them)", path);
    if (s->patience && s->average)
        tool_die("%s: average is of the last passes, and with patience nobody knows which", path);
    check_learning(s, path);
    if (seed)
        s->seed = *seed;
}

struct nn_training settings_training(const struct settings *s)
{
    struct nn_training t = {.loss = (enum nn_loss)s->loss,
                            .optim = (enum nn_optim)s->optimiser,
                            .momentum = s->momentum,
                            .decay = s->decay,
                            .clip = s->clip,
                            .seed = s->seed,
                            .sample = s->dice,
                            .foreground = !s->background,
                            .squared = s->squared,
                            .gamma = s->gamma};
    memcpy(t.weight, s->class_weights.v, (size_t)s->class_weights.n * sizeof *t.weight);
    return t;
}

const char *settings_text(const struct settings *s)
{
    static char text[4096];
    static struct settings copy;
    struct config_field f[SETTINGS];
    copy = *s;
    /* Before there were such settings nobody said one: a run of then goes on. */
    copy.groups = s->groups > 1 ? s->groups : 0;
    copy.gradients = s->gradients ? s->gradients : UNSAID;
    copy.precision = s->precision ? s->precision : UNSAID;
    settings_table(&copy, f);
    config_print(f, SETTINGS, text, sizeof text);
    return text;
}
