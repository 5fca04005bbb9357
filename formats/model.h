/* model.h - a trained network in a file: safetensors with what a reader has to know beside the
 * weights.
 *
 * Keys of the file's metadata, all texts:
 *
 * - model: version of this table, 2. A reader refuses a greater one, and a file without it.
 * - generator: name and version of the program that trained it; isa: the ISA level of its kernels.
 * - network: its description, network(7), whole; parameters: what was set of the description's, as
 *   name=value, blanks between them; arch: what the description was called. In version 1 there is
 *   no description: arch is the name of a known one, and base, channels and dropout are its
 *   parameters.
 * - weights: f32, f16, bf16.
 * - classes: labels, background included. regions: what the outputs are where they are no classes,
 *   and the label that each paints, as targets.h has it, `wt=1,2,3;tc=1,3;et=3`; missing where they
 *   are classes.
 * - config: the settings of the run, as a file that gives them again.
 * - modalities, scheme: of the stream that it learned from; neighbours: slices on each side of one
 *   whose modalities are channels too (beside.h), missing where there are none; depth: of a network
 *   that sees volumes, the slices of the slabs that it learned from.
 * - norm, cropped: those keys of its records, "none" if they had none; spacing: of their voxels
 *   (contract.h), missing if they did not say.
 * - without: those of its modalities that some of its records lacked (their key `missing`), so that
 *   it can do without them; missing if none did. What it began from does not count.
 * - steps: how that stream was prepared (contract.h), one a line, each ended; missing if it did not
 *   say.
 * - history: all lines of that stream's history.
 * - patients: whom it was trained on, one a line, sorted; validated: whom it was validated on.
 * - scans: what it was trained on, as a ledger has it (ledger.h).
 * - continued: after how many passes the run was given more than it had been, blanks between;
 *   missing if it never was, or its rate is constant.
 * - begun: the models that the run began from, a line each, the last first: checksum (as the file
 *   has it), blank, file name; inherited: those of `patients` whom the first of them had learned
 *   from. Both missing if it began anew.
 * - leaky: yes if validation patients were among the training patients, here or in a model
 *   that it began from, else no.
 * - seed, epochs, epoch (after which these weights were kept, from 0), score (mean Dice of
 *   WT, TC and ET then, if validated), steps_taken.
 *
 * Checkpoints hold more, as "run.NAME", and the optimiser's moments beside the weights. */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>

#include "formats/contract.h"
#include "formats/safetensors.h"
#include "lib/base/targets.h"

#define MODEL_VERSION 2
#define MODEL_MAX_KEYS 64
#define MODEL_MAX_PARAMETERS 16
#define MODEL_MAX_NEIGHBOURS 31

/* A growing list of metadata, sorted by key: a file's bytes must not tell in which order a run came
 * to know them. A zeroed struct is an empty one. */
struct model_keys {
    struct st_pair pair[MODEL_MAX_KEYS];
    int n;
};

/* Sets or replaces a key; the text is copied. -1 if memory or room is short. */
int model_set(struct model_keys *, const char *key, const char *value)
    __attribute__((warn_unused_result));
int model_setf(struct model_keys *, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), warn_unused_result));
/* As model_set, of a text from malloc that is no longer the caller's; NULL is short memory. */
int model_give(struct model_keys *, const char *key, char *value)
    __attribute__((warn_unused_result));
void model_clear(struct model_keys *);

/* A model opened for use. Texts point into the file; those that a model need not have are NULL
 * where nothing is known. */
struct model {
    struct st_file file;
    const char *arch, *network; /* network: NULL in version 1 */
    struct {
        char name[32];
        double value;
    } parameter[MODEL_MAX_PARAMETERS];
    int parameters;
    int neighbours;
    const char *modalities, *scheme, *steps, *patients, *scans, *generator;
    const char *norm, *cropped, *spacing, *without;
    const char *begun, *inherited;
    const char *regions;
    enum dtype weights;
    bool leaky;
    struct targets targets;          /* what classes and regions make */
    struct contract_keys keys;       /* what norm and cropped say, or in their stead the steps */
    struct contract_spacing learned; /* what spacing says */
    uint64_t spared;                 /* what without says, bits in the order of modalities */
};

/* Appends NAME=VALUE to a text of `parameters` that has `length` bytes, 0 before the first. The
 * length then, which is at least `size` if it did not fit. */
size_t model_put_parameter(char *text, size_t size, size_t length, const char *name, double value);

/* 0, or an st_error and "PATH: what" in why. The whole file is checked against its
 * checksum, and every number: all finite, variances not negative. */
int model_open(struct model *, const char *path, char *why, size_t size)
    __attribute__((warn_unused_result));
void model_close(struct model *);

#endif
