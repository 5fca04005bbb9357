/* Conventions are data: what each makes of empty masks stands in a table. */
#include "lib/metric/metric.h"

#include <math.h>
#include <string.h>

/* Sources.
 * brats2023: BraTS-2023-Metrics, metrics.py: Dice 1 and HD95 0 with both masks empty, an infinite
 * HD95 replaced by 374; sensitivity TP / (TP + FN + tiny), 1 with both empty; specificity alike.
 * brats2020: the ranking of the 2020 and 2021 platform as its users give it: Dice 1 and 0, HD95 0
 * and 373.1287, the diagonal of 240x240x155 mm, always beside medpy's HD95. The platform's own code
 * is not public; sensitivity and specificity are taken as in 2023. nnunet: nnU-Net v2,
 * evaluate_predictions.py: Dice NaN, left out by nanmean, where TP + FP + FN is 0; no HD95;
 * sensitivity and specificity, which it does not print, as plain quotients, NaN where 0 / 0. monai:
 * DiceMetric and ConfusionMatrixMetric as they come (ignore_empty true): NaN without a true voxel,
 * so that what was invented there is not seen; HausdorffDistanceMetric(percentile=95): NaN with an
 * empty mask (numpy's percentile of infinities). study: the study's soft Dice on hard masks: (2 TP
 * + eps) / (2 TP + FP + FN + eps), hence 1 with both empty and about 0 with one; it reports no
 * HD95, sensitivity or specificity: quotients, NaN where 0 / 0. */
const struct met_convention met_conventions[] = {
    /* name   smooth      dice: both truth pred   sens: both truth   spec   hd, both, one */
    {"brats2023", 0, 1, 0, 0, 1, 0, 0, MET_HD_SURFACE, 0, MET_PENALTY},
    {"brats2020", 0, 1, 0, 0, 1, 0, 0, MET_HD_POOLED, 0, 373.1287},
    {"nnunet", 0, NAN, 0, 0, NAN, NAN, NAN, MET_HD_NONE, NAN, NAN},
    {"monai", 0, NAN, NAN, 0, NAN, NAN, NAN, MET_HD_BORDER, NAN, NAN},
    {"study", MET_SMOOTH, NAN, NAN, NAN, NAN, NAN, NAN, MET_HD_NONE, NAN, NAN},
    {NULL, 0, 0, 0, 0, 0, 0, 0, MET_HD_NONE, 0, 0},
};

const struct met_convention *met_convention(const char *name)
{
    for (const struct met_convention *c = met_conventions; c->name; c++)
        if (!strcmp(c->name, name))
            return c;
    return NULL;
}

struct met_score met_score(const struct met_convention *c, const struct met_counts *n,
                           const double hd[MET_HDS])
{
    double tp = (double)n->tp, fp = (double)n->fp, fn = (double)n->fn, tn = (double)n->tn;
    int no_truth = tp + fn == 0, no_pred = tp + fp == 0, both = no_truth && no_pred;
    struct met_score s;

    if (c->smooth > 0)
        s.dice = (2 * tp + c->smooth) / (2 * tp + fp + fn + c->smooth);
    else if (no_truth || no_pred)
        s.dice = both ? c->dice_both : no_truth ? c->dice_truth : c->dice_pred;
    else
        s.dice = 2 * tp / (2 * tp + fp + fn);
    s.sensitivity = no_truth ? no_pred ? c->sens_both : c->sens_truth : tp / (tp + fn);
    s.specificity = tn + fp > 0 ? tn / (tn + fp) : c->spec_none;
    s.hd95 = c->hd == MET_HD_NONE  ? NAN
             : both                ? c->hd_both
             : no_truth || no_pred ? c->hd_one
                                   : hd[c->hd];
    return s;
}
