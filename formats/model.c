/* The keys of a model, to be written and as they are read: what model.h lists is checked here, key
 * by key. */
#include "formats/model.h"

#include "formats/config.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/tns.h"
#include "lib/base/number.h"

/* --- keys --------------------------------------------------------------------------------------*/

int model_set(struct model_keys *k, const char *key, const char *value)
{
    return model_give(k, key, strdup(value));
}

int model_give(struct model_keys *k, const char *key, char *copy)
{
    if (!copy)
        return -1;
    for (int i = 0; i < k->n; i++)
        if (!strcmp(k->pair[i].key, key)) {
            free((char *)(uintptr_t)k->pair[i].value);
            k->pair[i].value = copy;
            return 0;
        }
    char *name = k->n < MODEL_MAX_KEYS ? strdup(key) : NULL;
    if (!name) {
        free(copy);
        return -1;
    }
    int at = k->n++;
    for (; at > 0 && strcmp(k->pair[at - 1].key, key) > 0; at--)
        k->pair[at] = k->pair[at - 1];
    k->pair[at] = (struct st_pair){name, copy};
    return 0;
}

int model_setf(struct model_keys *k, const char *key, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return n < 0 || (size_t)n >= sizeof text ? -1 : model_set(k, key, text);
}

void model_clear(struct model_keys *k)
{
    for (int i = 0; i < k->n; i++) {
        free((char *)(uintptr_t)k->pair[i].key);
        free((char *)(uintptr_t)k->pair[i].value);
    }
    k->n = 0;
}

/* --- reading -----------------------------------------------------------------------------------*/

static int missing(const char *path, const char *key, char *why, size_t size)
{
    snprintf(why, size, "%s: the model's metadata has no sound '%s'", path, key);
    return ST_CORRUPT;
}

static bool whole_number(const char *text, int *out)
{
    char *end;
    errno = 0;
    long v = text ? strtol(text, &end, 10) : 0;
    if (!text || errno || end == text || *end || v < 0 || v > 1000000)
        return false;
    *out = (int)v;
    return true;
}

/* Lines that a stream can carry, as a key's value or in its history. */
static bool sound_lines(const char *text)
{
    for (size_t n; *text; text += n + (text[n] == '\n'))
        if (!tns_value_ok(text, n = strcspn(text, "\n")))
            return false;
    return true;
}

static bool sound_line(const char *text)
{
    return !strchr(text, '\n') && sound_lines(text);
}

/* ASCII, of which every part is a text too. */
static bool sound_arch(const char *text)
{
    for (const char *p = text; *p; p++)
        if (*p < ' ' || *p > '~')
            return false;
    return *text;
}

/* A text of lines, each a scan's fingerprints, maybe none, a tab and a patient. */
static bool sound_scans(const char *text)
{
    if (!sound_lines(text))
        return false;
    for (const char *end; *text; text = end + (*end == '\n')) {
        char prints[512];
        size_t n = strcspn(text, "\t\n");
        end = text + strcspn(text, "\n");
        if (n >= sizeof prints || text[n] != '\t')
            return false;
        snprintf(prints, sizeof prints, "%.*s", (int)n, text);
        if (n && !tns_is_fingerprint(prints))
            return false;
    }
    return true;
}

size_t model_put_parameter(char *text, size_t size, size_t length, const char *name, double value)
{
    char number[CONFIG_NUMBER_SIZE];
    size_t at = length < size ? length : size;
    config_number(number, value);
    return length +
           (size_t)snprintf(text + at, size - at, "%s%s=%s", length ? " " : "", name, number);
}

static bool add_parameter(struct model *m, const char *name, size_t length, double value)
{
    if (m->parameters == MODEL_MAX_PARAMETERS || !length || length >= sizeof m->parameter->name)
        return false;
    snprintf(m->parameter[m->parameters].name, length + 1, "%s", name);
    m->parameter[m->parameters++].value = value;
    return true;
}

/* Of version 1. */
static int read_shape(struct model *m, const char *path, char *why, size_t size)
{
    static const char *const key[] = {"base", "channels"};
    static const char *const name[] = {"base", "inputs"};
    int n;
    for (int i = 0; i < 2; i++) {
        if (!whole_number(st_meta(&m->file, key[i]), &n))
            return missing(path, key[i], why, size);
        add_parameter(m, name[i], strlen(name[i]), n);
    }
    add_parameter(m, "classes", strlen("classes"), m->targets.outputs);
    const char *text = st_meta(&m->file, "dropout");
    char *end = NULL;
    double p;
    if (!text || !number_read(text, &end, &p) || *end || !(p >= 0 && p < 1))
        return missing(path, "dropout", why, size);
    if (p > 0) /* only one of them has it */
        add_parameter(m, "dropout", strlen("dropout"), p);
    return 0;
}

/* "base=16 classes=4" */
static bool read_parameters(struct model *m, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "= ");
        char *end;
        double v;
        if (text[n] != '=' || !number_read(text + n + 1, &end, &v) || (*end && *end != ' ') ||
            !add_parameter(m, text, n, v))
            return false;
        text = end + strspn(end, " ");
    }
    return true;
}

