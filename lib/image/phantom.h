/* phantom.h - a synthetic study: a head with a glioma in four contrasts, computed slice by slice.
 *
 * The brain is a dented ellipsoid of cortex, folds, white matter, deep nuclei and ventricles; air
 * is exactly zero. A tumour has a necrotic or solid core, a patchy enhancing rim (some have none)
 * and oedema that prefers white matter; it pushes the tissue around it aside. Intensities,
 * contrast, bias field and noise differ from patient to patient; small bright lesions and vessels,
 * which are not tumour, keep one threshold from solving it. Lengths are mm on a head of natural
 * size, so the picture does not depend on the grid. */
#ifndef PHANTOM_H
#define PHANTOM_H

#include <stdint.h>

#define IMG_LESIONS 2
#define IMG_SPOTS 8
#define IMG_VESSELS 6
#define IMG_TISSUES 7

struct img_phantom {
    uint32_t w, h, d;
    double spacing[3];
    uint64_t key; /* of the anatomy's textures */
    uint64_t noise_key;
    double centre[3], semi[3], turn[2]; /* turn: cosine and sine, about z */
    double ventricle, fold;
    int lesions, spots;
    struct {
        double at[3], axis[3], size, core, shift[3], rim, gap, push, oedema;
    } lesion[IMG_LESIONS];
    double spot[IMG_SPOTS][4];     /* x y z radius */
    double vessel[IMG_VESSELS][6]; /* from, to */
    double value[IMG_TISSUES][4];  /* by modality: flair t1 t1gd t2 */
    double gain[4], bias[4][9], sigma[4];
};

/* A study of w x h x d voxels. The seed and the patient fix the anatomy and the scanner; `visit` is
 * the scan session, between which the tumour changes. */
void img_phantom_plan(struct img_phantom *, const uint32_t grid[3], uint64_t seed, uint64_t patient,
                      int visit);

/* Slice z: image (4,h,w) in the order flair, t1, t1gd, t2; label (h,w) in canonical numbers. */
void img_phantom_slice(const struct img_phantom *, uint32_t z, int16_t *image, uint8_t *label);

#endif
