/* text.c - walks a description: the list `network` in order, blocks in their places, each operation
 * to the taker. What a walk may cost is counted, whatever blocks call. */
#include "lib/nn/text.h"

#include "lib/base/names.h"
#include "lib/nn/text_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 8 /* blocks in blocks */

/* --- parameters ------------------------------------------------------------------------------- */

static void put_number(struct number *to, const char *name, double v)
{
    snprintf(to->name, sizeof to->name, "%s", name);
    to->value = v;
}

/* The text's parameters, and what they are set to from outside. */
static int read_parameters(struct text *t, const struct nn_setting *set, int sets)
{
    struct scope none = {0};
    for (struct node *n = t->parameters ? t->parameters->first : NULL; n; n = n->next) {
        double v = 0;
        if (nn_tree_reserved(n->key))
            return nn_tree_fail(t, n, "parameters: '%s' means something already", n->key);
        int i = 0;
        while (i < sets && strcmp(set[i].name, n->key))
            i++;
        if (i < sets)
            v = set[i].value;
        else if (nn_scope_evaluate(t, &none, n, &v))
            return -1;
        if (!isfinite(v))
            return nn_tree_fail(t, n, "%s: (wanted a finite number, got %g)", n->key, v);
        put_number(&t->number[t->numbers++], n->key, v);
    }
    for (int i = 0; i < sets; i++) {
        struct names_near near = {.to = set[i].name};
        if (nn_tree_find(t->parameters, set[i].name))
            continue;
        for (int k = 0; k < t->numbers; k++)
            names_try(&near, t->number[k].name);
        const struct node *at = t->parameters ? t->parameters : t->network;
        if (near.name)
            return nn_tree_fail(t, at, "no parameter '%s' (is '%s' meant?)", set[i].name,
                                near.name);
        return nn_tree_fail(t, at, "no parameter '%s' (there are none)", set[i].name);
    }
    return 0;
}

/* --- the walk --------------------------------------------------------------------------------- */

static int walk(struct text *, struct scope *, const struct node *list);

static bool is_attribute(const struct node *n)
{
    return strcmp(n->key, "op") && strcmp(n->key, "name") && strcmp(n->key, "in") &&
           strcmp(n->key, "when");
}

/* Notes what a name stands for; the value, or -1. */
static int put_value(struct text *t, const struct node *e, int value, bool made)
{
    if (value < 0 || !*t->line.name)
        return value;
    if (t->values == t->value_room) {
        int room = t->value_room ? 2 * t->value_room : 64;
        struct named *more = realloc(t->value, (size_t)room * sizeof *more);
        if (!more)
            return nn_tree_fail(t, e, "out of memory");
        t->value = more;
        t->value_room = room;
    }
    struct named *n = &t->value[t->values++];
    *n = (struct named){.value = value, .made = made};
    memcpy(n->name, t->line.name, sizeof n->name);
    return value;
}

/* The entry's full name. */
static int name_entry(struct text *t, const struct scope *s, const struct node *e)
{
    const struct node *name = nn_tree_find(e, "name");
    *t->line.name = 0;
    if (!name)
        return 0;
    char full[2 * TENSOR_MAX_NAME + NAME];
    size_t n = (size_t)snprintf(full, sizeof full, "%s%s", s->prefix, name->text);
    if (n > NN_TEXT_NAME)
        return nn_tree_fail(t, name, "name: '%s' is too long (wanted at most %d bytes, got %zu)",
                            full, NN_TEXT_NAME, n);
    memcpy(t->line.name, full, n + 1);
    for (int i = 0; i < s->ins; i++)
        if (!strcmp(name->text, nn_scope_input(s, i)))
            return nn_tree_fail(t, name, "name: '%s' is an input of this block", name->text);
    return 0;
}

static int unique(struct text *t, const struct node *e)
{
    if (!*t->line.name)
        return 0;
    if (nn_scope_spend(t, e, (size_t)t->values))
        return -1;
    for (int i = 0; i < t->values; i++)
        if (t->value[i].made && !strcmp(t->value[i].name, t->line.name))
            return nn_tree_fail(t, e, "this name has been given already");
    return 0;
}

static int find_inputs(struct text *t, const struct scope *s, const struct node *e, int before)
{
    const struct node *in = nn_tree_find(e, "in");
    t->line.ins = 0;
    if (!in) {
        if (before >= 0)
            t->line.in[t->line.ins++] = before;
        return 0;
    }
    if (in->type == LIST && in->count > NN_IN)
        return nn_tree_fail(t, in, "in: (wanted at most %d values, got %d)", NN_IN, in->count);
    if (in->type == MAPPING)
        return nn_tree_wanted(t, in, LIST, "in");
    for (const struct node *n = in->type == LIST ? in->first : in; n;
         n = in->type == LIST ? n->next : NULL) {
        if (nn_tree_wanted(t, n, SCALAR, "in"))
            return -1;
        int value = nn_scope_value(t, s, n, n->text);
        if (value < 0)
            return -1;
        t->line.in[t->line.ins++] = value;
    }
    return 0;
}

/* Attributes of an operation, as numbers. */
static int find_attributes(struct text *t, struct scope *s, const struct node *e)
{
    t->line.attrs = 0;
    for (const struct node *n = e->first; n; n = n->next) {
        if (!is_attribute(n))
            continue;
        if (t->line.attrs == NN_ATTRS)
            return nn_tree_fail(t, n, "more than %d attributes", NN_ATTRS);
        if (n->type == LIST && (n->count < 1 || n->count > 3))
            return nn_tree_fail(t, n, "%s: (wanted 1 to 3 numbers, got %d)", n->key, n->count);
        int a = t->line.attrs++;
        snprintf(t->line.attr[a].name, sizeof t->line.attr[a].name, "%s", n->key);
        t->line.attr[a].count = 0;
        for (const struct node *v = n->type == LIST ? n->first : n; v;
             v = n->type == LIST ? v->next : NULL)
            if (nn_scope_evaluate(t, s, v, &t->line.attr[a].value[t->line.attr[a].count++]))
                return -1;
    }
    return 0;
}

