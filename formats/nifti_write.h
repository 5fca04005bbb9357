/* nifti_write.h - writes a single-file NIfTI-1, gzip if the name ends in .gz; the file appears
 * under its name only when it is whole (atomic.h). The gzip header carries no name and no time, so
 * the same voxels give the same bytes.
 *
 * Errors: NULL or -1, and one line in why (NII_WHY bytes): "PATH: what". */
#ifndef NIFTI_WRITE_H
#define NIFTI_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "formats/nifti.h"

struct nii_out;

/* A new header: n volumes of the grid w x h x d, LPS, `spacing` in mm, in this machine's byte
 * order. */
void nii_make_header(uint8_t raw[NII_HEADER], const uint32_t grid[3], uint32_t volumes,
                     const double spacing[3], enum dtype, const char *description);

/* Puts its voxels elsewhere: index to mm, in a space of that code (NIFTI_XFORM_...). */
void nii_move_header(uint8_t raw[NII_HEADER], const struct affine *, int code);

/* Leaves of a header, in its own byte order, what says where voxels lie and what they are: the size
 * of this header, dim (as far as dim[0] goes), datatype and bitpix, the sizes of voxels, the units,
 * the matrices whose codes say that they count, an intent of labels, the magic. All else becomes
 * zero, or the least that the standard wants, whatever stood there. */
void nii_plain_header(uint8_t raw[NII_HEADER]);

/* Another's header and extensions (n bytes, checked by nii_parse) with nothing changed but what
 * describes the voxels: datatype, bitpix, scl_slope 1, scl_inter 0, no range of display (cal_min,
 * cal_max), no intent but that of labels, vox_offset, the magic of a single file, and the fourth
 * dimension if it is not `volumes` already. Returns the number of bytes before the voxels; out has
 * room for n + 4. */
size_t nii_remake_header(const uint8_t *raw, size_t n, uint32_t volumes, enum dtype, uint8_t *out);

/* Begins a file with the bytes that come before the voxels. */
struct nii_out *nii_create(const char *path, const void *header, size_t n, char *why);
int nii_put(struct nii_out *, const void *voxels, size_t bytes, char *why);

/* Ends the file, all but its name: what is left takes little memory and no descriptor. */
int nii_seal(struct nii_out *, char *why);

/* Ends the file and gives it its name; it is closed and freed in any case. */
int nii_commit(struct nii_out *, char *why);
void nii_abort(struct nii_out *);

#endif
