/* metric.h - how well a predicted segmentation agrees with the true one.
 *
 * Numbers in, numbers out: no input or output, no state. Everything is derived from two label
 * volumes (u8, canonical numbering: 0 background, 1 necrotic/non-enhancing core, 2 oedema, 3
 * enhancing, 4 resection cavity, and what else somebody numbers) and the grid they lie on. Volumes
 * are row-major (D,H,W); spacing is in mm along the same axes.
 *
 * The order of use: met_count() makes the table of a case; every overlap measure of every part
 * is read from that table. met_pair_make() cuts the two masks of one part out of the volumes;
 * met_hd95() and met_lesions() measure them. met_score() turns the raw values into scores under a
 * named convention, which decides what an empty mask is worth.
 *
 * Memory: a pair holds 2 bytes for each voxel of the bounding box of its two masks; met_hd95()
 * takes 6 more for each, and 8 for each border voxel, while it runs; met_lesions() as much again as
 * both for the box of one lesion with what is matched to it, and 16 for each run, a stretch of a
 * row (a checkerboard has one for every two voxels, a tumour one for tens). The product of dim is
 * below 2^31.
 *
 * Functions that allocate return 0, or MET_NOMEM; nothing else can fail. */
#ifndef METRIC_H
#define METRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MET_NOMEM (-1)
#define MET_CLASSES 16  /* labels that are told apart */
#define MET_CANONICAL 5 /* that the canonical numbering has: 4 is a cavity, of BraTS 2024 */

struct met_grid {
    size_t dim[3];     /* D, H, W; none is 0 */
    double spacing[3]; /* mm, all > 0 */
};

/* --- parts: what is scored -----------------------------------------------------------------------
 * A part is a set of labels, bit l for label l. Regions are those of BraTS: WT = {1,2,3}, TC =
 * {1,3}, ET = {3}; ET and label 3 are the same voxels under two names, since papers print
 * either. */
enum met_part {
    MET_BACKGROUND,
    MET_LABEL1,
    MET_LABEL2,
    MET_LABEL3,
    MET_WT = MET_CLASSES,
    MET_TC,
    MET_ET,
    MET_PARTS
};
struct met_part_info {
    const char *name; /* "0" .. "15", "WT", "TC", "ET" */
    unsigned labels;  /* bit set */
    bool lesions;     /* is scored lesion by lesion: the regions, and the cavity of BraTS 2024 */
};
extern const struct met_part_info met_parts[MET_PARTS];

/* --- overlap -------------------------------------------------------------------------------------
 * met_count adds n voxels to table[true][predicted]; returns 0, or 1 + the index of the first voxel
 * where one of the two is not below `classes` (what came before it has been counted). */
size_t met_count(const uint8_t *label, const uint8_t *pred, size_t n, int classes,
                 uint64_t table[MET_CLASSES][MET_CLASSES]);

struct met_counts {
    uint64_t tp, fp, fn, tn;
};
struct met_counts met_counts(const uint64_t table[MET_CLASSES][MET_CLASSES], unsigned labels);

/* Soft overlap. The channels of `prob` are labels, or regions: sets of labels, as a network with
 * sigmoid outputs has them. met_soft_begin says so (`labels` NULL: channel k is label k);
 * met_soft_count adds n pixels: p[true][channel] += probability, prob being (channels,n) with
 * `stride` elements between channels, label below MET_CLASSES. Sums are in double, in the order of
 * the calls. met_soft_dice is (2 sum(p o) + eps) / (sum p + sum o + eps), eps 1e-5, sums over all
 * pixels counted; p of a set of labels is the channel that is this set or, where there is none, the
 * sum of its labels' channels; NaN where one has no channel. met_dice_loss is 1 - the mean of the
 * soft Dice of the channels from `first` on: of four labels, from 0, the study's loss. */
#define MET_SMOOTH 1e-5
struct met_soft {
    int channels;
    unsigned labels[MET_CLASSES];
    double p[MET_CLASSES][MET_CLASSES]; /* [true][channel] */
    uint64_t n[MET_CLASSES];            /* pixels of each true label */
};
void met_soft_begin(struct met_soft *, int channels, const unsigned *labels);
void met_soft_count(struct met_soft *, const uint8_t *label, const float *prob, size_t stride,
                    size_t n);
double met_soft_dice(const struct met_soft *, unsigned labels);
double met_dice_loss(const struct met_soft *, int first);

/* --- masks ---------------------------------------------------------------------------------------
 * The two masks of a part, 0 or 1, on the bounding box of their union grown by `margin` voxels as
 * far as the volume reaches. With both masks empty grid.dim is 0 and the pointers are NULL. */
struct met_pair {
    struct met_grid grid;
    uint8_t *truth, *pred;
    size_t truth_count, pred_count;
};
int met_pair_make(struct met_pair *, const uint8_t *label, const uint8_t *pred,
                  const struct met_grid *, unsigned labels, size_t margin);
void met_pair_free(struct met_pair *);

/* Squared Euclidean distance, in mm, of each voxel's centre from the nearest voxel whose value v
 * has in[v] != 0; infinity where there is none. Exact: the lower envelope of parabolas, one axis at
 * a time (Felzenszwalb and Huttenlocher, "Distance Transforms of Sampled Functions", Theory of
 * Computing 8, 2012). Distances are held as float: integers below 2^24 are exact. */
int met_edt(const uint8_t *values, const uint8_t in[256], const struct met_grid *, float *squared);

/* Dilates a mask of 0 and 1 in place, `times` times, by the 18-neighbourhood; `work` has its
 * size. */
void met_dilate(uint8_t *mask, uint8_t *work, const size_t dim[3], int times);