static int operation(struct text *t, struct scope *s, const struct node *e)
{
    char why[192] = "";
    struct names_near near = {.to = t->line.op};
    const char *op;
    int i = 0;
    for (; (op = t->to->op(t->to->ctx, i)) && strcmp(op, t->line.op); i++)
        names_try(&near, op);
    if (!op) {
        for (const struct node *n = t->blocks ? t->blocks->first : NULL; n; n = n->next)
            names_try(&near, n->key);
        return nn_tree_fail(t, e, "no such operation or block (is '%s' meant?)", near.name);
    }
    if (++t->ops > NN_TEXT_OPS)
        return nn_tree_fail(t, e, "more than %d operations", NN_TEXT_OPS);
    if (find_attributes(t, s, e))
        return -1;
    int value = t->to->emit(t->to->ctx, &t->line, why, sizeof why);
    return value < 0 ? nn_tree_fail(t, e, "%s", why) : value;
}

/* The numbers that a block is called with. */
static int arguments(struct text *t, struct scope *s, const struct node *e, const struct block *b,
                     struct scope *of)
{
    for (const struct node *n = e->first; n; n = n->next) {
        struct names_near near = {.to = n->key};
        const struct node *p = b->parameters ? b->parameters->first : NULL;
        double v;
        if (!is_attribute(n))
            continue;
        for (; p && strcmp(p->text, n->key); p = p->next)
            names_try(&near, p->text);
        if (!p && near.name)
            return nn_tree_fail(t, n, "unknown parameter '%s' (is '%s' meant?)", n->key, near.name);
        if (!p)
            return nn_tree_fail(t, n, "unknown parameter '%s' (the block has none)", n->key);
        if (nn_scope_evaluate(t, s, n, &v))
            return -1;
        put_number(&of->number[of->numbers++], n->key, v);
    }
    for (const struct node *p = b->parameters ? b->parameters->first : NULL; p; p = p->next)
        if (!nn_scope_number(of->number, of->numbers, p->text, strlen(p->text)))
            return nn_tree_fail(t, e, "parameter '%s' is missing", p->text);
    return 0;
}

static int call(struct text *t, struct scope *s, const struct node *e, struct node *of)
{
    struct block b;
    struct scope in = {.depth = s->depth + 1, .first = t->values, .ins = t->line.ins};
    char name[sizeof t->line.name];
    if (nn_tree_block(t, of, &b))
        return -1;
    if (in.depth > DEPTH)
        return nn_tree_fail(t, e, "blocks in blocks more than %d deep", DEPTH);
    int ins = b.inputs ? b.inputs->count : 1;
    if (in.ins != ins)
        return nn_tree_fail(t, e, "inputs: (wanted %d, got %d)", ins, in.ins);
    memcpy(in.in, t->line.in, sizeof in.in);
    in.inputs = b.inputs;
    snprintf(name, sizeof name, "%s", t->line.name);
    if (*name)
        snprintf(in.prefix, sizeof in.prefix, "%s.", name);
    else
        memcpy(in.prefix, s->prefix, sizeof in.prefix);
    if (arguments(t, s, e, &b, &in))
        return -1;
    int value = walk(t, &in, b.body);
    snprintf(t->line.name, sizeof t->line.name, "%s", name);
    return value;
}

static int walk(struct text *t, struct scope *s, const struct node *list)
{
    int value = s->ins ? s->in[0] : -1;
    for (const struct node *e = list->first; e; e = e->next) {
        const struct node *when = nn_tree_find(e, "when");
        double there = 1;
        t->line.op = nn_tree_find(e, "op")->text;
        t->line.line = e->line;
        if (++t->entries > ENTRIES)
            return nn_tree_fail(t, e, "more than %d entries in all blocks", ENTRIES);
        if (name_entry(t, s, e) || find_inputs(t, s, e, value) ||
            (when && nn_scope_evaluate(t, s, when, &there)))
            return -1;
        if (there == 0) {
            if (!t->line.ins)
                return nn_tree_fail(t, e, "when: no input to stand for it");
            if ((value = put_value(t, e, t->line.in[0], false)) < 0)
                return -1;
            continue;
        }
        struct node *block = nn_tree_find(t->blocks, t->line.op);
        if (unique(t, e))
            return -1;
        value = put_value(t, e, block ? call(t, s, e, block) : operation(t, s, e), true);
        if (value < 0)
            return -1;
    }
    return value;
}

int nn_text(const char *text, size_t length, const char *name, const struct nn_setting *set,
            int settings, const struct nn_taker *to, char *why, size_t size)
{
    struct text *t = calloc(1, sizeof *t);
    struct scope all = {0};
    if (!t || length > NN_TEXT_MAX) {
        if (t)
            snprintf(why, size, "%s: too long (wanted at most %d bytes, got %zu)", name,
                     NN_TEXT_MAX, length);
        else
            snprintf(why, size, "%s: out of memory", name);
        free(t);
        return -1;
    }
    t->at = (struct events){.name = name, .why = why, .size = size};
    t->to = to;
    int bad = events_open(&t->at, text, length) || nn_tree_read(t) ||
              read_parameters(t, set, settings) || walk(t, &all, t->network) < 0;
    events_close(&t->at);
    nn_tree_free(t->root);
    free(t->value);
    free(t);
    return bad ? -1 : 0;
}
