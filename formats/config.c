/* The caller's table says what there may be; this file knows no setting. What is wrong with a
 * value is said with its line, as libyaml's events give it. */
#include "formats/config.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "formats/plain.h"
#include "lib/base/events.h"
#include "lib/base/names.h"
#include "lib/base/number.h"

#define MAX_FILE ((size_t)1 << 20)
#define MAX_FIELDS 64

static int unknown(const struct events *r, const char *name, const struct config_field *f, int n,
                   const struct config_other *others)
{
    for (; others && others->name; others++)
        if (!strcasecmp(name, others->name))
            return events_fail(r, "unknown setting '%.63s' (wanted %s)", name, others->wanted);
    struct names_near near = {.to = name};
    for (int i = 0; i < n; i++)
        names_try(&near, f[i].name);
    return events_fail(r, "unknown setting '%.63s' (is '%s' meant?)", name, near.name);
}

static int set_choice(const struct events *r, const struct config_field *f, const char *text)
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
    return events_fail(r, "%s: (wanted one of %s, got '%.40s')", f->name, known, text);
}

#define NAME "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"

/* Letters, digits and _, the first no digit. */
static bool sound_name(const char *text)
{
    size_t n = strspn(text, NAME);
    return n && !text[n] && n < sizeof((struct config_numbers *)0)->of->name &&
           (*text < '0' || *text > '9');
}

static int set_number(const struct events *r, const struct config_field *f, const char *text,
                      bool whole, double *v)
{
    char *end;
    if (!number_read(text, &end, v) || *end || !(*v >= f->lo && *v <= f->hi) ||
        (whole && *v != floor(*v)))
        return events_fail(r, "%s: (wanted a %snumber from %g to %g, got '%.40s')", f->name,
                           whole ? "whole " : "", f->lo, f->hi, text);
    return 0;
}

static int set_text(const struct events *r, const struct config_field *f, const char *text)
{
    for (const char *p = text; *p; p++)
        if (*p < ' ' || *p > '~' || *p == '\'')
            return events_fail(r, "%s: (wanted printable ASCII without an apostrophe)", f->name);
    if (strlen(text) >= CONFIG_TEXT_MAX)
        return events_fail(r, "%s: too long (wanted less than %d bytes)", f->name, CONFIG_TEXT_MAX);
    strcpy(f->value, text);
    return 0;
}

static int set_value(const struct events *r, const struct config_field *f, const char *text)
{
    char *end, *rest;
    double v, w;
    errno = 0;
    switch (f->type) {
    case CONFIG_CHOICE:
        return set_choice(r, f, text);
    case CONFIG_BOOL:
        if (strcmp(text, "true") && strcmp(text, "false"))
            return events_fail(r, "%s: (wanted true or false, got '%.40s')", f->name, text);
        *(bool *)f->value = *text == 't';
        return 0;
    case CONFIG_SEED: {
        long long s = strtoll(text, &end, 10);
        if (errno || end == text || *end || s < 0)
            return events_fail(r, "%s: (wanted a whole number from 0, got '%.40s')", f->name, text);
        *(uint64_t *)f->value = (uint64_t)s;
        return 0;
    }
    case CONFIG_SIZE:
        if (!number_read(text, &end, &v) || *end != 'x' || !number_read(end + 1, &rest, &w) ||
            *rest || v != floor(v) || w != floor(w) || !(v >= f->lo && v <= f->hi) ||
            !(w >= f->lo && w <= f->hi))
            return events_fail(r, "%s: (wanted HEIGHTxWIDTH from %gx%g to %gx%g, got '%.40s')",
                               f->name, f->lo, f->lo, f->hi, f->hi, text);
        ((int *)f->value)[0] = (int)v;
        ((int *)f->value)[1] = (int)w;
        return 0;
    case CONFIG_INT:
        if (set_number(r, f, text, true, &v))
            return -1;
        *(int *)f->value = (int)v;
        return 0;
    case CONFIG_NUMBER:
        return set_number(r, f, text, false, f->value);
    case CONFIG_TEXT:
        return set_text(r, f, text);
    case CONFIG_LIST:
        return events_fail(r, "%s: (wanted a list of numbers: [1, 2])", f->name);
    case CONFIG_NUMBERS:
        return events_fail(r, "%s: (wanted a mapping, {name: number}, got a plain value)", f->name);
    }
    return 0;
}

