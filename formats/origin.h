/* origin.h - where the scans of a volume come from, that regrid(1) made: for each its header as it
 * was, and the map that takes a point of the volume, in mm, to the scan's. It is text in an
 * extension of the NIfTI header (code 6, a comment), and so goes wherever the header goes: with the
 * slices, through every filter, into files and out of them.
 *
 *     gliopipe regrid 1
 *     scan NAME M00 M01 ... M23 HEADER      one line for each; 348 bytes as hexadecimal digits
 *
 * Texts of the header that may tell whom it shows - data_type, db_name, descrip, aux_file,
 * intent_name - are taken out, and so are extensions. */
#ifndef ORIGIN_H
#define ORIGIN_H

#include <stddef.h>
#include <stdint.h>

#include "formats/nifti.h"
#include "lib/base/affine.h"

#define ORIGIN_SCANS 8
#define ORIGIN_NAME 16

struct origin {
    int n;
    struct origin_scan {
        char name[ORIGIN_NAME]; /* of the modality */
        struct affine map;
        uint8_t header[NII_HEADER];
    } scan[ORIGIN_SCANS];
};

/* Takes those texts out of a header, and of its extensions leaves only this one. Returns how many
 * of the `bytes` are left. */
size_t origin_bare(uint8_t *header, size_t bytes);

/* Adds a scan. */
void origin_add(struct origin *, const char *name, const struct affine *map,
                const uint8_t header[NII_HEADER]);

/* The header with the extension behind it, whose voxels begin where it ends; to be freed. NULL if
 * memory is short. */
uint8_t *origin_write(const struct origin *, const uint8_t header[NII_HEADER], size_t *bytes);

/* Reads it out of a header with its extensions: 1; 0 if there is none; -1 and why (NII_WHY bytes)
 * if it is damaged. Every header is one that nii_parse takes, every map can be turned round. */
int origin_read(const void *header, size_t bytes, struct origin *, char *why);

const struct origin_scan *origin_find(const struct origin *, const char *name); /* or NULL */

#endif
