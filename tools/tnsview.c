/* tnsview - print, count and verify a stream
 *
 * reads   any stream
 * writes  text; no stream */
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lib/image/load.h"
#include "tools/tool.h"

static const char usage[] = "[-t] [-n COUNT] < STREAM > TEXT\n"
                            "       tnsview -k KEY[,KEY]... [-J] [-n COUNT] < STREAM > TSV\n"
                            "       tnsview -c < STREAM";
static const char options[] = "-c --check -J --json -k --keys= -n --count= -t --statistics";

#define MAX_KEYS 64
#define MAX_VALUES 16 /* of a histogram */

static struct {
    bool check, json, stats;
    long count; /* -1: all */
    int nkeys;
    char *key[MAX_KEYS];
} opt = {.count = -1};

static void split_keys(char *text)
{
    for (char *k = strtok(text, ","); k; k = strtok(NULL, ",")) {
        if (opt.nkeys == MAX_KEYS)
            tool_misuse("-k: wanted at most %d keys", MAX_KEYS);
        opt.key[opt.nkeys++] = k;
    }
    if (!opt.nkeys)
        tool_misuse("-k: wanted a list of keys");
}

/* A value may come from anywhere: nothing in it moves the cursor of a terminal or starts a new
 * field. */
static void put_text(const char *s)
{
    for (const unsigned char *p = (const unsigned char *)s; *p; p++)
        if (*p == '\t')
            fputs("\\t", stdout);
        else if (*p == '\\' && opt.nkeys)
            fputs("\\\\", stdout);
        else if (*p < ' ' || *p == 0x7f)
            printf("\\x%02x", *p);
        else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) /* U+0080 to U+009F */
            printf("\\x%02x\\x%02x", p[0], p[1]), p++;
        else
            putchar(*p);
}

static void put_meta(const struct tns_meta *m)
{
    char key[TNS_MAX_KEY + 1];
    const char *value;
    for (size_t pos = 0; tns_each(m, &pos, key, &value);) {
        printf("  %s=", key);
        put_text(value);
        putchar('\n');
    }
}

static void put_fields(const struct tns_record *rec)
{
    for (int i = 0; i < opt.nkeys; i++) {
        const char *v = tns_get(&rec->meta, opt.key[i]);
        tool_put_cell(opt.key[i], !i, opt.json);
        if (!opt.json)
            put_text(v ? v : "");
        else if (v)
            tool_put_text(v, true);
        else
            fputs("null", stdout);
    }
    tool_put_row_end(opt.json);
}

/* Counts of the values of n elements, in rising order; how many values, or -1 if too many. */
static int histogram(const struct tensor *t, double value[MAX_VALUES], uint64_t count[MAX_VALUES])
{
    double v[IMG_CHUNK];
    size_t n = tensor_count(t);
    int used = 0;
    for (size_t i = 0; i < n; i += IMG_CHUNK) {
        size_t m = n - i < IMG_CHUNK ? n - i : IMG_CHUNK;
        img_load(t, i, m, v);
        for (size_t k = 0; k < m; k++) {
            int at = 0;
            while (at < used && value[at] < v[k])
                at++;
            if (at == used || value[at] != v[k]) {
                if (used == MAX_VALUES)
                    return -1;
                memmove(value + at + 1, value + at, (size_t)(used - at) * sizeof *value);
                memmove(count + at + 1, count + at, (size_t)(used - at) * sizeof *count);
                value[at] = v[k];
                count[at] = 0;
                used++;
            }
            count[at]++;
        }
    }
    return used;
}

