/* Descriptions: what a text becomes, and that each thing that is wrong has its line. */
#include "lib/nn/text.h"
#include "tests/lib/tap.h"

#include <stdlib.h>
#include <string.h>

/* Takes operations as lines of text, and gives each value twice the channels of its input. */
struct written {
    char text[1 << 16];
    size_t length;
    int values, channels[NN_TEXT_OPS];
    bool full;
};

static const char *const ops[] = {"input", "convolution", "relu", "add", "concat", "loss", NULL};

static const char *op(void *ctx, int i)
{
    (void)ctx;
    return ops[i];
}

static int channels(void *ctx, int value)
{
    return ((struct written *)ctx)->channels[value];
}

__attribute__((format(printf, 2, 3))) static void put(struct written *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(w->text + w->length, sizeof w->text - w->length, fmt, ap);
    va_end(ap);
    w->length += (size_t)n < sizeof w->text - w->length ? (size_t)n : 0;
}

/* "3: 0 = convolution enc1.conv1(1,2) kernel=3 size=1,2" */
static int emit(void *ctx, const struct nn_line *l, char *why, size_t size)
{
    struct written *w = ctx;
    put(w, "%d: %d = %s %s(", l->line, w->values, l->op, l->name);
    for (int i = 0; i < l->ins; i++)
        put(w, "%s%d", i ? "," : "", l->in[i]);
    put(w, ")");
    for (int i = 0; i < l->attrs; i++) {
        put(w, " %s=", l->attr[i].name);
        for (int k = 0; k < l->attr[i].count; k++)
            put(w, "%s%g", k ? "," : "", l->attr[i].value[k]);
        if (!strcmp(l->attr[i].name, "odd")) {
            snprintf(why, size, "odd: no such attribute");
            return -1;
        }
    }
    put(w, "\n");
    w->channels[w->values] = l->ins ? 2 * (w->channels[l->in[0]] % 1000) : 1;
    return w->values++;
}

static struct written *said;

static int read_text(const char *text, const struct nn_setting *set, int settings, char *why,
                     size_t size)
{
    const struct nn_taker to = {said, emit, channels, op};
    memset(said, 0, sizeof *said);
    *why = 0;
    return nn_text(text, strlen(text), "net", set, settings, &to, why, size);
}

static void becomes(const char *what, const char *text, const char *wanted)
{
    char why[512];
    int e = read_text(text, NULL, 0, why, sizeof why);
    if (!ok(!e && !strcmp(said->text, wanted), "%s", what))
        printf("# %s\n# %s\n", why, said->text);
}

static void refused(const char *text, const char *wanted)
{
    char why[512];
    int e = read_text(text, NULL, 0, why, sizeof why);
    if (!ok(e == -1 && !strcmp(why, wanted), "refused: %s", wanted))
        printf("# got: %s\n# of: %s\n", e ? why : "(taken)", text);
}

static void set_to(const char *what, const char *text, const char *name, double value,
                   const char *wanted)
{
    struct nn_setting set = {.value = value};
    char why[512];
    snprintf(set.name, sizeof set.name, "%s", name);
    int e = read_text(text, &set, 1, why, sizeof why);
    const char *got = e ? why : said->text;
    if (!ok(!strcmp(got, wanted), "%s", what))
        printf("# got: %s\n", got);
}

