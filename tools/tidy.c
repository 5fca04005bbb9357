/* tidy - change predictions by what is known of tumours: their size, and that they have no holes
 *
 * reads   pred (u8, canonical); case, slice, slices, spacing, scheme; crop, if present;
 *         with -c also label, and patient and trained, if present
 * changes pred
 * writes  with -c a table, and no stream
 *
 * A case is known when its last slice has come; until then its records wait in a file. */
#include "tools/tidy.h"
#include "formats/lines.h"
#include "formats/plain.h"
#include "lib/base/number.h"
#include "tools/tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "[-HilLv] [-w MM3] [-t MM3] [-e MM3] [-E MM3] [-n 6|18|26] < STREAM > STREAM\n"
    "       tidy [-Hv] -f CHOSEN < STREAM > STREAM\n"
    "       tidy -c [-JLv] [-n 6|18|26] [-s SEED] < STREAM > CHOSEN";
static const char options[] =
    "-c --choose -e --enhancing= -E --little= -f --rules= -i --holes -J --json -l --largest "
    "-L --leaky -n --neighbours= -s --seed= -t --core= -w --whole=";

const struct tidy_rule tidy_rules[MET_RULES] = {
    [MET_WHOLE] = {'w', 0, "whole"},   [MET_LARGEST] = {'l', 1, "largest"},
    [MET_CORE] = {'t', 0, "core"},     [MET_ENHANCING] = {'e', 0, "enhancing"},
    [MET_LITTLE] = {'E', 0, "little"}, [MET_HOLES] = {'i', 1, "holes"}};

static struct {
    bool choose, json, trained_too, any;
    const char *file;
    uint64_t seed;
    struct met_tidy tidy;
} opt = {.seed = 1, .tidy.neighbours = 26};

static struct tool_case unit;
static bool unit_trained;

static struct names finished;
static uint64_t changed[MET_RULES];
static size_t cases, changed_cases, trained_cases;

/* --- the records of a case wait --------------------------------------------------------------- */

static void write_lifted(struct tns_record *rec)
{
    struct tensor *pred = tool_need(rec, "pred", DT_U8, 2);
    struct tool_place p = tool_place(rec, pred);
    tool_lift(&p, unit.pred + p.slice * p.H * p.W, pred->data);
    tool_write(rec);
}

/* --- one case --------------------------------------------------------------------------------- */

static void finish(void)
{
    uint64_t before = 0, after = 0;
    if (!unit.name)
        return;
    cases++;
    if (!opt.choose) {
        for (int r = 0; r < MET_RULES; r++)
            before += changed[r];
        if (met_tidy(unit.pred, &unit.grid, &opt.tidy, changed))
            tool_die("out of memory (case %s)", unit.name);
        for (int r = 0; r < MET_RULES; r++)
            after += changed[r];
        changed_cases += after > before;
        tool_spool_each("pred", write_lifted);
    } else if (unit_trained && !opt.trained_too) {
        trained_cases++;
    } else {
        tidy_hold(unit.patient, &unit.grid, unit.label, unit.pred);
    }
    tool_case_end(&unit);
    unit_trained = false;
}

static void add(struct tns_record *rec)
{
    const struct tensor *label = opt.choose ? tool_need(rec, "label", DT_U8, 2) : NULL,
                        *pred = tool_need(rec, "pred", DT_U8, 2);
    const char *name = tool_need_key(rec, "case"), *trained = tns_get(&rec->meta, "trained");
    tool_canonical(rec);
    tool_values(rec, pred, MET_CANONICAL);
    struct tool_place p = tool_place(rec, pred);
    struct met_grid g = {{p.slices, p.H, p.W}, {p.spacing[0], p.spacing[1], p.spacing[2]}};
    if (unit.name && strcmp(unit.name, name))
        finish();
    if (!unit.name)
        tool_case_begin(&unit, rec, &g, &finished, opt.choose);
    tool_case_slice(&unit, rec, &g, p.slice);
    tool_paste(&p, pred->data, unit.pred + p.slice * p.H * p.W);
    if (!opt.choose) {
        tool_spool(rec);
        return;
    }
    if (label->dim[0] != pred->dim[0] || label->dim[1] != pred->dim[1])
        tool_die_at(rec, "pred: not the label's shape (wanted %ux%u, got %ux%u)", label->dim[0],
                    label->dim[1], pred->dim[0], pred->dim[1]);
    tool_values(rec, label, MET_CANONICAL);
    tool_paste(&p, label->data, unit.label + p.slice * p.H * p.W);
    unit_trained |= trained && !strcmp(trained, "yes");
}

/* --- what is asked for ------------------------------------------------------------------------ */

void tidy_describe(const struct met_tidy *t, char out[TIDY_OPTIONS])
{
    char number[TNS_NUMBER];
    size_t n = 0;
    *out = 0;
    for (int r = 0; r < MET_RULES; r++)
        if (t->rule[r] > 0)
            n += (size_t)snprintf(out + n, TIDY_OPTIONS - n, "%s-%c%s%s", n ? " " : "",
                                  tidy_rules[r].letter, tidy_rules[r].always > 0 ? "" : " ",
                                  tidy_rules[r].always > 0 ? "" : tns_number(t->rule[r], number));
    if (n && t->neighbours != 26)
        snprintf(out + n, TIDY_OPTIONS - n, " -n %d", t->neighbours);
}