static void put_stats(const struct tensor *t, size_t first, size_t n)
{
    double v[IMG_CHUNK], min = INFINITY, max = -INFINITY, sum = 0, squares = 0;
    uint64_t nonzero = 0, nan = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < n; i += IMG_CHUNK) {
            size_t m = n - i < IMG_CHUNK ? n - i : IMG_CHUNK;
            double mean = pass ? sum / (double)(n - nan) : 0;
            img_load(t, first + i, m, v);
            for (size_t k = 0; k < m; k++) {
                if (v[k] != v[k]) {
                    nan += !pass;
                } else if (pass) {
                    squares += (v[k] - mean) * (v[k] - mean);
                } else {
                    min = v[k] < min ? v[k] : min;
                    max = v[k] > max ? v[k] : max;
                    sum += v[k];
                    nonzero += v[k] != 0;
                }
            }
        }
    if (nan < n) {
        double many = (double)(n - nan);
        printf(" min %.6g max %.6g mean %.6g std %.6g", min, max, sum / many, sqrt(squares / many));
    }
    printf(" nonzero %" PRIu64, nonzero);
    if (nan)
        printf(" nan %" PRIu64, nan);
}

static void put_tensor(const struct tensor *t)
{
    printf("  %s: %s ", t->name, dtype_name(t->dtype));
    for (int i = 0; i < t->rank; i++)
        printf(i ? "x%" PRIu32 : "%" PRIu32, t->dim[i]);
    if (!t->rank)
        fputs("scalar", stdout);
    if (!opt.stats) {
        putchar('\n');
        return;
    }
    size_t planes = t->rank == 3 ? t->dim[0] : 1, plane = tensor_count(t) / planes;
    for (size_t c = 0; c < planes; c++) {
        if (planes > 1)
            printf("\n    [%zu]", c);
        put_stats(t, c * plane, plane);
    }
    double value[MAX_VALUES];
    uint64_t count[MAX_VALUES];
    bool whole = t->dtype == DT_U8 || t->dtype == DT_I16 || t->dtype == DT_I32;
    int used = whole && t->rank == 2 ? histogram(t, value, count) : -1;
    for (int i = 0; i < used; i++)
        printf(i ? " %g:%" PRIu64 : "\n    values %g:%" PRIu64, value[i], count[i]);
    putchar('\n');
}

static void put_header(void)
{
    printf("segment %d\n", tool_segment());
    put_meta(tool_header());
}

int main(int argc, char **argv)
{
    struct tns_record rec = {0};
    uint64_t n = 0;
    int c, segment = 0;
    bool ended = true;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'c':
            opt.check = true;
            break;
        case 'J':
            opt.json = true;
            break;
        case 'k':
            split_keys(optarg);
            break;
        case 'n':
            opt.count = tool_int('n', optarg, 0, LONG_MAX);
            break;
        case 't':
            opt.stats = true;
            break;
        }
    tool_no_operands();
    if (opt.check + opt.stats + (opt.nkeys > 0) > 1 || (opt.check && opt.count >= 0))
        tool_misuse("wanted one of -c, -k and -t, and no -n beside -c");
    if (opt.json && !opt.nkeys)
        tool_misuse("-J: goes with -k alone");

    tool_open_in();
    tool_header();
    for (;; n++) {
        if (opt.count >= 0 && n == (uint64_t)opt.count) {
            ended = false;
            break;
        }
        if (!(opt.check || opt.stats ? tool_read(&rec) : tool_hop(&rec)))
            break;
        if (opt.check)
            continue;
        if (opt.nkeys) {
            put_fields(&rec);
            continue;
        }
        if (segment < tool_segment())
            put_header();
        segment = tool_segment();
        printf("record %" PRIu64 "\n", n);
        put_meta(&rec.meta);
        for (int i = 0; i < rec.ntensors; i++)
            put_tensor(&rec.tensor[i]);
    }
    if (!opt.nkeys && !opt.check && segment < tool_segment())
        put_header();
    if (opt.nkeys)
        tool_put_rows_end(opt.json);
    else
        printf("%s%" PRIu64 " record%s in %d segment%s%s\n", opt.check ? "sound: " : "", n,
               tool_s(n), tool_segment(), tool_s((unsigned)tool_segment()), ended ? "" : " seen");
    tns_release(&rec);
    return tool_finish();
}
