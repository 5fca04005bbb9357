/* train.h - what the parts of train share: settings, batches as they come, validation, the files of
 * a run. */
#ifndef TRAIN_H
#define TRAIN_H

#include "formats/config.h"
#include "formats/contract.h"
#include "formats/ledger.h"
#include "formats/model.h"
#include "lib/metric/metric.h"
#include "lib/nn/nn.h"
#include "tools/tool.h"

#include <signal.h>

/* --- several processes (train_share.c) ---------------------------------------------------------*/

/* Processes that mpirun or srun started share each batch: of its groups (setting `groups`) each
 * has as many as the others, in the order of their ranks. Each has a stream of its own, in which
 * others' items are passed over; rank 0 alone reads and writes the files of the run. One process
 * is rank 0 of 1, and all of this does nothing. */
extern struct share {
    int rank, ranks;
    volatile sig_atomic_t stop; /* a signal asked for it */
} share;

/* Joins the others, before tool_confine; who is silent for so many seconds is named, and all
 * end. From share_watch on, behind it, they listen. A process that dies ends all, and of all that
 * die of that one says why. */
void share_begin(double seconds);
void share_watch(void);
void share_end(void);
/* For one that has nothing to say, while rank 0 says it and ends all. */
void share_follow(void);

/* "rank 1 (host)"; until the next call of the thread. */
const char *share_name(int rank);
/* That this process moves; that it waits for what may take long. */
void share_tick(void);
void share_idle(bool);
/* Seconds that it has waited for others, since the last call. */
double share_waited(void);

/* Dies unless rank 0 has the same text. */
void share_same(const char *what, const char *text);
/* Bytes of rank 0 go to all; those of each of the others come to rank 0, in order. */
void share_from_first(void *, size_t bytes);
void share_to_first(const void *, size_t bytes,
                    void (*take)(void *ctx, int rank, const void *data, size_t bytes), void *ctx);
/* Each number becomes the sum of all processes'; ctx is not used. */
int share_sums(void *ctx, double *, size_t n);
/* narrow: gradients travel as bf16, and each process steps all parameters; else a part of each. */
struct nn_hooks share_hooks(bool narrow);
/* Of n numbers of some bytes each, of which every process has its part of a parameter, all get all,
 * or rank 0 does. */
void share_parts(void *, size_t n, size_t bytes, bool to_all);
/* What each has written into memory that all have (near_holds) is there for all. */
void share_meet(void);
/* What MPI takes, as measured, and the buffers of sums. */
size_t share_memory(void);

/* train_near.c: memory that all have where they are on one machine. Rank 0 makes it before
 * tool_confine; all open it, as a descriptor of rank 0's process, then map it; who cannot closes
 * it. Each has a box there, of which near_box tells those that are filled now: who has filled his
 * waits for all, reads theirs, and goes on to the next. What waits says for how many seconds. */
enum { NEAR_BOX = 1 << 19 };  /* bytes */
enum { NEAR_TURNS = 100000 }; /* on the processor, before one who waits sleeps */
int near_make(void);
bool near_open(int pid, int fd);
bool near_map(void);
void near_close(void);
size_t near_bytes(void);         /* but for the next */
void *near_common(size_t bytes); /* by all at once; unmapped by who has it */
bool near_holds(const void *);   /* it lies in that */
void *near_box(int rank);
double near_wait(void);
void near_next(void);
double near_meet(void);
/* Numbers become the sum of all processes', along the tree; of at most 8 bytes each. */
double near_sum(void *, size_t n, size_t bytes, void (*add)(void *, const void *, size_t));

/* train_mpi.c: mpi_begin says whether a launcher has begun this process. Transfers, one call at a
 * time; mpi_send and mpi_receive return a number that
 * mpi_done is asked with until it says so. mpi_ready: from whom a message with that tag has come,
 * or -1. */
bool mpi_begin(int *rank, int *ranks);
int mpi_send(int to, int tag, const void *, size_t bytes);
int mpi_receive(int from, int tag, void *, size_t bytes);
bool mpi_done(int);
int mpi_ready(int tag);
void mpi_end(void);
void mpi_abort(void);

