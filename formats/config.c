#include "formats/config.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "formats/plain.h"

#define MAX_FILE ((size_t)1 << 20)
#define MAX_FIELDS 64

struct reading {
    const char *name;
    char *why;
    size_t size;
    size_t line; /* of the last event, from 1 */
};

__attribute__((format(printf, 2, 3))) static int fail(const struct reading *r, const char *fmt, ...)
{
    va_list ap;
    int n = snprintf(r->why, r->size, "%s:%zu: ", r->name, r->line);
    if (n < 0 || (size_t)n >= r->size)
        return -1;
    va_start(ap, fmt);
    vsnprintf(r->why + n, r->size - (size_t)n, fmt, ap);
    va_end(ap);
    for (char *p = r->why; *p; p++) /* one line, whatever the file's names hold */
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    return -1;
}

/* Edits (insertions, deletions, replacements) between two names, the second shorter than 64. */
static size_t distance(const char *a, const char *b)
{
    size_t row[64], m = strlen(b);
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; *a; a++, i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = corner + (*a != b[j - 1]);
            corner = row[j];
            best = best < row[j] + 1 ? best : row[j] + 1;
            row[j] = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
        }
    }
    return row[m];
}

static int unknown(const struct reading *r, const char *name, const struct config_field *f, int n)
{
    char shown[64];
    int nearest = 0;
    snprintf(shown, sizeof shown, "%s", name);
    for (int i = 1; i < n; i++)
        if (distance(shown, f[i].name) < distance(shown, f[nearest].name))
            nearest = i;
    return fail(r, "unknown setting '%s' (is '%s' meant?)", shown, f[nearest].name);
}

static int set_choice(const struct reading *r, const struct config_field *f, const char *text)
{
    char known[256] = "";
    for (int i = 0; f->choices[i]; i++) {
        if (!strcmp(f->choices[i], text)) {
            *(int *)f->value = i;
            return 0;
        }
        snprintf(known + strlen(known), sizeof known - strlen(known), i ? ", %s" : "%s",
                 f->choices[i]);
    }
    return fail(r, "%s: (wanted one of %s, got '%.40s')", f->name, known, text);
}

static int set_value(const struct reading *r, const struct config_field *f, const char *text)
{
    char *end, *rest;
    double v, w;
    errno = 0;
    switch (f->type) {
    case CONFIG_CHOICE:
        return set_choice(r, f, text);
    case CONFIG_BOOL:
        if (strcmp(text, "true") && strcmp(text, "false"))
            return fail(r, "%s: (wanted true or false, got '%.40s')", f->name, text);
        *(bool *)f->value = *text == 't';
        return 0;
    case CONFIG_SEED: {
        long long s = strtoll(text, &end, 10);
        if (errno || end == text || *end || s < 0)
            return fail(r, "%s: (wanted a whole number from 0, got '%.40s')", f->name, text);
        *(uint64_t *)f->value = (uint64_t)s;
        return 0;
    }
    case CONFIG_SIZE:
        v = strtod(text, &end);
        w = *end == 'x' ? strtod(end + 1, &rest) : (rest = end, NAN);
        if (end == text || *rest || v != floor(v) || w != floor(w) || !(v >= f->lo && v <= f->hi) ||
            !(w >= f->lo && w <= f->hi))
            return fail(r, "%s: (wanted HEIGHTxWIDTH from %gx%g to %gx%g, got '%.40s')", f->name,
                        f->lo, f->lo, f->hi, f->hi, text);
        ((int *)f->value)[0] = (int)v;
        ((int *)f->value)[1] = (int)w;
        return 0;
    case CONFIG_INT:
    case CONFIG_NUMBER:
        v = strtod(text, &end);
        if (errno || end == text || *end || !(v >= f->lo && v <= f->hi) ||
            (f->type == CONFIG_INT && v != floor(v)))
            return fail(r, "%s: (wanted a %snumber from %g to %g, got '%.40s')", f->name,
                        f->type == CONFIG_INT ? "whole " : "", f->lo, f->hi, text);
        if (f->type == CONFIG_INT)
            *(int *)f->value = (int)v;
        else
            *(double *)f->value = v;
        return 0;
    }
    return 0;
}

/* The next event; what YAML itself forbids is an error. */
static int next(struct reading *r, yaml_parser_t *p, yaml_event_t *e)
{
    if (!yaml_parser_parse(p, e)) {
        r->line = p->problem_mark.line + 1;
        return fail(r, "not YAML: %s", p->problem ? p->problem : "unreadable");
    }
    r->line = e->start_mark.line + 1;
    return 0;
}

static int scalar(struct reading *r, yaml_parser_t *p, yaml_event_t *e, const char *what)
{
    if (next(r, p, e))
        return -1;
    if (e->type != YAML_SCALAR_EVENT)
        return fail(r, "%s: (wanted a plain value)", what);
    if (e->data.scalar.anchor || e->data.scalar.tag)
        return fail(r, "%s: anchors and tags have no place here", what);
    if (strlen((char *)e->data.scalar.value) != e->data.scalar.length)
        return fail(r, "%s: holds a NUL", what);
    return 0;
}

