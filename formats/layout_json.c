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

/* {"0": NAME, ...} */
static bool read_channels(struct json_scan *s, struct lay_dataset *d)
{
    const char *key, *v;
    long i;

    do {
        if (!json_string(s, &key) || !json_expect(s, ':') || !json_string(s, &v))
            return false;
        if ((i = number(key)) < 0)
            continue;
        d->n = i + 1 > d->n ? (int)(i < 1000 ? i + 1 : 1000) : d->n;
        if (i < LAY_MODALITIES)
            keep(d->channel[i], sizeof d->channel[i], v);
    } while (json_another(s, '}'));
    return !s->code;
}

static void add_label(struct lay_dataset *d, const char *name, uint64_t value)
{
    char text[sizeof d->label->name];
    int i = 0;

    keep(text, sizeof text, name);
    while (i < d->labels && strcmp(d->label[i].name, text))
        i++;
    if (i == LAY_LABELS || value > 255)
        return;
    strcpy(d->label[i].name, text);
    d->labels = i == d->labels ? i + 1 : d->labels;
    d->label[i].n += !d->label[i].has[value];
    d->label[i].has[value] = true;
}

static bool read_label(struct json_scan *s, struct lay_dataset *d, const char *name)
{
    uint64_t v;

    json_peek(s, '0'); /* passes over blanks */
    if (s->p == s->end || *s->p < '0' || *s->p > '9')
        return json_skip(s);
    if (!json_number(s, &v))
        return false;
    add_label(d, name, v);
    return true;
}

/* {"0": NAME, ...}, or {NAME: 0, ...}, or {NAME: [1, 2], ...} of regions; else it says nothing. */
static bool read_labels(struct json_scan *s, struct lay_dataset *d)
{
    const char *key, *name;

    do {
        if (!json_string(s, &key) || !json_expect(s, ':'))
            return false;
        if (json_peek(s, '"')) {
            if (!json_string(s, &name))
                return false;
            if (number(key) >= 0)
                add_label(d, name, (uint64_t)number(key));
        } else if (!json_accept(s, '[')) {
            if (!read_label(s, d, key))
                return false;
        } else if (!json_accept(s, ']')) {
            do
                if (!read_label(s, d, key))
                    return false;
            while (json_another(s, ']'));
        }
    } while (json_another(s, '}'));
    return !s->code;
}

/* Keeps what is at the top: "modality" or "channel_names", "labels", and "file_ending". */
static bool read_top(struct json_scan *s, struct lay_dataset *d)
{
    const char *key, *v;

    if (!json_expect(s, '{'))
        return false;
    if (json_accept(s, '}'))
        return json_end(s);
    do {
        char *start = s->text;
        bool good;
        if (!json_string(s, &key) || !json_expect(s, ':'))
            return false;
        if ((!strcmp(key, "modality") || !strcmp(key, "channel_names")) && json_accept(s, '{'))
            good = json_accept(s, '}') || read_channels(s, d);
        else if (!strcmp(key, "labels") && json_accept(s, '{'))
            good = json_accept(s, '}') || read_labels(s, d);
        else if (!strcmp(key, "file_ending") && (good = json_string(s, &v)))
            keep(d->ending, sizeof d->ending, v);
        else
            good = json_skip(s);
        if (!good)
            return false;
        s->text = start; /* what is kept was copied */
    } while (json_another(s, '}'));
    return !s->code && json_end(s);
}

int lay_read_dataset(const char *path, struct lay_dataset *d, char *why)
{
    char wrong[300];
    struct json_scan s = {.why = wrong, .size = sizeof wrong, .name = "no valid JSON"};
    struct inflate *in = inf_open(path);
    uint8_t *bytes = malloc(MAX_JSON + 1);
    char *text = malloc(MAX_JSON);
    ssize_t n = -1;

    memset(d, 0, sizeof *d);
    if (!in)
        nii_fail(why, path, "%s (it says which channel is which)", plain_error(errno));
    else if (!bytes || !text)
        nii_fail(why, path, "out of memory");
    else if ((n = inf_read(in, bytes, MAX_JSON + 1)) < 0)
        nii_fail(why, path, "%s", inf_why(in));
    else if (n > (ssize_t)MAX_JSON) {
        nii_fail(why, path, "too large (wanted at most %u bytes)", MAX_JSON);
        n = -1;
    } else {
        s.start = s.p = bytes;
        s.end = bytes + n;
        s.text = text;
        if (!read_top(&s, d))
            n = nii_fail(why, path, "%s", wrong);
    }
    inf_close(in);
    free(bytes);
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
