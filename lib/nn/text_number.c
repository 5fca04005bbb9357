/* text_number.c - what names and expressions of a description mean where they stand. */
#include "lib/nn/text_impl.h"

#include "lib/base/names.h"
#include "lib/base/number.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- names ------------------------------------------------------------------------------------ */

int nn_scope_spend(struct text *t, const struct node *n, size_t work)
{
    t->work += (long)work;
    return t->work > WORK ? nn_tree_fail(t, n, "expressions and names without end") : 0;
}

const char *nn_scope_input(const struct scope *s, int i)
{
    const struct node *n = s->inputs ? s->inputs->first : NULL;
    for (; n && i; i--)
        n = n->next;
    return n ? n->text : "x";
}

double *nn_scope_number(struct number *number, int numbers, const char *name, size_t length)
{
    for (int i = 0; i < numbers; i++)
        if (!strncmp(number[i].name, name, length) && !number[i].name[length])
            return &number[i].value;
    return NULL;
}

int nn_scope_value(struct text *t, const struct scope *s, const struct node *n, const char *name)
{
    struct names_near near = {.to = name};
    size_t prefix = strlen(s->prefix);
    if (nn_scope_spend(t, n, (size_t)(t->values - s->first)))
        return -1;
    for (int i = 0; i < s->ins; i++) {
        if (!strcmp(name, nn_scope_input(s, i)))
            return s->in[i];
        names_try(&near, nn_scope_input(s, i));
    }
    for (int i = t->values - 1; i >= s->first; i--)
        if (!strcmp(name, t->value[i].name + prefix))
            return t->value[i].value;
    for (int i = s->first; i < t->values; i++)
        names_try(&near, t->value[i].name + prefix);
    if (!near.name)
        return nn_tree_fail(t, n, "unknown value '%.60s' (none has been made)", name);
    return nn_tree_fail(t, n, "unknown value '%.60s' (is '%s' meant?)", name, near.name);
}

/* --- expressions ------------------------------------------------------------------------------ */

/* p stands at what comes next; at the end, once something is wrong. */
struct expression {
    struct text *t;
    struct scope *scope;
    const struct node *node;
    const char *p;
    bool bad;
};

static double comparison(struct expression *);