static void takes(void)
{
    becomes("an entry reads the one before it, or those it names",
            "network:\n"
            "  - {op: input}\n"
            "  - {op: convolution, name: a}\n"
            "  - {op: relu, name: b}\n"
            "  - {op: add, in: [b, a]}\n"
            "  - {op: relu, in: a}\n",
            "2: 0 = input ()\n3: 1 = convolution a(0)\n4: 2 = relu b(1)\n5: 3 = add (2,1)\n"
            "6: 4 = relu (1)\n");
    becomes("a block's names follow its own and a dot; it reads its inputs, and is its last entry",
            "blocks:\n"
            "  two:\n"
            "    inputs: [a, b]\n"
            "    parameters: [c]\n"
            "    body:\n"
            "      - {op: convolution, name: conv, channels: c + 1}\n"
            "      - {op: add, in: [conv, b]}\n"
            "network:\n"
            "  - {op: input, name: i}\n"
            "  - {op: two, name: enc, in: [i, i], c: 3}\n"
            "  - {op: relu}\n"
            "  - {op: add, in: [enc, enc.conv]}\n",
            "9: 0 = input i()\n6: 1 = convolution enc.conv(0) channels=4\n7: 2 = add (1,0)\n"
            "11: 3 = relu (2)\n12: 4 = add (2,1)\n");
    becomes("blocks in blocks; one without a name adds nothing",
            "blocks:\n"
            "  inner: {body: [{op: convolution, name: conv}]}\n"
            "  outer: {body: [{op: inner}, {op: inner, name: more}, {op: add, in: [conv, x]}]}\n"
            "network: [{op: input}, {op: outer, name: a}, {op: relu, in: a.more.conv}]\n",
            "4: 0 = input ()\n2: 1 = convolution a.conv(0)\n2: 2 = convolution a.more.conv(1)\n"
            "3: 3 = add (1,0)\n4: 4 = relu (2)\n");
    becomes(
        "`when` leaves an entry out: its first input stands for it, and its name may come again",
        "parameters: {kind: 1}\n"
        "network:\n"
        "  - {op: input}\n"
        "  - {op: convolution, name: c, when: kind == 0}\n"
        "  - {op: convolution, name: c, when: kind == 1}\n"
        "  - {op: relu, name: gone, in: c, when: false}\n"
        "  - {op: add, in: [c, gone]}\n",
        "3: 0 = input ()\n5: 1 = convolution c(0)\n7: 2 = add (1,1)\n");
    becomes("attributes are numbers, true, false, lists, expressions",
            "parameters: {base: 6, half: base / 2}\n"
            "network:\n"
            "  - {op: input, a: 1e-2, b: true, c: [1, base, false], d: -half - -1}\n"
            "  - {op: relu, name: r, e: 'min(2 * (base + 1) / 7, 1 + 2 * 3)', f: base >= 6}\n"
            "  - {op: relu, g: 'max(channels(r), 1)', h: channels(r) != 2}\n"
            "  - {op: relu, i: 2 - 1 - 1, j: 8 / 2 / 2, k: 1 + 1 == 2, l: .5, m: floor(7 / 2)}\n",
            "3: 0 = input () a=0.01 b=1 c=1,6,0 d=-2\n4: 1 = relu r(0) e=2 f=1\n"
            "5: 2 = relu (1) g=2 h=0\n6: 3 = relu (2) i=0 j=2 k=1 l=0.5 m=3\n");
    set_to("a parameter is set from outside, and those after it follow",
           "parameters: {base: 6, half: base / 2}\nnetwork: [{op: input, a: half}]\n", "base", 8,
           "2: 0 = input () a=4\n");
    set_to("one that the text has not is refused",
           "parameters: {base: 6}\nnetwork: [{op: input}]\n", "bse", 8,
           "net:1: no parameter 'bse' (is 'base' meant?)");
    set_to("a text without parameters has none", "network: [{op: input}]\n", "base", 8,
           "net:1: no parameter 'base' (there are none)");
    set_to("a setting is a finite number", "parameters: {base: 6}\nnetwork: [{op: input}]\n",
           "base", (double)INFINITY, "net:1: base: (wanted a finite number, got inf)");
    becomes("keys come in any order, and a description says what it is",
            "network:\n  - {in: [], name: i, op: input}\n"
            "blocks: {b: {body: [{op: relu}]}}\n"
            "description: |\n  Somebody's.\n",
            "2: 0 = input i()\n");
}

#define NET(entries) "network:\n  - {op: input, name: i}\n" entries
#define BLOCK(body) "blocks:\n  b: {parameters: [c], body: [" body "]}\n"