/* A list, of which the beginning was seen. */
static int set_list(struct events *r, const struct config_field *f)
{
    struct config_list *list = f->value;
    for (list->n = 0;; list->n++) {
        if (events_next(r))
            return -1;
        if (r->event.type == YAML_SEQUENCE_END_EVENT)
            return 0;
        if (r->event.type != YAML_SCALAR_EVENT)
            return events_fail(r, "%s: (wanted a list of numbers: [1, 2])", f->name);
        if (list->n == CONFIG_LIST_MAX)
            return events_fail(r, "%s: (wanted at most %d numbers)", f->name, CONFIG_LIST_MAX);
        if (set_number(r, f, (const char *)r->event.data.scalar.value, false, &list->v[list->n]))
            return -1;
    }
}

/* name: number, up to the mapping's end. */
static int set_numbers(struct events *r, const struct config_field *f)
{
    struct config_numbers *to = f->value;
    for (to->n = 0;;) {
        const char *text;
        char *end;
        if (events_next(r))
            return -1;
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return 0;
        if (r->event.type != YAML_SCALAR_EVENT)
            return events_fail(r, "%s: (wanted a name)", f->name);
        text = (const char *)r->event.data.scalar.value;
        if (to->n == CONFIG_NUMBERS_MAX)
            return events_fail(r, "%s: more than %d", f->name, CONFIG_NUMBERS_MAX);
        if (!sound_name(text))
            return events_fail(r, "%s: '%.40s' is no name", f->name, text);
        for (int i = 0; i < to->n; i++)
            if (!strcmp(to->of[i].name, text))
                return events_fail(r, "%s: '%s' stands twice", f->name, text);
        snprintf(to->of[to->n].name, sizeof to->of->name, "%s", text);
        if (events_next(r))
            return -1;
        text = r->event.type == YAML_SCALAR_EVENT ? (const char *)r->event.data.scalar.value : "";
        double v;
        if (!number_read(text, &end, &v) || *end)
            return events_fail(r, "%s: %s: (wanted a number, got '%.40s')", f->name,
                               to->of[to->n].name, text);
        to->of[to->n++].value = v;
    }
}

static int one_setting(struct events *r, const struct config_field *f, int n,
                       const struct config_other *others, size_t *seen)
{
    const char *key = (const char *)r->event.data.scalar.value;
    for (int i = 0; i < n; i++) {
        if (strcmp(key, f[i].name))
            continue;
        if (seen[i])
            return events_fail(r, "'%s' stands twice (first on line %zu)", f[i].name, seen[i]);
        seen[i] = r->line;
        if (events_next(r))
            return -1;
        if (r->event.type == YAML_SEQUENCE_START_EVENT && f[i].type == CONFIG_LIST)
            return set_list(r, &f[i]);
        if (r->event.type == YAML_MAPPING_START_EVENT && f[i].type == CONFIG_NUMBERS)
            return set_numbers(r, &f[i]);
        if (r->event.type != YAML_SCALAR_EVENT)
            return events_fail(r, "%s: (wanted a plain value)", f[i].name);
        return set_value(r, &f[i], (const char *)r->event.data.scalar.value);
    }
    return unknown(r, key, f, n, others);
}

static int mapping(struct events *r, const struct config_field *f, int n,
                   const struct config_other *others, size_t *seen)
{
    for (;;) {
        if (events_next(r))
            return -1;
        if (r->event.type == YAML_MAPPING_END_EVENT)
            return 0;
        if (r->event.type != YAML_SCALAR_EVENT)
            return events_fail(r, "(wanted a setting's name)");
        if (one_setting(r, f, n, others, seen))
            return -1;
    }
}

static int document(struct events *r, const struct config_field *f, int n,
                    const struct config_other *others, size_t *seen)
{
    static const yaml_event_type_t before[] = {YAML_STREAM_START_EVENT, YAML_DOCUMENT_START_EVENT,
                                               YAML_MAPPING_START_EVENT};
    static const yaml_event_type_t after[] = {YAML_DOCUMENT_END_EVENT, YAML_STREAM_END_EVENT};
    for (int i = 0; i < 5; i++) {
        if (i == 3 && mapping(r, f, n, others, seen))
            return -1;
        if (events_next(r))
            return -1;
        yaml_event_type_t type = r->event.type;
        if (i < 3 && type != before[i])
            return events_fail(r, type == YAML_STREAM_END_EVENT
                                      ? "empty (wanted settings: name: value)"
                                      : "(wanted settings: name: value)");
        if (i >= 3 && type != after[i - 3])
            return events_fail(r, "a second document (wanted one)");
    }
    return 0;
}