static int read_targets(struct model *m, const char *path, char *why, size_t size)
{
    char bad[256];
    int classes;
    m->regions = st_meta(&m->file, "regions");
    if (!whole_number(st_meta(&m->file, "classes"), &classes) ||
        targets_make(&m->targets, classes, "", bad, sizeof bad))
        return missing(path, "classes", why, size);
    if (m->regions && targets_make(&m->targets, classes, m->regions, bad, sizeof bad))
        return missing(path, "regions", why, size);
    return 0;
}

static int read_network(struct model *m, int version, const char *path, char *why, size_t size)
{
    if (version == 1)
        return read_shape(m, path, why, size);
    const char *parameters = st_meta(&m->file, "parameters");
    if (!(m->network = st_meta(&m->file, "network")))
        return missing(path, "network", why, size);
    if (!parameters || !read_parameters(m, parameters))
        return missing(path, "parameters", why, size);
    return 0;
}

/* What a program of ours wrote; values are judged by those who use them. */
static int read_keys(struct model *m, const char *path, char *why, size_t size)
{
    const struct st_file *f = &m->file;
    const char *text = st_meta(f, "model");
    int version;
    if (!text) {
        snprintf(why, size, "%s: tensors, but no model of ours (its metadata has no 'model')",
                 path);
        return ST_FOREIGN;
    }
    if (!whole_number(text, &version) || version < 1)
        return missing(path, "model", why, size);
    if (version > MODEL_VERSION) {
        snprintf(why, size, "%s: a model of a newer version (wanted %d, got %d)", path,
                 MODEL_VERSION, version);
        return ST_UNSUPPORTED;
    }
    static const char *const texts[] = {"arch", "modalities", "scheme", "patients", "generator"};
    const char **to[] = {&m->arch, &m->modalities, &m->scheme, &m->patients, &m->generator};
    static bool (*const sound[])(const char *) = {sound_arch, sound_line, sound_line, sound_lines,
                                                  sound_line};
    for (int i = 0; i < 5; i++)
        if (!(*to[i] = st_meta(f, texts[i])) || !sound[i](*to[i]))
            return missing(path, texts[i], why, size);
    int e = read_targets(m, path, why, size);
    if (e || (e = read_network(m, version, path, why, size)))
        return e;
    if (!(text = st_meta(f, "leaky")) || (strcmp(text, "yes") && strcmp(text, "no")))
        return missing(path, "leaky", why, size);
    m->leaky = *text == 'y';
    if ((m->steps = st_meta(f, "steps")) && *m->steps && m->steps[strlen(m->steps) - 1] != '\n')
        return missing(path, "steps", why, size);
    if ((m->scans = st_meta(f, "scans")) && !sound_scans(m->scans))
        return missing(path, "scans", why, size);
    contract_keys_of_steps(m->steps ? m->steps : "", &m->keys);
    if ((m->norm = st_meta(f, "norm")))
        snprintf(m->keys.norm, sizeof m->keys.norm, "%s", m->norm);
    if ((m->cropped = st_meta(f, "cropped")))
        snprintf(m->keys.cropped, sizeof m->keys.cropped, "%s", m->cropped);
    if ((m->spacing = st_meta(f, "spacing")) && contract_spacing_read(&m->learned, m->spacing))
        return missing(path, "spacing", why, size);
    if ((m->without = st_meta(f, "without")) && contract_set(m->modalities, m->without, &m->spared))
        return missing(path, "without", why, size);
    if ((text = st_meta(f, "neighbours")) &&
        (!whole_number(text, &m->neighbours) || m->neighbours > MODEL_MAX_NEIGHBOURS))
        return missing(path, "neighbours", why, size);
    m->begun = st_meta(f, "begun");
    m->inherited = st_meta(f, "inherited");
    text = st_meta(f, "weights");
    for (m->weights = DT_F16; m->weights <= DT_F32; m->weights++)
        if (text && !strcmp(text, dtype_name(m->weights)))
            return 0;
    return missing(path, "weights", why, size);
}

/* Weights that are not finite make all that a network says the same class, which looks sound. */
static int check_values(const struct st_file *f, const char *path, char *why, size_t size)
{
    static const char variance[] = "running_var";
    for (int i = 0; i < f->tensors; i++) {
        const struct tensor *t = &f->tensor[i];
        size_t n = strlen(t->name), tail = sizeof variance - 1;
        bool var = n >= tail && !strcmp(t->name + n - tail, variance);
        size_t at = tensor_find_outside(t, var ? 0 : -FLT_MAX, FLT_MAX);
        st_forget(f);
        if (at == tensor_count(t))
            continue;
        snprintf(why, size, "%s: parameter '%s': element %zu: (wanted a finite number%s, got %g)",
                 path, t->name, at, var ? ", a variance none below 0" : "", tensor_get(t, at));
        return ST_CORRUPT;
    }
    return 0;
}

int model_open(struct model *m, const char *path, char *why, size_t size)
{
    char text[400];
    *m = (struct model){0};
    int e = st_open(&m->file, path, why, size);
    if (e)
        return e;
    if ((e = st_check(&m->file, text, sizeof text)) < 0)
        snprintf(why, size, "%s: %s", path, text);
    else
        e = read_keys(m, path, why, size);
    if (!e)
        e = check_values(&m->file, path, why, size);
    if (e)
        st_close(&m->file);
    return e;
}

void model_close(struct model *m)
{
    st_close(&m->file);
}