static bool set_neighbours(struct met_tidy *t, const char *text)
{
    t->neighbours = atoi(text);
    return !strcmp(text, "6") || !strcmp(text, "18") || !strcmp(text, "26");
}

/* An option and its argument, which may be NULL; how many words it took, 0 if it is none. */
static int read_option(struct met_tidy *t, const char *option, const char *argument)
{
    char *end;
    if (!strcmp(option, "-n"))
        return argument && set_neighbours(t, argument) ? 2 : 0;
    for (int r = 0; r < MET_RULES; r++) {
        if (option[0] != '-' || option[1] != tidy_rules[r].letter || option[2])
            continue;
        if ((t->rule[r] = tidy_rules[r].always) > 0)
            return 1;
        return argument && number_read(argument, &end, &t->rule[r]) && !*end && t->rule[r] > 0 &&
                       t->rule[r] <= TIDY_MOST_MM3
                   ? 2
                   : 0;
    }
    return 0;
}

static int read_options(struct met_tidy *t, struct lines *l, char *text)
{
    char *word[2 * MET_RULES + 3] = {0}, *save = NULL;
    int n = 0, took;
    if (!strcmp(text, "-"))
        return 0;
    for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
        if (n < 2 * MET_RULES + 2)
            word[n++] = w;
    for (int i = 0; i < n; i += took)
        if (!(took = read_option(t, word[i], word[i + 1])))
            return lines_fail(l, "no option of a rule (got '%.40s%s%.40s')", word[i],
                              word[i + 1] ? " " : "", word[i + 1] ? word[i + 1] : "");
    return 0;
}

/* The table that tidy -c wrote: the row `chosen` is what counts. */
static void read_chosen(const char *path)
{
    struct lines l = {.name = path};
    bool found = false;
    char *field[32];
    int e;
    if (!(l.file = plain_open(path, l.why, sizeof l.why)))
        tool_die("%s", l.why);
    tool_promise();
    tool_confine();
    while ((e = lines_next(&l)) == 1) {
        int n = lines_split(&l, "\t", 0, field, 32);
        if (strcmp(field[0], "chosen"))
            continue;
        if (found || n < 3 || n > 32)
            e = lines_fail(&l, found ? "a second row 'chosen'" : "wanted chosen, -, options");
        else
            e = read_options(&opt.tidy, &l, field[2]);
        if (e < 0)
            break;
        found = true;
    }
    if (e == 0 && !found)
        e = lines_fail(&l, "no row 'chosen' (wanted what tidy -c wrote)");
    if (e < 0)
        tool_die("%s", l.why);
    fclose(l.file);
}

static void set_rule(int letter)
{
    for (int r = 0; r < MET_RULES; r++)
        if (tidy_rules[r].letter == letter) {
            opt.any = true;
            opt.tidy.rule[r] = tidy_rules[r].always > 0
                                   ? tidy_rules[r].always
                                   : tool_double((char)letter, optarg, 0, TIDY_MOST_MM3);
        }
}

/* --- flow ------------------------------------------------------------------------------------- */

static void filter(void)
{
    tool_spool_cases("pred", add, finish);
    for (int r = 0; r < MET_RULES; r++)
        if (opt.tidy.rule[r] > 0)
            tool_note("-%c changed %llu voxels", tidy_rules[r].letter,
                      (unsigned long long)changed[r]);
    tool_note("%zu of %zu cases changed", changed_cases, cases);
}

static void choose(void)
{
    struct tns_record rec = {0};
    tool_uses("label pred");
    while (tool_read(&rec))
        if (!tns_is_mark(&rec))
            add(&rec);
    finish();
    if (trained_cases)
        tool_warn("left out: %zu of %zu cases, of patients that the model was trained on (-L "
                  "counts them)",
                  trained_cases, cases);
    if (trained_cases == cases)
        tool_die("stdin: no case to choose by");
    tidy_choose(opt.tidy.neighbours, opt.seed, opt.json);
    tns_release(&rec);
}

int main(int argc, char **argv)
{
    char text[TIDY_OPTIONS];
    bool seed = false, neighbours = false;
    int c;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'c':
            opt.choose = true;
            break;
        case 'f':
            opt.file = optarg;
            break;
        case 'J':
            opt.json = true;
            break;
        case 'L':
            opt.trained_too = true;
            break;
        case 'n':
            neighbours = true;
            if (!set_neighbours(&opt.tidy, optarg))
                tool_misuse("-n: (wanted 6, 18 or 26, got '%s')", optarg);
            break;
        case 's':
            seed = true;
            opt.seed = (uint64_t)tool_int('s', optarg, 0, 2147483647);
            break;
        default:
            set_rule(c);
        }
    tool_no_operands();
    if (opt.any + opt.choose + !!opt.file != 1)
        tool_misuse("wanted rules (-w -l -t -e -E -i), or -f, or -c, and one of the three");
    if (opt.file && neighbours)
        tool_misuse("-n: the file that -f names says it");
    if (!opt.choose && (seed || opt.trained_too || opt.json))
        tool_misuse("-%c: goes with -c alone", seed ? 's' : opt.json ? 'J' : 'L');

    if (opt.choose) {
        tool_open_in();
        choose();
        names_free(&finished);
        return tool_finish();
    }
    tool_promise();
    tool_spool_open();
    if (opt.file)
        read_chosen(opt.file);
    tidy_describe(&opt.tidy, text);
    tool_open("%s", text);
    filter();
    names_free(&finished);
    return tool_finish();
}