/* --- the 95th percentile of the Hausdorff distance -----------------------------------------------
 * Three definitions are in use under the one name and differ by millimetres:
 *
 *  surface  The border runs through the corners of voxels (the points half-way between eight voxel
 *           centres, some in and some out of the mask). Each point weighs as much as the area, in
 *           mm2, of the surface that marching cubes lays through its eight neighbours. In each
 *           direction the smallest distance that covers 95 % of the area; the larger of the two.
 *           BraTS 2023, after the surface-distance library.
 *  pooled   Border voxels (in the mask, with a face neighbour outside it or outside the volume);
 *           distances of both directions in one list; the 95th percentile of that. medpy.
 *  border   Border voxels; the 95th percentile in each direction; the larger. MONAI.
 *
 * Percentiles of the latter two interpolate linearly between ranks, as numpy does. */
enum met_hd { MET_HD_NONE, MET_HD_SURFACE, MET_HD_POOLED, MET_HD_BORDER, MET_HDS };
extern const char *const met_hd_names[MET_HDS]; /* "none", "surface", "pooled", "border" */

/* Fills hd[d] for each definition d whose bit is set in `wanted`; NaN for the others, and for all
 * where a mask is empty. */
int met_hd95(const struct met_pair *, unsigned wanted, double hd[MET_HDS]);

/* Area, in mm2, of the surface among eight voxel centres, by which of them are inside (bit
 * 4z+2y+x). Sides are swapped without changing the area; how is told in surface.c. */
void met_surface_areas(const double spacing[3], double area[256]);

/* --- lesions, as BraTS 2023 scores them ----------------------------------------------------------
 * True voxels that are one 26-component after `dilate` dilations are one lesion; each 26-component
 * of the prediction that touches a lesion dilated so is matched to it (to several lesions, if it
 * touches several). Dice and HD95 (surface) compare a lesion with all components matched to it
 * together; a lesion with none has Dice 0 and HD95 `penalty`. Lesions of `volume` mm3 or less are
 * left out, not so the components matched to them: only a component matched to no lesion at all is
 * a false positive, whatever its size, and counts as a lesion with Dice 0 and HD95 `penalty`. With
 * nothing to average the Dice is 1 and the HD95 0. */
struct met_lesion_rule {
    const char *name; /* "gli", "ssa", "ped", "men", "met" */
    int dilate;
    double volume;
};
extern const struct met_lesion_rule met_lesion_rules[];          /* ends with a NULL name */
const struct met_lesion_rule *met_lesion_rule(const char *name); /* or NULL */
#define MET_PENALTY 374.0

struct met_lesions {
    double dice, hd95;
    int found, missed; /* true positives and false negatives: lesions kept, matched and not */
    int invented;      /* false positives: components unmatched */
};
/* The pair's margin must be `dilate` at least. */
int met_lesions(const struct met_pair *, const struct met_lesion_rule *, double penalty,
                struct met_lesions *);

/* --- conventions ---------------------------------------------------------------------------------
 * What a score is where a mask is empty; NaN: the case is left out of the mean. The table with the
 * source of each entry is in convention.c. */
struct met_convention {
    const char *name;
    double smooth; /* > 0: added above and below in Dice, whatever is empty */
    double dice_both, dice_truth, dice_pred; /* both empty; truth alone; prediction alone */
    double sens_both, sens_truth;            /* no true voxel: nor predicted; but predicted */
    double spec_none;                        /* no voxel outside the truth */
    enum met_hd hd;
    double hd_both, hd_one;
};
extern const struct met_convention met_conventions[];          /* ends with a NULL name */
const struct met_convention *met_convention(const char *name); /* or NULL */

struct met_score {
    double dice, hd95, sensitivity, specificity;
};
/* hd: from met_hd95, read only where neither mask is empty. */
struct met_score met_score(const struct met_convention *, const struct met_counts *,
                           const double hd[MET_HDS]);

/* --- a case --------------------------------------------------------------------------------------
 * Everything of one case: a row for each part, then the means over labels 1 to 3 and 0 to 3 (a NaN
 * is left out). What is not defined is NaN: distances and lesions of the background, lesions of the
 * single labels but the cavity (those of 3 has ET's row), the loss but in the last row, volumes in
 * the means, soft values without probabilities. */
enum { MET_MEAN_LABELS = MET_PARTS, MET_MEAN_ALL, MET_ROWS };
extern const char *const met_row_names[MET_ROWS];
#define MET_MAX_CONVENTIONS 8
struct met_row {
    struct met_score score[MET_MAX_CONVENTIONS];
    double truth_mm3, pred_mm3, soft_dice, dice_loss;
    double lesion_dice, lesion_hd95, found, missed, invented;
};
/* Labels and predictions are below MET_CLASSES; a label that is in neither has the row of two empty
 * masks. soft and lesions may be NULL; `conventions` are at most MET_MAX_CONVENTIONS. */
int met_case(const uint8_t *label, const uint8_t *pred, const struct met_grid *,
             const struct met_soft *soft, const struct met_convention *conventions, int n,
             const struct met_lesion_rule *lesions, struct met_row row[MET_ROWS]);

/* --- means ---------------------------------------------------------------------------------------
 * Mean and sample standard deviation (n - 1) of the values that are not NaN, by Welford's
 * recurrence. */
struct met_mean {
    uint64_t n;
    double mean, m2;
};
void met_mean_add(struct met_mean *, double);
double met_mean_value(const struct met_mean *);     /* NaN where n is 0 */
double met_mean_deviation(const struct met_mean *); /* NaN where n is below 2 */

#endif
