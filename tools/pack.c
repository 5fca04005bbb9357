/* pack - write the tensors of a stream in fewer bytes, or as they are
 *
 * reads   all tensors
 * changes nothing; with -r the f32 ones, to what halves can hold
 * adds    nothing, but with -r a line in the history */
#include "tools/tool.h"

#include <math.h>
#include <stddef.h>

static const char usage[] = "[-d | -l LEVEL] [-Hrv] < STREAM > STREAM";
static const char options[] = "-d --decode -l --level= -r --round";

enum { LEVEL = 3 };

static struct {
    bool unpack, round;
    long level;
} opt;

/* To the nearest half. What is finite stays so. */
static void round_values(struct tns_record *rec, struct tensor *t)
{
    float *v = t->data;
    for (size_t i = 0, n = tensor_count(t); i < n; i++) {
        const float half = f16_to_f32(f32_to_f16(v[i]));
        if (isinf(half) && isfinite(v[i]))
            tool_die_at(rec, "tensor '%s': too large for -r (wanted at most 65504 in size, got %g)",
                        t->name, (double)v[i]);
        v[i] = half;
    }
}

int main(int argc, char **argv)
{
    struct tns_record rec = {0};
    int c;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'd':
            opt.unpack = true;
            break;
        case 'l':
            opt.level = tool_int('l', optarg, 1, TNS_MAX_LEVEL);
            break;
        case 'r':
            opt.round = true;
            break;
        }
    tool_no_operands();
    if (opt.unpack && opt.level)
        tool_misuse("-l: goes without -d");
    if (!opt.level)
        opt.level = LEVEL;

    tool_open("%s", opt.round ? "-r" : "");
    if (!opt.round)
        tool_changes_nothing();
    tool_packs(opt.unpack ? 0 : (int)opt.level);
    while (tool_read(&rec)) {
        for (int i = 0; opt.round && i < rec.ntensors; i++)
            if (rec.tensor[i].dtype == DT_F32)
                round_values(&rec, &rec.tensor[i]);
        tool_write(&rec);
    }
    tns_release(&rec);
    return tool_finish();
}