int config_parse(const char *text, size_t length, const char *name, const struct config_field *f,
                 int n, const struct config_other *others, char *why, size_t size)
{
    struct events r = {.name = name, .why = why, .size = size};
    size_t seen[MAX_FIELDS] = {0};
    int bad = events_open(&r, text, length);
    if (!bad && n > MAX_FIELDS)
        bad = events_fail(&r, "too many settings");
    if (!bad)
        bad = document(&r, f, n, others, seen);
    for (int i = 0; i < n && !bad; i++)
        if (f[i].required && !seen[i])
            bad = events_fail(&r, "'%s' is missing", f[i].name);
    events_close(&r);
    return bad;
}

int config_read(const char *path, const struct config_field *f, int n,
                const struct config_other *others, char *why, size_t size)
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
            bad = config_parse(text, length, path, f, n, others, why, size);
    }
    if (in)
        fclose(in);
    free(text);
    return bad;
}

void config_number(char to[CONFIG_NUMBER_SIZE], double v)
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(to, CONFIG_NUMBER_SIZE, "%.*g", digits, v);
        if (strtod(to, NULL) == v)
            break;
    }
}

/* Whether there is a value, and its text. */
static bool print_value(const struct config_field *f, char *to, size_t size)
{
    const int *side = f->value;
    const char *text = f->value;
    const struct config_list *list = f->value;
    const struct config_numbers *all = f->value;
    const double v = f->type == CONFIG_INT      ? *(int *)f->value
                     : f->type == CONFIG_NUMBER ? *(double *)f->value
                                                : f->lo;
    if (!(v >= f->lo && v <= f->hi))
        return false;
    switch (f->type) {
    case CONFIG_INT:
        snprintf(to, size, "%d", *(int *)f->value);
        return true;
    case CONFIG_NUMBER:
        config_number(to, v);
        return true;
    case CONFIG_SEED:
        snprintf(to, size, "%llu", (unsigned long long)*(uint64_t *)f->value);
        return true;
    case CONFIG_BOOL:
        snprintf(to, size, "%s", *(bool *)f->value ? "true" : "false");
        return true;
    case CONFIG_CHOICE:
        if (*(int *)f->value < 0)
            return false;
        snprintf(to, size, "%s", f->choices[*(int *)f->value]);
        return true;
    case CONFIG_SIZE:
        snprintf(to, size, "%dx%d", side[0], side[1]);
        return side[0] > 0;
    case CONFIG_LIST: {
        size_t len = 0;
        for (int i = 0; i < list->n; i++) {
            char number[CONFIG_NUMBER_SIZE];
            config_number(number, list->v[i]);
            len += (size_t)snprintf(to + len, size - len, "%s%s", i ? ", " : "[", number);
        }
        snprintf(to + len, size - len, "]");
        return list->n > 0;
    }
    case CONFIG_TEXT:
        snprintf(to, size, text[strspn(text, NAME "./-")] ? "'%s'" : "%s", text);
        return *text;
    case CONFIG_NUMBERS: {
        size_t len = 0;
        for (int i = 0; i < all->n; i++) {
            char number[CONFIG_NUMBER_SIZE];
            config_number(number, all->of[i].value);
            len += (size_t)snprintf(to + len, size - len, "%s%s: %s", i ? ", " : "{",
                                    all->of[i].name, number);
        }
        snprintf(to + len, size - len, "}");
        return all->n > 0;
    }
    }
    return false;
}

size_t config_print(const struct config_field *f, int n, char *out, size_t size)
{
    char value[CONFIG_NUMBERS_MAX * 64 + CONFIG_TEXT_MAX + 3];
    size_t len = 0;
    for (int i = 0; i < n; i++) {
        if (!print_value(&f[i], value, sizeof value))
            continue;
        int k = snprintf(len < size ? out + len : NULL, len < size ? size - len : 0, "%s: %s\n",
                         f[i].name, value);
        len += k > 0 ? (size_t)k : 0;
    }
    return len;
}