/* --- settings ----------------------------------------------------------------------------------*/

enum { KEEP_BEST, KEEP_LAST };

struct settings {
    char arch[CONFIG_TEXT_MAX], network[CONFIG_TEXT_MAX]; /* one of them is empty */
    int base, inputs, labels;                             /* 0: not said */
    double dropout;                                       /* below 0: not said */
    int deep_supervision;                                 /* the same */
    struct config_numbers numbers;
    int batch, size[2];
    int groups;    /* that a batch is summed in */
    int gradients; /* of those, and their sums: index into f32, bf16 */
    int precision; /* of maps and products: the same */
    int loss, optimiser;
    int dice; /* of the batch, of each sample */
    int background;
    bool squared;
    double gamma;
    struct config_list class_weights;
    char regions[CONFIG_TEXT_MAX]; /* "": none */
    bool usual;                    /* the settings speak of neither these nor classes */
    struct targets targets;        /* what classes and regions make */
    double rate;
    int schedule, warmup;
    double momentum, decay, clip;
    int accumulate; /* batches to a step */
    double ema;     /* how much the average of the weights keeps at a step; 0: none */
    int average;    /* last passes whose weights are averaged; 0: none */
    int neighbours; /* slices that a planar network sees on each side of one */
    int keep;       /* the weights of which epoch become MODEL */
    int patience;
    double checkpoint; /* minutes */
    int weights;       /* index into f32, f16, bf16 */
    uint64_t seed;
    /* the network: */
    struct nn_spec spec;
    char called[CONFIG_TEXT_MAX];          /* unet; mine, of a file mine.yaml */
    char parameters[NN_MAX_SETTINGS * 64]; /* as a model has them (model.h) */
    int channels, classes;                 /* channels of a slice; of its image, with neighbours, it
                                              has those of all of them */
    int multiple[3];                       /* that depth, height and width are padded to */
    bool products;                         /* of matrices */
    bool volume;                           /* a sample is a slab */
    int lag;                               /* of a stream of slices (nn.h) */
    bool whole;                            /* or it sees a volume as a whole */
};

/* Reads the file of -c, if any; dies of what is wrong in it. The seed of -s, if any, goes before
 * the file's. What it does not say is as recommended, or as it was before there were
 * recommendations: a run that began then goes on so. */
void settings_read(struct settings *, const char *config, const uint64_t *seed, bool recommended);
/* What of them the network's training takes. */
struct nn_training settings_training(const struct settings *);
/* The settings as a file that gives them again. */
const char *settings_text(const struct settings *);

/* --- the stream --------------------------------------------------------------------------------*/

/* What the training stream says of itself, in its header and its first record. */
struct source {
    char *modalities, *scheme, *history;
    struct contract_keys keys; /* of the first */
    char *digest;              /* of its records; "none" if it does not say */
    struct ledger named;       /* the patients to come, if it says */
    struct ledger_size scans;  /* the scans to come, as it says, or as a guess */
    size_t header;             /* bytes */
    char steps[CONTRACT_MAX];
    bool steps_known;
    long epochs;
    enum { SLICES, SLABS, BESIDE } rows; /* what an item is: a slice, a slab, one with neighbours */
    uint64_t length;                     /* items of an epoch */
    int d, h, w; /* that every item fits into, multiples of the network's; d: its slices */
};

/* The most items of a group. */
static inline int source_items(const struct settings *set)
{
    return (set->batch + set->groups - 1) / set->groups;
}

/* What the network sees for a group of the settings: volumes as they are, slabs for a planar
 * network as so many slices. */
static inline int source_samples(const struct source *s, const struct settings *set)
{
    return source_items(set) * (s->rows == SLABS && !set->volume ? s->d : 1);
}

/* The groups that are this process'. */
static inline struct nn_groups source_groups(const struct settings *set)
{
    const int own = set->groups / share.ranks;
    return (struct nn_groups){set->groups, share.rank * own, own, set->gradients};
}

static inline const char *source_item(const struct source *s)
{
    return s->rows == SLABS ? "slab" : "record";
}

