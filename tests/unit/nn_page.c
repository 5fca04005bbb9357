/* network(7) names every operation of lib/nn/ops.h, with its attributes, what they are if nobody
 * says, and how many inputs it takes; and no other. */
#include "lib/nn/ops.h"
#include "tests/lib/tap.h"

#include "lib/nn/op.h"

#include <stdlib.h>
#include <string.h>

#define DECLARE(name) extern const struct nn_kind nn_##name;
#define LIST(name) &nn_##name,
NN_OPS(DECLARE)
static const struct nn_kind *const kinds[] = {NN_OPS(LIST)};
enum { KINDS = sizeof kinds / sizeof *kinds };

static char page[1 << 16];

/* The row of an operation in the table, up to the end of its line; NULL if there is none. */
static const char *row(const char *op, char *to, size_t size)
{
    char start[64];
    snprintf(start, sizeof start, "\n.It %s Ta ", op);
    const char *p = strstr(page, start);
    if (!p)
        return NULL;
    p += strlen(start);
    snprintf(to, size, "%.*s", (int)strcspn(p, "\n"), p);
    return to;
}

/* "kernel 2", "bias true", "channels": as the page writes an attribute. */
static void attribute(const struct nn_rule *r, char *to, size_t size)
{
    if (isnan(r->preset))
        snprintf(to, size, "%s", r->name);
    else if (r->type == NN_BOOL)
        snprintf(to, size, "%s %s", r->name, r->preset ? "true" : "false");
    else
        snprintf(to, size, "%s %g", r->name, r->preset);
    char *zero = strstr(to, "e-0");
    if (zero)
        memmove(zero + 2, zero + 3, strlen(zero + 3) + 1);
}

static void check(const struct nn_kind *k)
{
    char text[512], inputs[32], all[256] = "";
    if (!ok(row(k->name, text, sizeof text) != NULL, "%s stands in network(7)", k->name))
        return;
    for (int i = 0; k->rule && k->rule[i].name; i++) {
        char one[64];
        attribute(&k->rule[i], one, sizeof one);
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", one);
    }
    if (k->least == k->most)
        snprintf(inputs, sizeof inputs, "%d Ta ", k->least);
    else
        snprintf(inputs, sizeof inputs, "%d to %d Ta ", k->least, k->most);
    bool good = !strncmp(text, inputs, strlen(inputs));
    const char *rest = text + strlen(inputs);
    good = good && !strncmp(rest, all, strlen(all)) &&
           (!*all || rest[strlen(all)] == ':' || rest[strlen(all)] == 0);
    ok(good, "%s: \"%s%s\" (got \"%s\")", k->name, inputs, all, text);
}

int main(void)
{
    FILE *f = fopen("man/network.7", "r");
    size_t n = f ? fread(page, 1, sizeof page - 1, f) : 0;
    if (f)
        fclose(f);
    ok(n > 0, "man/network.7 is there");
    for (int i = 0; i < KINDS; i++)
        if (strcmp(kinds[i]->name, "copy")) /* the graph's own */
            check(kinds[i]);
    const char *from = strstr(page, "\n.\\\" begin"), *to = strstr(page, "\n.\\\" end");
    int rows = 0;
    for (const char *p = from; p && p < to; p++)
        rows += !strncmp(p, "\n.It ", 5);
    ok(rows == KINDS - 1, "no other operation stands there (%d of %d)", rows, KINDS - 1);
    return done_testing();
}
