/* text_impl.h - what the three parts of the reader of descriptions share: the tree, and where its
 * walk stands. */
#ifndef NN_TEXT_IMPL_H
#define NN_TEXT_IMPL_H

#include "lib/nn/text.h"

#include "lib/base/events.h"

#define KEYS 64        /* in a mapping */
#define NAME 32        /* bytes of one name with its NUL */
#define ENTRIES 4096   /* walked, whether they become operations or not */
#define EXPRESSION 256 /* bytes */
#define WORK (1 << 24) /* bytes of expressions, names compared */

enum node_type { SCALAR, LIST, MAPPING };

/* An item of a list, or of a mapping, then with its key. */
struct node {
    enum node_type type;
    int line, count; /* of items */
    char *key, *text;
    struct node *first, *next;
};

struct block {
    struct node *inputs, *parameters, *body; /* either of the first may be missing */
};

struct number {
    char name[NAME];
    double value;
};

struct named {
    char name[TENSOR_MAX_NAME]; /* in full */
    int value;
    bool made; /* else it was left out */
};

struct text {
    struct events at; /* tells errors */
    const struct nn_taker *to;
    struct node *root, *description, *parameters, *blocks, *network;
    struct number number[KEYS]; /* the text's parameters */
    int numbers;
    struct named *value; /* that have names */
    int values, value_room, entries, ops;
    long work;
    struct nn_line line; /* the one that is being made */
};

/* The list that is being walked: of a block, or the network's. */
struct scope {
    char prefix[TENSOR_MAX_NAME + 1]; /* "enc1.", or "" */
    const struct node *inputs;        /* names; NULL: of a block ["x"], of the network none */
    int in[NN_IN], ins;
    struct number number[KEYS];
    int numbers;
    int first; /* values from here on are this list's */
    int depth;
};

/* --- text_tree.c: the text as a tree of the right form ---------------------------------------- */

int nn_tree_read(struct text *);
void nn_tree_free(struct node *);
int nn_tree_block(struct text *, struct node *, struct block *);
struct node *nn_tree_find(const struct node *mapping, const char *key);
bool nn_tree_reserved(const char *name); /* a word of expressions */

/* Says what is wrong at a node, and in which operation; returns -1. */
int nn_tree_fail(struct text *, const struct node *, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int nn_tree_wanted(struct text *, const struct node *, enum node_type, const char *what);

/* --- text_number.c: names and expressions ----------------------------------------------------- */

/* The number of a value by its name, or -1. */
int nn_scope_value(struct text *, const struct scope *, const struct node *, const char *name);
const char *nn_scope_input(const struct scope *, int i);
double *nn_scope_number(struct number *, int numbers, const char *name, size_t length);

/* The number that a node says. */
int nn_scope_evaluate(struct text *, struct scope *, const struct node *, double *);

/* Counts work; -1 when it has been too much. */
int nn_scope_spend(struct text *, const struct node *, size_t work);

#endif
