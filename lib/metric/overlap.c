/* All that can be told from counts, without looking at a voxel twice: one table of label by
 * prediction. */
#include "lib/metric/metric.h"

#include <math.h>
#include <string.h>

#define LABEL(l) {#l, 1u << (l), (l) == 4}
const struct met_part_info met_parts[MET_PARTS] = {
    LABEL(0),
    LABEL(1),
    LABEL(2),
    LABEL(3),
    LABEL(4),
    LABEL(5),
    LABEL(6),
    LABEL(7),
    LABEL(8),
    LABEL(9),
    LABEL(10),
    LABEL(11),
    LABEL(12),
    LABEL(13),
    LABEL(14),
    LABEL(15),
    [MET_WT] = {"WT", 0xe, true},
    [MET_TC] = {"TC", 0xa, true},
    [MET_ET] = {"ET", 0x8, true},
};
#undef LABEL

size_t met_count(const uint8_t *label, const uint8_t *pred, size_t n, int classes,
                 uint64_t table[MET_CLASSES][MET_CLASSES])
{
    uint64_t both[MET_CLASSES * MET_CLASSES] = {0};
    size_t i, bad = 0;
    for (i = 0; i < n; i++) {
        uint64_t u, v;
        while (i + 8 <= n) { /* most of a volume is background on both sides */
            memcpy(&u, label + i, 8);
            memcpy(&v, pred + i, 8);
            if (u | v)
                break;
            both[0] += 8;
            i += 8;
        }
        if (i == n)
            break;
        if (label[i] >= classes || pred[i] >= classes) {
            bad = i + 1;
            break;
        }
        both[label[i] * MET_CLASSES + pred[i]]++;
    }
    for (i = 0; i < MET_CLASSES * MET_CLASSES; i++)
        table[i / MET_CLASSES][i % MET_CLASSES] += both[i];
    return bad;
}

struct met_counts met_counts(const uint64_t table[MET_CLASSES][MET_CLASSES], unsigned labels)
{
    struct met_counts c = {0};
    for (int t = 0; t < MET_CLASSES; t++)
        for (int p = 0; p < MET_CLASSES; p++) {
            int in_t = labels >> t & 1, in_p = labels >> p & 1;
            *(in_t ? in_p ? &c.tp : &c.fn : in_p ? &c.fp : &c.tn) += table[t][p];
        }
    return c;
}

void met_soft_begin(struct met_soft *s, int channels, const unsigned *labels)
{
    *s = (struct met_soft){.channels = channels};
    for (int c = 0; c < channels; c++)
        s->labels[c] = labels ? labels[c] : 1u << c;
}

void met_soft_count(struct met_soft *s, const uint8_t *label, const float *prob, size_t stride,
                    size_t n)
{
    for (size_t i = 0; i < n; i++)
        s->n[label[i]]++;
    for (int c = 0; c < s->channels; c++) {
        const float *p = prob + (size_t)c * stride;
        double sum[MET_CLASSES] = {0};
        for (size_t i = 0; i < n; i++)
            sum[label[i]] += p[i];
        for (int t = 0; t < MET_CLASSES; t++)
            s->p[t][c] += sum[t];
    }
}

/* The channels that make a set of labels together; 0 where none do. */
static unsigned channels_of(const struct met_soft *s, unsigned labels)
{
    unsigned channels = 0, left = labels;
    for (int c = 0; c < s->channels; c++)
        if (s->labels[c] == labels)
            return 1u << c;
    for (int c = 0; c < s->channels; c++)
        for (int l = 0; l < MET_CLASSES; l++)
            if (s->labels[c] == 1u << l && left >> l & 1) {
                channels |= 1u << c;
                left &= ~(1u << l);
            }
    return left ? 0 : channels;
}

double met_soft_dice(const struct met_soft *s, unsigned labels)
{
    const unsigned channels = channels_of(s, labels);
    double both = 0, p = 0, o = 0;
    if (!channels)
        return NAN;
    for (int t = 0; t < MET_CLASSES; t++) {
        o += labels >> t & 1 ? (double)s->n[t] : 0;
        for (int c = 0; c < s->channels; c++)
            if (channels >> c & 1) {
                p += s->p[t][c];
                both += labels >> t & 1 ? s->p[t][c] : 0;
            }
    }
    return (2 * both + MET_SMOOTH) / (p + o + MET_SMOOTH);
}

double met_dice_loss(const struct met_soft *s, int first)
{
    double sum = 0;
    for (int c = first; c < s->channels; c++)
        sum += met_soft_dice(s, s->labels[c]);
    return 1 - sum / (s->channels - first);
}

void met_mean_add(struct met_mean *m, double v)
{
    if (isnan(v))
        return;
    double d = v - m->mean;
    m->mean += d / (double)++m->n;
    m->m2 += d * (v - m->mean);
}

double met_mean_value(const struct met_mean *m)
{
    return m->n ? m->mean : NAN;
}

double met_mean_deviation(const struct met_mean *m)
{
    return m->n > 1 ? sqrt(m->m2 / (double)(m->n - 1)) : NAN;
}
