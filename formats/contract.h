/* contract.h - how the data that a model learned from was prepared, so that it meets no other.
 *
 * The contract of a stream is read off its own metadata: the names and order of the modalities, the
 * meaning of the labels, and its *steps*: those lines of the header's history that change what a
 * network sees. Lines of tools that are known not to (nii2slices, of whose voxels the records tell
 * the size, recode, which the scheme speaks for, pick, mislabel, epochs, augment, infer, tidy and
 * pack) are left out, every other counts, unknown tools too, without a `-F`; `crop -u` takes the
 * crop before it back. Of znorm and crop the records speak themselves, in the keys `norm` and
 * `cropped`, so that a history that was left out hides nothing. Of regrid and strip counts what
 * they made: whether the skull is on, and whether scans lie on one grid for all; how they were
 * registered and interpolated makes no difference to a network. Two streams are prepared alike
 * when their keys are the same, and their other steps, line by line, and the skull is on in both or
 * off, or one does not say. */
#ifndef CONTRACT_H
#define CONTRACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/tns.h"

#define CONTRACT_MAX 4096 /* bytes of steps, with the final NUL */

/* The steps of a header, each ended by a line feed. 1; 0 if the header has no history at all (then
 * nothing is known of the stream, and steps is empty); TNS_EINVALID if they are too long. */
int contract_steps(const struct tns_meta *header, char steps[CONTRACT_MAX]);

/* Is it a line of what made the scans that are in a file, regrid or strip? */
bool contract_is_made(const char *line);

/* Do the steps differ, those of znorm and crop aside? Then why holds the first difference, in words
 * that follow "prepared differently: ". */
bool contract_differs(const char *wanted, const char *got, char *why, size_t size);

/* Do they maybe, where one of them does not say, or it does little harm? Then why holds it in
 * words. */
bool contract_doubts(const char *wanted, const char *got, char *why, size_t size);

/* Is there a step of that tool? */
bool contract_has(const char *steps, const char *tool);

/* What a record's keys say of its image: their values, "none" where a key is absent. A crop that
 * does not say how is "unknown". */
struct contract_keys {
    char norm[64], cropped[64];
};
void contract_keys(const struct tns_meta *record, struct contract_keys *);
/* The same of what steps leave behind, for models from before records said so. */
void contract_keys_of_steps(const char *steps, struct contract_keys *);
/* As contract_differs. */
bool contract_keys_differ(const struct contract_keys *wanted, const struct contract_keys *got,
                          char *why, size_t size);

/* The range of voxel sizes of some records; a zeroed one is empty. As text: the least of x, y, z,
 * then the greatest. */
struct contract_spacing {
    double least[3], greatest[3];
};
void contract_spacing_add(struct contract_spacing *, const double spacing[3]);
int contract_spacing_read(struct contract_spacing *, const char *text)
    __attribute__((warn_unused_result)); /* 0, or -1 */
/* Is a voxel of that size within the range, or nearly (5 %)? */
bool contract_spacing_near(const struct contract_spacing *, const double spacing[3]);

/* Names with commas between: how many there are; the place of one, n bytes, or -1. */
int contract_count(const char *names);
int contract_find(const char *names, const char *name, size_t n);

/* A set of modalities, as bits in their order: of names, commas between; as names. -1 where a name
 * is none of them, or there are more than 64. */
int contract_set(const char *modalities, const char *names, uint64_t *set)
    __attribute__((warn_unused_result));
void contract_names(const char *modalities, uint64_t set, char *names, size_t size);

/* Finds the order that makes modalities `got` those `wanted` (both comma-separated): order[i] is
 * the channel of got that is wanted's channel i. Returns the number of channels, or -1 and why. */
int contract_order(const char *wanted, const char *got, int *order, int max, char *why,
                   size_t size);

#endif
