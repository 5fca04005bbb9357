/* nifti.h - reads NIfTI-1 volumes slice by slice, turned to one orientation; formats/nifti.md says
 * what is read, what is refused, and where this reader departs from the standard.
 *
 * Canonical axes: x runs to the patient's left, y to the posterior, z to the superior (LPS). A
 * slice is (H,W): rows y, columns x.
 *
 * Two passes: nii_scan goes through a file once, checks every voxel and leaves for each channel a
 * reader that stands at the first slice asked for; nii_slice then gives the slices. Memory: a plane
 * of the file, and 150 KB for each open reader. Where slices do not lie in the file one after the
 * other from inferior to superior, nii_slice goes through the file several times, within NII_GROUP
 * bytes.
 *
 * Errors: NULL or -1, and one line in why: "PATH: what". Different files may be read by different
 * threads. */
#ifndef NIFTI_H
#define NIFTI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/affine.h"
#include "lib/base/tensor.h"

#define NII_HEADER 348u
#define NII_KEEP 65536u /* header and extensions are kept up to this size, else the header alone */
#define NII_MAX_PLANE (1u << 30) /* bytes of a plane of the file, the unit that is held */
#define NII_GROUP 400000u        /* bytes of slices gathered in one pass, where it takes several */
#define NII_WHY 1024             /* room for a message */

/* What a head can have, in mm. Scans are made with voxels of 0.1 to 20 mm; half and twice of that
 * is still read, and a header that is wrong by 1000 in either direction (metres or micrometres
 * called millimetres) is not. Magnets show 600 mm at once; a head that is wrong by 10 measures more
 * than 1500, one that is wrong by 10 the other way (centimetres) less than 30, of voxels below 1.
 * As a slab may be thin and a cut-out small, a grid below 50 in two directions, of voxels below 1,
 * is doubted, not refused. */
#define NII_MIN_SPACING 0.05
#define NII_MAX_SPACING 50.0
#define NII_MAX_EXTENT 1500.0
#define NII_LEAST_HEAD 50.0

struct nii_header {
    bool swapped;        /* the file's byte order is not this machine's */
    bool pair;           /* .hdr and .img */
    int datatype;        /* DT_... of nifti1.h */
    uint32_t size;       /* bytes a voxel */
    uint32_t dim[3];     /* along the file's axes, fastest first */
    uint32_t channels;   /* fourth dimension, or 1 */
    uint64_t offset;     /* of the voxels in their file */
    double slope, inter; /* 1 and 0 if the header asks for none */
    double affine[3][4]; /* file index to mm, x to the right, y anterior, z superior */
    double spacing[3];   /* mm between slices' columns, rows, slices */
    char doubt[256];     /* what the header leaves open or contradicts, and what is taken; or "" */
    uint32_t grid[3];    /* canonical W, H, number of slices */
    int axis[3];         /* canonical axis c is the file's axis axis[c], */
    bool flip[3];        /* backwards if flip[c] */
};

/* Checks 348 bytes and reads them through nifticlib. `path` only names the file in messages. */
int nii_parse(const void *raw, const char *path, struct nii_header *, char *why);

/* Where file index (i,j,k) lies in a canonical volume of `grid`: base + i*step[0] + j*step[1] +
 * ... */
void nii_layout(const struct nii_header *, int64_t *base, int64_t step[3]);

/* Canonical index to mm: where column x, row y of slice z lies. */
struct affine nii_place(const struct nii_header *);

/* What differs between two grids, in words; NULL if they are one (affines within 1e-3 mm). */
const char *nii_grids_differ(const struct nii_header *, const struct nii_header *, char *why);

/* The other file of a .hdr/.img pair that `path` is one of, to be freed; NULL for a single file. */
char *nii_other_half(const char *path);
/* The file, and the other one of a pair; "": none. */
void nii_each_half(const char *path, void (*each)(const char *path));

struct nii_file;

struct nii_file *nii_open(const char *path, char *why);
void nii_close(struct nii_file *);
const struct nii_header *nii_head(const struct nii_file *);
/* Header and extensions as they stand in the file. */
const void *nii_bytes(const struct nii_file *, size_t *n);

/* One channel, over its non-zero voxels, as float32 holds them. */
struct nii_channel {
    uint64_t count;
    double mean, std;   /* population; 0 if there are none */
    uint64_t print;     /* the fingerprint of formats/tns.md; 0 if fewer than two values occur */
    bool whole;         /* unscaled integers within -32768..32767 */
    uint32_t box[3][2]; /* canonical x, y, z: first, and one past the last; 0 0 if there are none */
};

struct nii_reader;

/* First pass. `channel` and `reader` have room for head->channels; `used`, if not NULL, for a byte
 * a slice, set to 1 where the slice has a non-zero voxel. As `label`, values have to be whole
 * numbers from 0 to 255. */
int nii_scan(struct nii_file *, bool label, struct nii_channel *channel, uint8_t *used,
             uint32_t first_slice, struct nii_reader **reader, char *why);

/* Slice z as DT_U8 (labels), DT_I16 (whole channels) or DT_F32. Of one reader, z goes up and the
 * dtype stays the same. */
int nii_slice(struct nii_reader *, uint32_t z, enum dtype, void *out, char *why);
/* Plane k of the file, rows and columns as they lie there, in the place of nii_slice: k goes up. */
int nii_plane(struct nii_reader *, uint32_t k, enum dtype, void *out, char *why);
void nii_reader_free(struct nii_reader *);

/* -1 if the file has changed since it was opened. */
int nii_unchanged(const struct nii_reader *, char *why);

#endif