struct batch {
    enum { BATCH_TRAIN, BATCH_MARK, BATCH_END } kind;
    struct nn_batch part[NN_MAX_GROUPS]; /* of each group of this process */
    float *image;
    uint8_t *label;
    int items;
    double (*spacing)[3];             /* of each item; 0 0 0 if it does not say */
    uint64_t *missing;                /* of each item: its modalities that are not there */
    char **patient, **prints, **name; /* of each item; name is for messages, prints may be NULL */
    long epoch;
    uint64_t position; /* of the item after it, and all that others have of the batch: epoch *
                          length + index */
};

struct feed {
    const struct settings *set;
    const struct source *source;
    const struct ledger *validated; /* patients who must not come */
    bool leaky, force;              /* but may; so may records that were prepared otherwise */
    uint64_t start;                 /* position of the first item wanted */
};

#define TRAIN_USES "image label"
/* Of a record of that size, of whatever type. */
size_t record_memory(const struct settings *, int h, int w);
size_t feed_memory(const struct settings *, const struct source *);
/* Reads ahead in a thread of its own, by one batch; first is the record that was read already, or
 * NULL. */
void feed_start(const struct feed *, struct tns_record *first);
/* The next batch, valid until the next call. */
struct batch *feed_next(void);

/* --- validation --------------------------------------------------------------------------------*/

enum { VALIDATION_PIECE = 2 }; /* slices of a volume that the network is given at once */

struct validation {
    const char *path;
    struct tns_files *files;
    struct ledger ledger;
    uint64_t digest; /* of its records */
    struct contract_keys keys;
    char *modalities, *scheme;
    char steps[CONTRACT_MAX];
    bool steps_known;
    int n, h, w;   /* of the batches that it will make */
    int deep;      /* slices of the deepest case, where that matters */
    size_t header; /* bytes */
    struct names cases;
    size_t pools; /* bytes of what is counted for each case */
};

struct scores {
    double loss, dice[MET_PARTS], soft[MET_PARTS]; /* means over the cases */
    double score;                                  /* mean Dice of WT, TC and ET */
};

/* Hops through the stream: who is in it, how large it is. `pixels` is the size of a training
 * batch, 0 for none; its batches are no larger, unless a single slice is. */
void validation_open(struct validation *, const char *path, const struct settings *);
void validation_size(struct validation *, size_t pixels, const struct settings *);
size_t validation_memory(const struct validation *, const struct settings *);
void validation_run(struct validation *, struct nn *, const struct settings *, struct scores *);

/* --- whether they agree ------------------------------------------------------------------------*/

/* What the stream says of itself; dies of what it does not. */
void source_read(struct source *, struct tns_record *first, const struct settings *);
/* Training, validation (or NULL) and settings have to speak of the same thing, or it dies. */
void source_agree(const struct source *, const struct settings *, const char *config,
                  const struct validation *, bool force, bool leaky);
/* Whether one of those trained on (in what messages call that) is validated on too; death where
 * that may not be. */
bool source_apart(const struct ledger *trained, const char *what, const struct validation *,
                  bool leaky);

/* --- the model that a run begins from ----------------------------------------------------------*/

struct origin {
    const char *path; /* NULL: none, and it begins anew */
    char sum[17];     /* the file's */
    size_t bytes;     /* that it takes to be read, before there is a network */
    struct model model;
    struct ledger ledger;
};

void origin_open(struct origin *, const char *path);
/* The stream has to be prepared as the model's was, or it dies. */
void origin_agree(const struct origin *, const struct source *, bool force);
/* As source_apart, of those that the model learned from. True of a model that is leaky itself. */
bool origin_apart(const struct origin *, const struct validation *, bool leaky);
struct run;
/* What the run has of it when it begins: whom it has learned from. */
void origin_inherit(const struct origin *, struct run *);
size_t origin_memory(const struct origin *);
/* Its weights, as far as they fit the network, which is initialised; says in a line which do not,
 * and dies where hardly any do. */
void origin_take(const struct origin *, struct nn *, const struct settings *,
                 const struct source *);
