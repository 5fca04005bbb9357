/* contract.h - how the data that a model learned from was prepared, so that it meets no other.
 *
 * The contract of a stream is read off its own metadata: the names and order of the modalities, the
 * meaning of the labels, and its *steps*: those lines of the header's history that change what a
 * network sees. Lines of tools that are known not to (nii2slices, recode, which the scheme speaks
 * for, pick, epochs, augment, infer) are left out, every other counts, unknown tools too, without a
 * `-F`; `crop -u` takes the crop before it back. Two streams are prepared alike when their steps
 * are the same, line by line. */
#ifndef CONTRACT_H
#define CONTRACT_H

#include <stdbool.h>
#include <stddef.h>

#include "formats/tns.h"

#define CONTRACT_MAX 4096 /* bytes of steps, with the final NUL */

/* The steps of a header, each ended by a line feed. 1; 0 if the header has no history at all (then
 * nothing is known of the stream, and steps is empty); TNS_EINVALID if they are too long. */
int contract_steps(const struct tns_meta *header, char steps[CONTRACT_MAX]);

/* Do the steps differ? Then why holds the first difference, in words that follow "prepared
 * differently: ". */
bool contract_differs(const char *wanted, const char *got, char *why, size_t size);

/* Finds the order that makes modalities `got` those `wanted` (both comma-separated): order[i] is
 * the channel of got that is wanted's channel i. Returns the number of channels, or -1 and why. */
int contract_order(const char *wanted, const char *got, int *order, int max, char *why,
                   size_t size);

#endif
