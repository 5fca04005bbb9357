/* infer.h - what the parts of infer share: options, the models, the plan. */
#ifndef INFER_H
#define INFER_H

#include "formats/contract.h"
#include "formats/ledger.h"
#include "formats/model.h"
#include "lib/image/beside.h"
#include "lib/nn/nn.h"
#include "tools/tool.h"

enum { MODELS = TOOL_MAPS, MOST = 16 }; /* of models; of records at once */

extern struct options {
    bool bf16, force, prob, uncertain;
    int axes; /* bits: each subset of them is a view that is predicted */
    int threads;
    unsigned long long memory;
} opt;

enum { MIRROR_X = 1, MIRROR_Y = 2, MIRROR_Z = 4 };

/* --- infer_models.c: one model, or several that predict together ------------------------------ */

struct member {
    const char *path;
    struct model model;
    struct nn_spec spec; /* its network */
    struct nn_about about;
    int channels;             /* of a slice */
    struct img_beside beside; /* the slices of the case now, of a model that sees neighbours */
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
/* Whether any of them sees volumes, or neighbours: then all take a case slice by slice, from its
 * first to its last, and what is found of a slice comes `lag` slices later. */
bool models_stream(int *lag);
/* Whether one of them sees a case only as a whole: then the lag is the deepest one's slices. */
bool models_whole(void);
/* As the history names them. */
void models_history(char *text, size_t size);
/* What -n says: what a stream for all of them has to be. */
void models_print(void);
void models_close(void);

/* --- infer_check.c: is that what they learned from? ------------------------------------------- */

void check_segment(const struct tns_meta *header);
/* Before its payloads have been taken; notes `trained`. */
void check_record(struct tns_record *);

/* Of streams: that the record is the next slice of its case, which is whole when another begins or
 * none comes. */
bool check_goes_on(const struct tns_record *);
void check_slice(struct tns_record *);
void check_whole(void);

/* A record's key, for messages. */
static inline const char *key_or(const struct tns_record *rec, const char *key)
{
    const char *v = tns_get(&rec->meta, key);
    return v ? v : "?";
}

/* --- infer_plan.c: memory --------------------------------------------------------------------- */

/* A side of a model's input for slices whose padded side is that. */
static inline int member_side(const struct member *m, int axis, int side)
{
    return nn_padded(side, m->about.multiple[axis]);
}

/* What who reads has to know of it. It changes while the ring is empty. */
extern struct plan {
    int n, h, w;           /* the largest batch, as models_pad has its sides */
    int d;                 /* slices of the deepest case, where a network sees volumes as a whole */
    bool streams, spooled; /* spooled: a case is predicted view by view, while it is in a file */
    int lag, out;          /* of streams: slices that wait; that come out at once */
    bool in_turn;          /* one record at a time, as far as its image */
} plan;

/* So many slices are to come behind one before a network gives it; before it is predicted. */
static inline int network_lag(const struct member *m)
{
    return m->about.whole ? plan.d : m->about.lag;
}

static inline int member_lag(const struct member *m)
{
    return network_lag(m) + m->model.neighbours;
}

/* So many batches are held at a time. */
enum { SLOTS = 3 };
enum { SAID = 65536 }; /* bytes of what was warned of */

/* What is held for it. */
enum { VIEWS = 8 };
extern struct held {
    struct nn *nn[MODELS];
    size_t record;       /* bytes of a record's payloads */
    size_t header;       /* bytes of the segment's */
    size_t ledger;       /* bytes of who is known */
    size_t pixels;       /* of a slice */
    float *image, *prob; /* of a batch, as a network takes and gives it */
    float *sum, *own;    /* of each slice: of all models where no tensor holds it, of one */
    float *apart; /* of each slice of a case in a file: disagreement, and a model's entropy */
    uint8_t *pred;
    struct tns_record *line; /* those that wait, or a batch of a case in a file */
    int lines;
} held;

int plan_depth(const struct tns_record *); /* slices of its case, where that matters, or 0 */
bool plan_holds(const struct tns_record *, int h, int w);
/* Within a case nothing can be planned anew: death where a ceiling has no room for it. */
void plan_check(const struct tns_record *);
/* For records and slices as large as this and those before; those that were held have been let
 * go. */
void plan_make(const struct tns_record *, int h, int w);
void plan_free(void);

/* --- infer_compute.c: what is computed in it -------------------------------------------------- */

/* Whether that subset of the axes is a view that is predicted; how many are. */
bool is_view(int axes);
int views(void);
/* Whether several predictions are averaged, sums are kept, models compared. */
bool averages(void);
bool sums(void);
bool compares(void);
/* Adds what is predicted to n records of one padded size. */
void compute(struct tns_record *, int n, int h, int w);
/* Opens the files in which a case waits, before the process is confined; death comes when they are
 * wanted. */
void compute_spool(void);
/* Takes the next n records of a case, and gives so many in their place whose turn it is, with what
 * was predicted. Without any the case is over: again and again, until as many have come out. */
int compute_stream(struct tns_record *, int n, int h, int w);

#endif
