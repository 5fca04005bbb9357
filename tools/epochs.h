/* epochs.h - what the files of epochs share. */
#ifndef EPOCHS_H
#define EPOCHS_H

#include "tools/tool.h"

/* --- epochs_weights.c: how often a record is drawn, beside others --------------------------- */

/* Before confinement: the table of weights and the one of sites, or NULL, are opened. */
void weights_open(const char *table, const char *sites, bool by_patient);

/* After it: they are read, or the tool dies. The text is what of them changes the order, for the
 * history: "" or such as " -p -w 0123456789abcdef". It is valid for ever. */
const char *weights_read(void);

/* The next record of the file, from 0. */
void weights_note(const struct tns_meta *, uint32_t record, const char *file);

/* When all have come: the weight of each, not all of them 0; NULL where all weigh the same. The
 * memory is the caller's. */
double *weights_make(uint32_t records, const char *file);

#endif
