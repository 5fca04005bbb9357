/* What dataset.json says of a data set. What is at the top is kept, of all that it may hold:
 * "modality" or "channel_names", "labels", and "file_ending". */
#include "formats/layout_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/inflate.h"
#include "formats/json.h"
#include "formats/nifti.h"
#include "formats/nifti_impl.h"
#include "formats/plain.h"

#define MAX_JSON (4u << 20)

/* A whole number as a key: "0"; -1 for another text. */
static long number(const char *s)
{
    return *s && strlen(s) < 9 && strspn(s, "0123456789") == strlen(s) ? strtol(s, NULL, 10) : -1;
}

/* As much of a text as there is room for, whole characters. */
static void keep(char *to, size_t size, const char *text)
{
    size_t n = strlen(text);

    for (n = n < size ? n : size - 1; n && ((unsigned char)text[n] & 0xc0) == 0x80;)
        n--;
    memcpy(to, text, n);
    to[n] = 0;
}

/* {"0": NAME, ...}; false if a name is no text. */
static bool read_channels(json_t *channels, struct lay_dataset *d)
{
    const char *key;
    json_t *name;

    json_object_foreach (channels, key, name) {
        long i = number(key);
        if (!json_is_string(name))
            return false;
        if (i < 0)
            continue;
        d->n = i + 1 > d->n ? (int)(i < 1000 ? i + 1 : 1000) : d->n;
        if (i < LAY_MODALITIES)
            keep(d->channel[i], sizeof d->channel[i], json_string_value(name));
    }
    return true;
}

static void add_label(struct lay_dataset *d, const char *name, json_int_t value)
{
    char text[sizeof d->label->name];
    int i = 0;

    keep(text, sizeof text, name);
    while (i < d->labels && strcmp(d->label[i].name, text))
        i++;
    if (i == LAY_LABELS || value < 0 || value > 255)
        return;
    strcpy(d->label[i].name, text);
    d->labels = i == d->labels ? i + 1 : d->labels;
    d->label[i].n += !d->label[i].has[value];
    d->label[i].has[value] = true;
}

/* {"0": NAME, ...}, or {NAME: 0, ...}, or {NAME: [1, 2], ...} of regions; else it says nothing. */
static void read_labels(json_t *labels, struct lay_dataset *d)
{
    const char *key;
    json_t *value, *one;
    size_t i;

    json_object_foreach (labels, key, value) {
        if (json_is_string(value))
            add_label(d, json_string_value(value), number(key));
        else if (json_is_integer(value))
            add_label(d, key, json_integer_value(value));
        json_array_foreach (value, i, one)
            if (json_is_integer(one))
                add_label(d, key, json_integer_value(one));
    }
}

/* What is wrong with it, or NULL. */
static const char *read_top(json_t *all, struct lay_dataset *d)
{
    json_t *ending = json_object_get(all, "file_ending");

    if (!json_is_object(all))
        return "a list (wanted an object)";
    if (!read_channels(json_object_get(all, "modality"), d) ||
        !read_channels(json_object_get(all, "channel_names"), d))
        return "the name of a channel is no text";
    if (ending && !json_is_string(ending))
        return "file_ending is no text";
    if (ending)
        keep(d->ending, sizeof d->ending, json_string_value(ending));
    read_labels(json_object_get(all, "labels"), d);
    return NULL;
}

static int read_text(const char *path, const char *text, size_t n, struct lay_dataset *d, char *why)
{
    char wrong[300];
    int code;
    json_t *all = json_read("no valid JSON", text, n, false, &code, wrong, sizeof wrong);
    const char *what = all ? read_top(all, d) : NULL;

    json_decref(all);
    if (!all)
        return nii_fail(why, path, "%s", wrong);
    if (what)
        return nii_fail(why, path, "no valid JSON: %s", what);
    return 0;
}

int lay_read_dataset(const char *path, struct lay_dataset *d, char *why)
{
    struct inflate *in = inf_open(path);
    char *text = malloc(MAX_JSON + 1);
    ssize_t n = -1;

    memset(d, 0, sizeof *d);
    if (!in)
        nii_fail(why, path, "%s (it says which channel is which)", plain_error(errno));
    else if (!text)
        nii_fail(why, path, "out of memory");
    else if ((n = inf_read(in, text, MAX_JSON + 1)) < 0)
        nii_fail(why, path, "%s", inf_why(in));
    else if (n > (ssize_t)MAX_JSON)
        n = nii_fail(why, path, "too large (wanted at most %u bytes)", MAX_JSON);
    else
        n = read_text(path, text, (size_t)n, d, why);
    inf_close(in);
    free(text);
    return n < 0 ? -1 : 0;
}

char *lay_say_labels(const struct lay_dataset *d)
{
    size_t room = LAY_LABELS * (sizeof d->label->name + 8), n = 0;
    char *text = malloc(room);

    if (!text)
        return NULL;
    *text = 0;
    for (int i = 0; i < d->labels; i++) {
        int left = 0, only = 0;
        for (int v = 0; v < 256; v++) {
            bool has = d->label[i].has[v];
            for (int j = 0; j < d->labels && has; j++)
                has = !(d->label[j].has[v] && d->label[j].n < d->label[i].n);
            left += has;
            only = has ? v : only;
        }
        if (left == 1) {
            char *name = text + n + (size_t)sprintf(text + n, "%s%d ", n ? ", " : "", only);
            strcpy(name, d->label[i].name);
            for (char *c = name; *c; c++)
                if ((unsigned char)*c < ' ' || *c == 0x7f || *c == ',')
                    *c = ' ';
            n = (size_t)(name - text) + strlen(name);
        }
    }
    return text;
}