static void refuses(void)
{
    /* YAML itself, and what of it has no place */
    refused("", "net:1: empty (wanted a network's description)");
    refused("network: [", "net:2: not YAML: did not find expected node content");
    refused("a: 1\n", "net:1: the description: unknown key 'a' (is 'blocks' meant?)");
    refused("network: [{op: input}]\n--- \nc: d\n", "net:2: a second document (wanted one)");
    refused("network:\n- {op: \x1b[2J}\n", "net:2: not YAML: control characters are not allowed");
    refused("- 1", "net:1: the description: (wanted a mapping, got a list)");
    refused(NET("  - &a {op: relu}\n"), "net:3: anchors, aliases and tags have no place here");
    refused(NET("  - *a\n"), "net:3: anchors, aliases and tags have no place here");
    refused(NET("  - {op: !!str relu}\n"), "net:3: anchors, aliases and tags have no place here");
    refused(NET("  - {<<: {op: relu}}\n"),
            "net:3: '<<' is no name (an expression with a comma wants quotes)");
    refused(NET("  - {op: \"re\\0lu\"}\n"), "net:3: 're': holds a NUL");
    refused(NET("  - {op: relu, a: [[[1]]]}\n"),
            "net:3: operation (relu): a number: (wanted a plain value, got a list)");
    refused(NET("  - {op: relu, a: [[[[1]]]]}\n"), "net:3: nested too deep");
    refused(NET("  - {op: relu,\n     op: add}\n"), "net:4: 'op' stands twice (first on line 3)");

    /* the form */
    refused("parameters: {a: 1}\n", "net:1: the description: 'network' is missing");
    refused("netwrk: []\n", "net:1: the description: unknown key 'netwrk' (is 'network' meant?)");
    refused("network: 1\n", "net:1: network: (wanted a list, got a plain value)");
    refused("network: []\n", "net:1: network: an empty list");
    refused(NET("  - relu\n"), "net:3: an entry: (wanted a mapping, got a plain value)");
    refused(NET("  - {name: relu}\n"), "net:3: an entry: 'op' is missing");
    refused(NET("  - {op: [relu]}\n"), "net:3: op: (wanted a plain value, got a list)");
    refused(NET("  - {op: relu, name: a.b}\n"), "net:3: 'a.b' is no name");
    refused(NET("  - {op: relu, name: a b}\n"), "net:3: 'a b' is no name");
    refused(NET("  - {op: relu, name: 1}\n"), "net:3: '1' is no name");
    refused("blocks:\n  b: {inputs: [x]}\n" NET(""), "net:2: b: 'body' is missing");
    refused("blocks:\n  b: {bdy: []}\n" NET(""), "net:2: b: unknown key 'bdy' (is 'body' meant?)");
    refused("blocks:\n  relu: {body: [{op: add}]}\n" NET(""),
            "net:2: block 'relu': there is an operation of this name");
    refused("blocks:\n  b: {inputs: [x, x], body: [{op: add}]}\n" NET(""),
            "net:2: inputs: 'x' stands twice");
    refused("blocks:\n  b: {inputs: [], body: [{op: add}]}\n" NET(""),
            "net:2: inputs: (wanted 1 to 4, got 0)");
    refused("blocks:\n  b: {parameters: [min], body: [{op: add}]}\n" NET(""),
            "net:2: parameters: 'min' is no name");
    refused("parameters: {c: 1}\n" BLOCK("{op: relu}") NET(""),
            "net:3: parameters: 'c' is one of the whole text already");
    refused("parameters: {max: 1}\n" NET(""), "net:1: parameters: 'max' means something already");
    refused("parameters: {a: b, b: 1}\n" NET(""),
            "net:1: a: 'b': unknown parameter 'b' (there are none)");

    /* entries */
    refused(NET("  - {op: rleu, name: r}\n"),
            "net:3: operation 'r' (rleu): no such operation or block (is 'relu' meant?)");
    refused(BLOCK("{op: relu}") NET("  - {op: a}\n"),
            "net:5: operation (a): no such operation or block (is 'b' meant?)");
    refused(NET("  - {op: relu, in: j}\n"),
            "net:3: operation (relu): unknown value 'j' (is 'i' meant?)");
    refused("network: [{op: relu, in: j}]",
            "net:1: operation (relu): unknown value 'j' (none has been made)");
    refused(NET("  - {op: relu, name: a, in: a}\n"),
            "net:3: operation 'a' (relu): unknown value 'a' (is 'i' meant?)");
    refused(NET("  - {op: add, in: [i, i, i, i, i]}\n"),
            "net:3: operation (add): in: (wanted at most 4 values, got 5)");
    refused(NET("  - {op: add, in: {i: i}}\n"),
            "net:3: operation (add): in: (wanted a list, got a mapping)");
    refused(NET("  - {op: relu, name: a}\n  - {op: relu, name: a}\n"),
            "net:4: operation 'a' (relu): this name has been given already");
    refused("network: [{op: input, when: 0}]",
            "net:1: operation (input): when: no input to stand for it");
    refused(NET("  - {op: relu, a: [1, 2, 3, 4]}\n"),
            "net:3: operation (relu): a: (wanted 1 to 3 numbers, got 4)");
    refused(NET("  - {op: relu, a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1, i: 1}\n"),
            "net:3: operation (relu): more than 8 attributes");
    refused(NET("  - {op: convolution, name: c, odd: 1}\n"),
            "net:3: operation 'c' (convolution): odd: no such attribute");

    /* blocks */
    refused(BLOCK("{op: relu}") NET("  - {op: b}\n"),
            "net:5: operation (b): parameter 'c' is missing");
    refused(BLOCK("{op: relu}") NET("  - {op: b, c: 1, d: 1}\n"),
            "net:5: operation (b): unknown parameter 'd' (is 'c' meant?)");
    refused("blocks: {b: {body: [{op: relu}]}}\n" NET("  - {op: b, d: 1}\n"),
            "net:4: operation (b): unknown parameter 'd' (the block has none)");
    refused(BLOCK("{op: relu}") NET("  - {op: b, in: [i, i], c: 1}\n"),
            "net:5: operation (b): inputs: (wanted 1, got 2)");
    refused(BLOCK("{op: relu, name: x}") NET("  - {op: b, name: n, c: 1}\n"),
            "net:2: operation 'n.x' (relu): name: 'x' is an input of this block");
    refused(BLOCK("{op: relu, in: i}") NET("  - {op: b, c: 1}\n"),
            "net:2: operation (relu): unknown value 'i' (is 'x' meant?)");
    refused(BLOCK("{op: relu, name: r}") NET("  - {op: b, c: 1}\n  - {op: b, c: 1}\n"),
            "net:2: operation 'r' (relu): this name has been given already");
    refused(BLOCK("{op: b, name: bb, c: c}") NET("  - {op: b, name: n, c: 1}\n"),
            "net:2: operation 'n.bb.bb.bb.bb.bb.bb.bb.bb' (b): blocks in blocks more than 8 deep");
    refused(BLOCK("{op: b, name: a_name_of_17bytes, c: c}") NET("  - {op: b, name: n, c: 1}\n"),
            "net:2: operation (b): name: 'n.a_name_of_17bytes.a_name_of_17bytes.a_name_of_17bytes' "
            "is too long (wanted at most 48 bytes, got 55)");

    /* expressions */
#define EXPRESSION_IS(text, why)                                                                   \
    refused(NET("  - {op: relu, a: '" text "'}\n"), "net:3: operation (relu): a: '" text "':"      \
                                                    " " why)
    EXPRESSION_IS("1 +", "(wanted a number or a name, got the end)");
    EXPRESSION_IS("", "(wanted a number or a name, got the end)");
    EXPRESSION_IS("1 2", "(wanted the end, got '2')");
    EXPRESSION_IS("(1", "(wanted ')', got '')");
    EXPRESSION_IS("1 ? 2", "(wanted the end, got '? 2')");
    EXPRESSION_IS("1 / (1 - 1)", "divides by 0");
    EXPRESSION_IS("1e308 * 10", "(wanted a finite number, got inf)");
    EXPRESSION_IS("1e999", "(wanted a number, got '1e999')");
    EXPRESSION_IS("0x10", "(wanted a number, got '0x10')");
    EXPRESSION_IS("nan", "unknown parameter 'nan' (there are none)");
    EXPRESSION_IS("min(1)", "(wanted ',', got ')')");
    EXPRESSION_IS("1 < 2 < 3", "(wanted the end, got '< 3')");
    EXPRESSION_IS("~", "(wanted a number or a name, got '~')");
    refused(NET("  - {op: relu, a: channels(j)}\n"),
            "net:3: operation (relu): unknown value 'j' (is 'i' meant?)");
    refused(NET("  - {op: relu, a: max(1, 2)}\n"),
            "net:3: '2)' is no name (an expression with a comma wants quotes)");
    refused("parameters: {base: 1}\n" NET("  - {op: relu, a: bas}\n"),
            "net:4: operation (relu): a: 'bas': unknown parameter 'bas' (is 'base' meant?)");
    refused(NET("  - {op: relu, when: {a: 1}}\n"),
            "net:3: when: (wanted a plain value, got a mapping)");
}

