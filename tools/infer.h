/* infer.h - what the parts of infer share: options, the models, the plan. */
#ifndef INFER_H
#define INFER_H

#include "formats/contract.h"
#include "formats/ledger.h"
#include "formats/model.h"
#include "lib/nn/nn.h"
#include "tools/tool.h"

enum { MODELS = TOOL_MAPS, MOST = 16 }; /* of models; of records at once */

extern struct options {
    bool force, prob, uncertain;
    int axes; /* bits: each subset of them is a view that is predicted */
    int threads;
    unsigned long long memory;
} opt;

enum { MIRROR_X = 1, MIRROR_Y = 2 };

/* --- infer_models.c: one model, or several that predict together ------------------------------ */

struct member {
    const char *path;
    struct model model;
    struct nn_spec spec; /* its network */
    struct nn_about about;
};

extern struct member member[MODELS];
extern int members;
extern struct ledger trained; /* whom any of them was trained on */

/* Opens the files that member[0..members - 1] name; dies unless they can predict together. */
void models_open(void);
/* What the ledgers of all say becomes `trained`. */
void models_know(void);
/* What their texts take, as they lie and as they are understood, and whom they name. */
size_t models_memory(void);
/* What the process took to open them, the weights of one after those of another. */
size_t models_opening(void);
/* The sides of a slice, padded so that slices for which they are equal are of one size to each of
 * the models. */
void models_pad(const struct tensor *image, int *h, int *w);
/* As the history names them. */
void models_history(char *text, size_t size);
/* What -n says: what a stream for all of them has to be. */
void models_print(void);
void models_close(void);

/* --- infer_check.c: is that what they learned from? ------------------------------------------- */

void check_segment(const struct tns_meta *header);
/* Before its payloads have been taken; notes `trained`. */
void check_record(struct tns_record *);

/* A record's key, for messages. */
static inline const char *key_or(const struct tns_record *rec, const char *key)
{
    const char *v = tns_get(&rec->meta, key);
    return v ? v : "?";
}

/* --- infer_plan.c: memory, and what is computed in it ----------------------------------------- */

/* A side of a model's input for slices whose padded side is that. */
static inline int member_side(const struct member *m, int axis, int side)
{
    return nn_padded(side, m->about.multiple[axis]);
}

/* What who reads has to know of it. It changes while the ring is empty. */
extern struct plan {
    int n, h, w;  /* the largest batch, as models_pad has its sides */
    bool in_turn; /* one record at a time, as far as its image */
} plan;

/* So many batches are held at a time. */
enum { SLOTS = 3 };
enum { SAID = 65536 }; /* bytes of what was warned of */

bool plan_holds(const struct tns_record *, int h, int w);
/* For records and slices as large as this and those before; those that were held have been let
 * go. */
void plan_make(const struct tns_record *, int h, int w);
void plan_free(void);
/* Adds what is predicted to n records of one padded size. */
void compute(struct tns_record *, int n, int h, int w);

#endif