__attribute__((format(printf, 2, 3))) static double wrong(struct expression *x, const char *fmt,
                                                          ...)
{
    char what[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (!x->bad)
        nn_tree_fail(x->t, x->node, "%s%s'%.60s': %s", x->node->key ? x->node->key : "",
                     x->node->key ? ": " : "", x->node->text, what);
    x->bad = true;
    x->p = "";
    return 0;
}

static double finite_number(struct expression *x, double v)
{
    return isfinite(v) ? v : wrong(x, "(wanted a finite number, got %g)", v);
}

/* Whether the token comes next; then it is passed. */
static bool accept(struct expression *x, const char *token)
{
    x->p += strspn(x->p, " \t\r\n");
    size_t n = strlen(token);
    if (strncmp(x->p, token, n))
        return false;
    x->p += n;
    return true;
}

static void expect(struct expression *x, const char *token)
{
    if (!accept(x, token))
        wrong(x, "(wanted '%s', got '%.20s')", token, x->p);
}

static double channels(struct expression *x)
{
    char name[NN_TEXT_NAME + 1];
    expect(x, "(");
    x->p += strspn(x->p, " ");
    size_t n = strcspn(x->p, " )");
    if (n > NN_TEXT_NAME)
        return wrong(x, "a name of more than %d bytes", NN_TEXT_NAME);
    snprintf(name, sizeof name, "%.*s", (int)n, x->p);
    x->p += n;
    expect(x, ")");
    if (x->bad)
        return 0;
    int value = nn_scope_value(x->t, x->scope, x->node, name);
    if (value >= 0)
        return x->t->to->channels(x->t->to->ctx, value);
    x->bad = true;
    x->p = "";
    return 0;
}

static double unknown_number(struct expression *x, const char *name, size_t n)
{
    char shown[NAME];
    snprintf(shown, sizeof shown, "%.*s", (int)n, name);
    struct names_near near = {.to = shown};
    for (int i = 0; i < x->scope->numbers; i++)
        names_try(&near, x->scope->number[i].name);
    for (int i = 0; i < x->t->numbers; i++)
        names_try(&near, x->t->number[i].name);
    if (!near.name)
        return wrong(x, "unknown parameter '%s' (there are none)", shown);
    return wrong(x, "unknown parameter '%s' (is '%s' meant?)", shown, near.name);
}

static double named(struct expression *x, const char *name, size_t n)
{
    const char *const least = "min", *const most = "max";
    if (n == 3 && (!strncmp(name, least, n) || !strncmp(name, most, n))) {
        expect(x, "(");
        double a = comparison(x);
        expect(x, ",");
        double b = comparison(x);
        expect(x, ")");
        return (a < b) == !strncmp(name, least, n) ? a : b;
    }
    if (n == 5 && !strncmp(name, "floor", n)) {
        expect(x, "(");
        double v = floor(comparison(x));
        expect(x, ")");
        return v;
    }
    if (n == 8 && !strncmp(name, "channels", n))
        return channels(x);
    if (n == 4 && !strncmp(name, "true", n))
        return 1;
    if (n == 5 && !strncmp(name, "false", n))
        return 0;
    const double *v = nn_scope_number(x->scope->number, x->scope->numbers, name, n);
    if (!v)
        v = nn_scope_number(x->t->number, x->t->numbers, name, n);
    return v ? *v : unknown_number(x, name, n);
}

static double primary(struct expression *x)
{
    if (accept(x, "-"))
        return -primary(x);
    if (accept(x, "(")) {
        double v = comparison(x);
        expect(x, ")");
        return v;
    }
    const char *start = x->p;
    if (isdigit((unsigned char)*start) || *start == '.') {
        char *end;
        double v;
        if (!number_read(start, &end, &v))
            return wrong(x, "(wanted a number, got '%.20s')", start);
        x->p = end;
        return v;
    }
    while (isalnum((unsigned char)*x->p) || *x->p == '_')
        x->p++;
    if (x->p == start)
        return *start ? wrong(x, "(wanted a number or a name, got '%.20s')", start)
                      : wrong(x, "(wanted a number or a name, got the end)");
    return named(x, start, (size_t)(x->p - start));
}

static double product(struct expression *x)
{
    double v = primary(x);
    for (;;) {
        if (accept(x, "*")) {
            v = finite_number(x, v * primary(x));
        } else if (accept(x, "/")) {
            double by = primary(x);
            v = by != 0 || x->bad ? finite_number(x, v / by) : wrong(x, "divides by 0");
        } else {
            return v;
        }
    }
}

static double sum(struct expression *x)
{
    double v = product(x);
    for (;;) {
        if (accept(x, "+"))
            v = finite_number(x, v + product(x));
        else if (accept(x, "-"))
            v = finite_number(x, v - product(x));
        else
            return v;
    }
}

static double comparison(struct expression *x)
{
    double v = sum(x);
    if (accept(x, "=="))
        return v == sum(x);
    if (accept(x, "!="))
        return v != sum(x);
    if (accept(x, "<="))
        return v <= sum(x);
    if (accept(x, ">="))
        return v >= sum(x);
    if (accept(x, "<"))
        return v < sum(x);
    if (accept(x, ">"))
        return v > sum(x);
    return v;
}

int nn_scope_evaluate(struct text *t, struct scope *s, const struct node *n, double *v)
{
    if (nn_tree_wanted(t, n, SCALAR, n->key ? n->key : "a number"))
        return -1;
    size_t length = strlen(n->text);
    if (length > EXPRESSION)
        return nn_tree_fail(t, n, "an expression of %zu bytes (wanted at most %d)", length,
                            EXPRESSION);
    if (nn_scope_spend(t, n, length * (size_t)(1 + s->numbers + t->numbers)))
        return -1;
    struct expression x = {t, s, n, n->text, false};
    *v = comparison(&x);
    accept(&x, "");
    if (*x.p)
        wrong(&x, "(wanted the end, got '%.20s')", x.p);
    return x.bad ? -1 : 0;
}
