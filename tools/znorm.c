/* znorm - scale each modality to mean 0 and standard deviation 1 over its non-zero voxels
 *
 * reads   image (any dtype); mean and std unless -p slice
 * changes image (to f32)
 * adds    norm */
#include "lib/image/znorm.h"
#include "tools/tool.h"

#include <string.h>

static const char usage[] = "[-Hv] [-p case|slice] < STREAM > STREAM";
static const char options[] = "-p --per=";

#define MAX_CHANNELS 64

static struct {
    bool by_slice;
} opt;

static void normalise(struct tns_record *rec)
{
    struct tensor *t = tool_need_image(rec, DT_COUNT), in = *t;
    uint32_t channels = in.dim[0];
    size_t plane = (size_t)in.dim[1] * in.dim[2];
    double mean[MAX_CHANNELS], std[MAX_CHANNELS];
    if (channels > MAX_CHANNELS)
        tool_die_at(rec, "tensor 'image': too many channels (wanted at most %d, got %u)",
                    MAX_CHANNELS, channels);
    if (opt.by_slice) {
        for (uint32_t c = 0; c < channels; c++)
            img_moments(&in, c * plane, plane, &mean[c], &std[c]);
    } else {
        tool_need_numbers(rec, "mean", (int)channels, mean);
        tool_need_numbers(rec, "std", (int)channels, std);
    }
    if (in.dtype != DT_F32)
        t = tool_add(rec, "image", DT_F32, 3, in.dim);
    for (uint32_t c = 0; c < channels; c++) {
        if (!(std[c] >= 0))
            tool_die_at(rec, "key 'std': (wanted no negative number, got %g)", std[c]);
        size_t i = img_znorm(&in, c * plane, plane, mean[c], std[c], (float *)t->data + c * plane);
        if (i < plane)
            tool_die_at(rec, "image: channel %u has no finite z-score at row %zu, column %zu", c,
                        i / in.dim[2], i % in.dim[2]);
    }
}

int main(int argc, char **argv)
{
    struct tns_record rec = {0};
    int c;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'p':
            if (strcmp(optarg, "case") && strcmp(optarg, "slice"))
                tool_misuse("-p: (wanted case or slice, got '%s')", optarg);
            opt.by_slice = *optarg == 's';
            break;
        }
    tool_no_operands();

    tool_open(opt.by_slice ? "-p slice" : "-p case");
    tool_uses("image");
    while (tool_read(&rec)) {
        const char *done = tns_get(&rec.meta, "norm");
        if (done)
            tool_die_at(&rec, "the image is normalised already (norm=%.40s)", done);
        normalise(&rec);
        tool_set(&rec, "norm", opt.by_slice ? "slice" : "case");
        tool_write(&rec);
    }
    tns_release(&rec);
    return tool_finish();
}
