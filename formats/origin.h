/* origin.h - where the scans of a volume come from, that regrid(1) made: for each its header as it
 * was, and the map that takes a point of the volume, in mm, to the scan's. It is text in an
 * extension of the NIfTI header (code 6, a comment), and so goes wherever the header goes: with the
 * slices, through every filter, into files and out of them.
 *
 *     gliopipe regrid 1
 *     scan NAME M00 M01 ... M23 HEADER      one line for each; 348 bytes as hexadecimal digits
 *     made STEP                             of a file: the history's lines of regrid and strip
 *
 * slices2nii puts the lines of the history there, and nii2slices into the history again.
 * Of a header it has what nii_plain_header leaves, so that nothing in it tells whom it shows, and
 * of extensions nothing. */
#ifndef ORIGIN_H
#define ORIGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/nifti.h"
#include "lib/base/affine.h"

#define ORIGIN_SCANS 8
#define ORIGIN_NAME 16
#define ORIGIN_MADE 512

struct origin {
    int n;
    struct origin_scan {
        char name[ORIGIN_NAME]; /* of the modality */
        struct affine map;
        uint8_t header[NII_HEADER];
    } scan[ORIGIN_SCANS];
    char made[ORIGIN_MADE]; /* steps, each ended by a line feed */
};

/* What of a header and its extensions tells where voxels lie: nii_plain_header's, and this
 * extension as origin_write makes it; to be freed, *left bytes. NULL and why where that is
 * damaged. */
uint8_t *origin_bare(const uint8_t *header, size_t bytes, size_t *left, char *why);

/* Adds a scan. */
void origin_add(struct origin *, const char *name, const struct affine *map,
                const uint8_t header[NII_HEADER]);

/* Adds a line of the history where it is one of regrid's or strip's, once: of its words those that
 * these two have, so that no other text comes into a file. False where it is none, had others, or
 * there is no room. */
bool origin_add_step(struct origin *, const char *line);

/* The header with the extension behind it, whose voxels begin where it ends; to be freed. NULL if
 * memory is short. */
uint8_t *origin_write(const struct origin *, const uint8_t header[NII_HEADER], size_t *bytes);

/* Reads it out of a header with its extensions: 1; 0 if there is none; -1 and why (NII_WHY bytes)
 * if it is damaged. Every header is one that nii_parse takes, every map can be turned round. */
int origin_read(const void *header, size_t bytes, struct origin *, char *why);

const struct origin_scan *origin_find(const struct origin *, const char *name); /* or NULL */

#endif