static int one_setting(struct reading *r, yaml_parser_t *p, const char *key,
                       const struct config_field *f, int n, size_t *seen)
{
    yaml_event_t e;
    for (int i = 0; i < n; i++) {
        if (strcmp(key, f[i].name))
            continue;
        if (seen[i])
            return fail(r, "'%s' stands twice (first on line %zu)", key, seen[i]);
        seen[i] = r->line;
        int bad = scalar(r, p, &e, key);
        if (!bad)
            bad = set_value(r, &f[i], (char *)e.data.scalar.value);
        yaml_event_delete(&e);
        return bad;
    }
    return unknown(r, key, f, n);
}

static int mapping(struct reading *r, yaml_parser_t *p, const struct config_field *f, int n,
                   size_t *seen)
{
    yaml_event_t e;
    for (;;) {
        if (next(r, p, &e))
            return -1;
        if (e.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&e);
            return 0;
        }
        int bad = e.type == YAML_SCALAR_EVENT
                      ? one_setting(r, p, (char *)e.data.scalar.value, f, n, seen)
                      : fail(r, "(wanted a setting's name)");
        yaml_event_delete(&e);
        if (bad)
            return -1;
    }
}

static int document(struct reading *r, yaml_parser_t *p, const struct config_field *f, int n,
                    size_t *seen)
{
    static const yaml_event_type_t before[] = {YAML_STREAM_START_EVENT, YAML_DOCUMENT_START_EVENT,
                                               YAML_MAPPING_START_EVENT};
    static const yaml_event_type_t after[] = {YAML_DOCUMENT_END_EVENT, YAML_STREAM_END_EVENT};
    yaml_event_t e;
    for (int i = 0; i < 5; i++) {
        if (i == 3 && mapping(r, p, f, n, seen))
            return -1;
        if (next(r, p, &e))
            return -1;
        yaml_event_type_t type = e.type;
        yaml_event_delete(&e);
        if (i < 3 && type != before[i])
            return fail(r, type == YAML_STREAM_END_EVENT ? "empty (wanted settings: name: value)"
                                                         : "(wanted settings: name: value)");
        if (i >= 3 && type != after[i - 3])
            return fail(r, "a second document (wanted one)");
    }
    return 0;
}

int config_parse(const char *text, size_t length, const char *name, const struct config_field *f,
                 int n, char *why, size_t size)
{
    struct reading r = {name, why, size, 1};
    size_t seen[MAX_FIELDS] = {0};
    yaml_parser_t p;
    if (n > MAX_FIELDS || !yaml_parser_initialize(&p))
        return fail(&r, "out of memory");
    yaml_parser_set_input_string(&p, (const unsigned char *)text, length);
    int bad = document(&r, &p, f, n, seen);
    yaml_parser_delete(&p);
    for (int i = 0; i < n && !bad; i++)
        if (f[i].required && !seen[i])
            bad = fail(&r, "'%s' is missing", f[i].name);
    return bad;
}

int config_read(const char *path, const struct config_field *f, int n, char *why, size_t size)
{
    FILE *in = plain_open(path, why, size);
    char *text = malloc(MAX_FILE + 1);
    int bad = -1;
    if (in && !text) {
        snprintf(why, size, "%s: %s", path, strerror(errno));
    } else if (in) {
        size_t length = fread(text, 1, MAX_FILE + 1, in);
        if (ferror(in))
            snprintf(why, size, "%s: %s", path, strerror(errno));
        else if (length > MAX_FILE)
            snprintf(why, size, "%s: too long for settings (wanted at most %zu bytes)", path,
                     MAX_FILE);
        else
            bad = config_parse(text, length, path, f, n, why, size);
    }
    if (in)
        fclose(in);
    free(text);
    return bad;
}

size_t config_print(const struct config_field *f, int n, char *out, size_t size)
{
    size_t len = 0;
    for (int i = 0; i < n; i++) {
        char v[64];
        const int *side = f[i].value;
        if (f[i].type == CONFIG_SIZE && !side[0])
            continue;
        switch (f[i].type) {
        case CONFIG_INT:
            snprintf(v, sizeof v, "%d", *(int *)f[i].value);
            break;
        case CONFIG_NUMBER: /* the shortest that reads back */
            for (int digits = 6; digits <= 17; digits++) {
                snprintf(v, sizeof v, "%.*g", digits, *(double *)f[i].value);
                if (strtod(v, NULL) == *(double *)f[i].value)
                    break;
            }
            break;
        case CONFIG_SEED:
            snprintf(v, sizeof v, "%llu", (unsigned long long)*(uint64_t *)f[i].value);
            break;
        case CONFIG_BOOL:
            snprintf(v, sizeof v, "%s", *(bool *)f[i].value ? "true" : "false");
            break;
        case CONFIG_CHOICE:
            snprintf(v, sizeof v, "%s", f[i].choices[*(int *)f[i].value]);
            break;
        case CONFIG_SIZE:
            snprintf(v, sizeof v, "%dx%d", side[0], side[1]);
            break;
        }
        int k = snprintf(len < size ? out + len : NULL, len < size ? size - len : 0, "%s: %s\n",
                         f[i].name, v);
        len += k > 0 ? (size_t)k : 0;
    }
    return len;
}
