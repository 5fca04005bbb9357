/* text_tree.c - a description's YAML becomes a tree, no larger than the text allows, and is checked
 * to have the form of one: keys, names, kinds of values. */
#include "lib/nn/text_impl.h"

#include "lib/base/names.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS (2 * NN_TEXT_OPS) /* in a list */
#define NESTED 6 /* lists and mappings: root, blocks, block, body, entry, attribute */

static const char *const type_names[] = {"a plain value", "a list", "a mapping"};

/* --- the tree --------------------------------------------------------------------------------- */

void nn_tree_free(struct node *n)
{
    while (n) {
        struct node *next = n->next;
        nn_tree_free(n->first);
        free(n->key);
        free(n->text);
        free(n);
        n = next;
    }
}

int nn_tree_fail(struct text *t, const struct node *n, const char *fmt, ...)
{
    char what[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    t->at.line = (size_t)n->line;
    if (!t->line.op)
        return events_fail(&t->at, "%s", what);
    if (!*t->line.name)
        return events_fail(&t->at, "operation (%.31s): %s", t->line.op, what);
    return events_fail(&t->at, "operation '%s' (%.31s): %s", t->line.name, t->line.op, what);
}

int nn_tree_wanted(struct text *t, const struct node *n, enum node_type type, const char *what)
{
    if (n->type == type)
        return 0;
    return nn_tree_fail(t, n, "%s: (wanted %s, got %s)", what, type_names[type],
                        type_names[n->type]);
}

/* Letters, digits and _, the first no digit. */
static bool is_name(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    return n && !s[n] && n < NAME && !isdigit((unsigned char)*s);
}

struct node *nn_tree_find(const struct node *mapping, const char *key)
{
    for (struct node *n = mapping ? mapping->first : NULL; n; n = n->next)
        if (!strcmp(n->key, key))
            return n;
    return NULL;
}

/* The event that has come becomes a node, with all that is in it. */
static int build(struct text *t, struct node **to, int depth)
{
    const yaml_event_t *e = &t->at.event;
    struct node *n = *to = calloc(1, sizeof *n), **end = &n->first;
    if (!n)
        return events_fail(&t->at, "out of memory");
    n->line = (int)t->at.line;
    if (e->type == YAML_SCALAR_EVENT) {
        n->text = strdup((const char *)e->data.scalar.value);
        return n->text ? 0 : events_fail(&t->at, "out of memory");
    }
    n->type = e->type == YAML_MAPPING_START_EVENT ? MAPPING : LIST;
    if (depth == NESTED)
        return events_fail(&t->at, "nested too deep");
    for (;;) {
        char *key = NULL;
        if (events_next(&t->at))
            return -1;
        if (e->type == YAML_MAPPING_END_EVENT || e->type == YAML_SEQUENCE_END_EVENT)
            return 0;
        if (++n->count > (n->type == MAPPING ? KEYS : ITEMS))
            return events_fail(&t->at, "%s of more than %d", type_names[n->type], n->count - 1);
        if (n->type == MAPPING) {
            const char *text =
                e->type == YAML_SCALAR_EVENT ? (const char *)e->data.scalar.value : "";
            const struct node *twice = nn_tree_find(n, text);
            if (!is_name(text))
                return events_fail(
                    &t->at, "'%.40s' is no name (an expression with a comma wants quotes)", text);
            if (twice)
                return events_fail(&t->at, "'%s' stands twice (first on line %d)", text,
                                   twice->line);
            if (!(key = strdup(text)))
                return events_fail(&t->at, "out of memory");
            if (events_next(&t->at)) {
                free(key);
                return -1;
            }
        }
        int bad = build(t, end, depth + 1);
        if (*end)
            (*end)->key = key;
        else
            free(key);
        if (bad)
            return -1;
        end = &(*end)->next;
    }
}

static int read_document(struct text *t)
{
    static const yaml_event_type_t before[] = {YAML_STREAM_START_EVENT, YAML_DOCUMENT_START_EVENT};
    static const yaml_event_type_t after[] = {YAML_DOCUMENT_END_EVENT, YAML_STREAM_END_EVENT};
    for (int i = 0; i < 2; i++) {
        if (events_next(&t->at))
            return -1;
        if (t->at.event.type != before[i])
            return events_fail(&t->at, "empty (wanted a network's description)");
    }
    if (events_next(&t->at) || build(t, &t->root, 0))
        return -1;
    for (int i = 0; i < 2; i++) {
        if (events_next(&t->at))
            return -1;
        if (t->at.event.type != after[i])
            return events_fail(&t->at, "a second document (wanted one)");
    }
    return 0;
}

/* --- the form --------------------------------------------------------------------------------- */

struct key {
    const char *name;
    enum node_type type;
    bool required;
    struct node **to;
};

/* A mapping with these keys and no others. */
static int take(struct text *t, struct node *n, const char *what, const struct key *key, int keys)
{
    if (nn_tree_wanted(t, n, MAPPING, what))
        return -1;
    for (struct node *i = n->first; i; i = i->next) {
        struct names_near near = {.to = i->key};
        int k = 0;
        for (; k < keys && strcmp(key[k].name, i->key); k++)
            names_try(&near, key[k].name);
        if (k == keys)
            return nn_tree_fail(t, i, "%s: unknown key '%s' (is '%s' meant?)", what, i->key,
                                near.name);
        if (nn_tree_wanted(t, i, key[k].type, i->key))
            return -1;
        *key[k].to = i;
    }
    for (int k = 0; k < keys; k++)
        if (key[k].required && !*key[k].to)
            return nn_tree_fail(t, n, "%s: '%s' is missing", what, key[k].name);
    return 0;
}

bool nn_tree_reserved(const char *name)
{
    static const char *const word[] = {"true", "false", "min", "max", "floor", "channels"};
    for (size_t i = 0; i < sizeof word / sizeof *word; i++)
        if (!strcmp(name, word[i]))
            return true;
    return false;
}

/* A list of names that are all different. */
static int check_names(struct text *t, const struct node *list, const char *what)
{
    for (const struct node *i = list->first; i; i = i->next) {
        if (nn_tree_wanted(t, i, SCALAR, what))
            return -1;
        if (!is_name(i->text) || nn_tree_reserved(i->text))
            return nn_tree_fail(t, i, "%s: '%.40s' is no name", what, i->text);
        for (const struct node *j = list->first; j != i; j = j->next)
            if (!strcmp(i->text, j->text))
                return nn_tree_fail(t, i, "%s: '%s' stands twice", what, i->text);
    }
    return 0;
}

int nn_tree_block(struct text *t, struct node *n, struct block *b)
{
    const struct key key[] = {{"inputs", LIST, false, &b->inputs},
                              {"parameters", LIST, false, &b->parameters},
                              {"body", LIST, true, &b->body}};
    *b = (struct block){0};
    return take(t, n, n->key, key, 3);
}

static int check_list(struct text *t, const struct node *list)
{
    if (!list->first)
        return nn_tree_fail(t, list, "%s: an empty list", list->key);
    for (const struct node *e = list->first; e; e = e->next) {
        if (nn_tree_wanted(t, e, MAPPING, "an entry"))
            return -1;
        const struct node *op = nn_tree_find(e, "op"), *name = nn_tree_find(e, "name"),
                          *when = nn_tree_find(e, "when");
        if (!op)
            return nn_tree_fail(t, e, "an entry: 'op' is missing");
        if (nn_tree_wanted(t, op, SCALAR, "op") ||
            (name && nn_tree_wanted(t, name, SCALAR, "name")) ||
            (when && nn_tree_wanted(t, when, SCALAR, "when")))
            return -1;
        if (name && !is_name(name->text))
            return nn_tree_fail(t, name, "'%.40s' is no name", name->text);
    }
    return 0;
}

static int check_form(struct text *t)
{
    const struct key key[] = {{"description", SCALAR, false, &t->description},
                              {"parameters", MAPPING, false, &t->parameters},
                              {"blocks", MAPPING, false, &t->blocks},
                              {"network", LIST, true, &t->network}};
    if (take(t, t->root, "the description", key, 4) || check_list(t, t->network))
        return -1;
    for (struct node *n = t->blocks ? t->blocks->first : NULL; n; n = n->next) {
        struct block b;
        const char *op;
        for (int i = 0; (op = t->to->op(t->to->ctx, i)); i++)
            if (!strcmp(op, n->key))
                return nn_tree_fail(t, n, "block '%s': there is an operation of this name", n->key);
        if (nn_tree_block(t, n, &b) || (b.inputs && check_names(t, b.inputs, "inputs")) ||
            (b.parameters && check_names(t, b.parameters, "parameters")) || check_list(t, b.body))
            return -1;
        if (b.inputs && (!b.inputs->count || b.inputs->count > NN_IN))
            return nn_tree_fail(t, b.inputs, "inputs: (wanted 1 to %d, got %d)", NN_IN,
                                b.inputs->count);
        for (const struct node *p = b.parameters ? b.parameters->first : NULL; p; p = p->next)
            if (nn_tree_find(t->parameters, p->text))
                return nn_tree_fail(t, p, "parameters: '%s' is one of the whole text already",
                                    p->text);
    }
    return 0;
}

int nn_tree_read(struct text *t)
{
    return read_document(t) || check_form(t) ? -1 : 0;
}