/* A text that grows: `head`, then `item` with its number as often as is said, then `tail`. */
static char *grown(const char *head, const char *item, int times, const char *tail)
{
    static char text[NN_TEXT_MAX + 2];
    int n = snprintf(text, sizeof text, "%s", head);
    for (int i = 0; i < times && n < (int)sizeof text; i++) {
        char one[512];
        int k = 0;
        for (const char *p = item; *p; p++)
            k += *p == '#' ? snprintf(one + k, sizeof one - (size_t)k, "%d", i)
                           : snprintf(one + k, sizeof one - (size_t)k, "%c", *p);
        n += snprintf(text + n, sizeof text - (size_t)n, "%s", one);
    }
    if (n < (int)sizeof text)
        snprintf(text + n, sizeof text - (size_t)n, "%s", tail);
    return text;
}

static void limits(void)
{
    char why[512];
    ok(!read_text(grown("network:\n- {op: input}\n", "- {op: relu}\n", NN_TEXT_OPS - 1, ""), NULL,
                  0, why, sizeof why) &&
           said->values == NN_TEXT_OPS,
       "%d operations are taken", NN_TEXT_OPS);
    refused(grown("network:\n- {op: input}\n", "- {op: relu}\n", NN_TEXT_OPS, ""),
            "net:514: operation (relu): more than 512 operations");
    refused(grown("network:\n- {op: input}\n", "- {op: relu}\n", 2000, ""),
            "net:1026: a list of more than 1024");
    refused(grown("parameters:\n", "  a#: 1\n", 65, "network: [{op: input}]\n"),
            "net:66: a mapping of more than 64");
    refused(grown("network: [{op: input}]\n", "# a comment that fills a text #\n", 3000, ""),
            "net: too long (wanted at most 65536 bytes, got 65537)");

    /* Each block calls the next one six times: 6^6 entries, all left out. */
    refused(grown("blocks:\n"
                  "  b0: {body: [{op: relu, when: 0}]}\n"
                  "  b1: {body: [{op: b0}, {op: b0}, {op: b0}, {op: b0}, {op: b0}, {op: b0}]}\n"
                  "  b2: {body: [{op: b1}, {op: b1}, {op: b1}, {op: b1}, {op: b1}, {op: b1}]}\n"
                  "  b3: {body: [{op: b2}, {op: b2}, {op: b2}, {op: b2}, {op: b2}, {op: b2}]}\n"
                  "  b4: {body: [{op: b3}, {op: b3}, {op: b3}, {op: b3}, {op: b3}, {op: b3}]}\n"
                  "  b5: {body: [{op: b4}, {op: b4}, {op: b4}, {op: b4}, {op: b4}, {op: b4}]}\n"
                  "network:\n- {op: input}\n",
                  "- {op: b5}\n", 6, ""),
            "net:3: operation (b0): more than 4096 entries in all blocks");

    /* The same with an expression as long as may be in each. */
    char sum[257];
    for (int i = 0; i < 256; i++)
        sum[i] = i % 2 ? '+' : '1';
    sum[255] = ' ';
    sum[256] = 0;
    char item[512];
    snprintf(item, sizeof item, "- {op: b, c: '%s'}\n", sum);
    int e = read_text(grown("blocks:\n  b: {parameters: [c], body: [{op: relu, when: c < 0}]}\n"
                            "  b1: {parameters: [c], body: [{op: b, c: c}]}\n"
                            "network:\n- {op: input}\n",
                            item, 200, ""),
                      NULL, 0, why, sizeof why);
    ok(!e, "expressions of 256 bytes are taken (%s)", why);
    snprintf(item, sizeof item, "- {op: b, c: '%s+ 1'}\n", sum);
    e = read_text(grown("network:\n- {op: input}\n", item, 1, ""), NULL, 0, why, sizeof why);
    ok(e && strstr(why, "operation (b): no such"), "an operation is named before its expressions");
    refused(grown("network:\n- {op: input}\n- {op: relu, a: '", "1+", 200, "1'}\n"),
            "net:3: operation (relu): an expression of 401 bytes (wanted at most 256)");
    refused(grown("network:\n- {op: input}\n- {op: relu, a: '", "(", 256, "'}\n"),
            "net:3: operation (relu): a: "
            "'((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((': (wanted a number or a "
            "name, got the end)");
}

int main(void)
{
    said = malloc(sizeof *said);
    if (!said)
        return 1;
    takes();
    refuses();
    limits();
    free(said);
    return done_testing();
}