/* The ledger stays. */
void origin_close(struct origin *);

/* --- the files of a run: MODEL, MODEL.best, MODEL.last, MODEL.tsv ------------------------------*/

struct run {
    const char *model;
    uint64_t position; /* of the next item wanted; an epoch's mark has been seen with its last */
    uint64_t steps;    /* taken until MODEL.last was written */
    double loss_sum;   /* of the records of this epoch so far */
    uint64_t loss_count;
    uint64_t averaged; /* states of the weights that are in their average */
    long best_epoch;   /* whose weights are kept so far; -1: none yet */
    double best_score;
    bool stopped, leaky;
    bool longer;                     /* this process gives it more passes than it had */
    char *continued;                 /* as a model has it; NULL: never */
    char *begun, *inherited;         /* of -i, as a model has them (model.h); NULL: none */
    struct ledger ledger;            /* of those trained on */
    struct contract_spacing spacing; /* of the same */
    uint64_t missing;                /* modalities that some of them lacked */
};

/* What is to be planned for beside the network and the batches: who was met and is to come, the
 * texts of the files, headers as they lie in the reader and its buffer. */
size_t met_memory(struct run *, const struct settings *, const struct source *,
                  const struct validation *, const struct origin *);
/* What others have met comes to rank 0, too; and how long each waited, of so many seconds, for the
 * others and for its stream: who is waited for is named. */
void met_join(struct run *, double seconds, double stream);
/* Those of a batch. */
void met_add(struct run *, const struct batch *, const struct ledger *validated);
/* Warns where more came than were planned for, and dies where the ceiling has no room for them. */
void met_check_room(const struct run *, const struct settings *, const struct source *,
                    const struct validation *, size_t peak, unsigned long long ceiling);

/* The weights as they are now go into their average. While it is shown, it stands in their place;
 * before there is one, they do. */
void average_take(struct run *, struct nn *, const struct settings *);
void average_show(const struct run *, struct nn *, bool shown);

/* What messages call the two streams. */
#define TRAINED "the training stream"
#define VALIDATED "the validation stream"

/* All that a reader of a model wants to know; call before each save. */
void save_describe(struct model_keys *, const struct settings *, const struct source *,
                   const struct validation *, const struct run *, uint64_t steps);
/* The weights as they are, as MODEL.best; the whole state, as MODEL.last. */
void save_best(const struct run *, const struct model_keys *, const struct nn *);
void save_last(const struct run *, struct model_keys *, const struct source *,
               const struct validation *, struct nn *);
/* What the files' texts take while one is written. */
size_t save_memory(const struct settings *, const struct source *, const struct validation *,
                   const struct run *, const struct ledger_size *trained);
/* MODEL itself, from MODEL.best (or MODEL.last, when no epoch was chosen); the network's memory
 * has been given back. */
void save_final(const struct run *, struct model_keys *, const struct settings *, bool from_best);

/* The name of one of a run's files; until the next call. */
const char *save_path(const char *model, const char *suffix);
/* Opens a file that this program wrote, as st_open; a single bit that is not as written shows. */
int save_open(struct st_file *, const char *path, char *why, size_t size);
/* The digest of -e, or "none". */
const char *save_digest(const struct validation *);
/* All of them may be written from tool_confine on. */
void save_may_write(const char *model);
/* Opens and locks MODEL.tsv. False: there is nothing to continue. Else the run and, once there is
 * a network, its state are what MODEL.last holds. */
void save_lock(const char *model);
bool save_resume(struct run *, const struct settings *, struct source *, bool have_stream,
                 const struct validation *, const struct origin *);
void save_restore(const struct run *, struct nn *);
bool save_unfinished(const char *model);
/* Whether MODEL.last is of a run with these settings. */
bool save_is_of(const char *model, const struct settings *);

/* The log, MODEL.tsv: a line for each epoch that is over; those from `epoch` on are dropped first.
 * Labels below `classes`, and the regions, have columns. */
int log_open(const char *path);
void log_keep(long epoch, int classes);
void log_epoch(long epoch, uint64_t steps, double rate, double loss, const struct scores *);

#endif
