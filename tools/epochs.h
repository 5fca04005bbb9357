/* epochs.h - what the files of epochs share. */
#ifndef EPOCHS_H
#define EPOCHS_H

#include "tools/tool.h"

extern struct options {
    long epochs, batch, skip, length;
    long depth, neighbours; /* slices of a slab; on each side of a slice; 0: neither */
    unsigned long long seed;
    long rank, ranks; /* of the processes that train */
    double share;
    bool force, by_class, by_patient;
    const char *labels, *weights, *sites;
} opt;

/* --- epochs_index.c: the records of all files, by number -------------------------------------- */

/* Minority classes: one of all labels, or with -c one of each. */
enum { CLASSES = 6 };
extern int classes;
/* The argument of -T, or wrong usage. */
void index_labels(const char *text);

/* Before confinement: the files are opened, or a folder's. */
void index_open(char **files, int n);
/* Hops through them; what they say of themselves goes into the header. How many records they
 * hold. */
uint32_t index_make(void);
/* What messages call them. */
const char *index_name(void);
/* The bits of the classes that a record holds, or, once it is forgotten, of none. */
uint64_t index_bits(uint32_t record);
void index_forget(uint32_t record);
/* Greatest height and width of `image`. */
extern uint32_t largest[2];
/* The record will be wanted soon: the system may begin to read. */
void index_advise(uint32_t record);
/* The one read of a slice that is wanted. */
void index_read(uint32_t record, struct tns_record *);
void index_close(void);

/* --- epochs_slabs.c: what is drawn: slices, slabs, slices with their neighbours --------------- */

/* So many in a row, of one case. */
struct span {
    uint32_t from, n;
};

/* The next record of the files; dies where a case's slices do not follow each other. It belongs to
 * an item, and weights_note is told of each new one. */
void slabs_note(const struct tns_record *, uint32_t record, const char *file, uint32_t its);
/* When all have come: items of a deal, and the most records that one of them may have. */
uint32_t slabs_count(void);
uint32_t slabs_depth(void);
/* With -d, where the items of a deal begin: a record of each. The key is that of the deal. Else an
 * item begins at the record of its number, always. */
struct rng;
void slabs_cut(const struct rng *key, uint32_t *from);
/* The records that come for an item that begins there. */
struct span slabs_span(uint32_t from);
/* Sets the keys that tell of it; `from` as above. */
void slabs_tell(struct tns_record *, uint32_t from);
void slabs_free(void);

/* --- epochs_weights.c: how often an item is drawn, beside others ------------------------------ */

/* Before confinement: the table of weights and the one of sites, or NULL, are opened. */
void weights_open(const char *table, const char *sites, bool by_patient);

/* After it: they are read, or the tool dies. The text is what of them changes the order, for the
 * history: "" or such as " -p -w 0123456789abcdef". It is valid for ever. */
const char *weights_read(void);

/* The next item, from 0; the record is for messages. */
void weights_note(const struct tns_meta *, uint32_t item, uint32_t record, const char *file);

/* When all have come: the weight of each, not all of them 0; NULL where all weigh the same. The
 * memory is the caller's. */
double *weights_make(uint32_t items, const char *file);

#endif
