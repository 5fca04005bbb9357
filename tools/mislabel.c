/* mislabel - give each case another patient's labels: the control that shows what a leak alone can
 * earn
 *
 * reads   label (u8); case, slice; patient, fingerprint, if present
 * changes label, tumour
 * adds    labels_of (the case that they came from) */
#include <stdlib.h>
#include <string.h>

#include "formats/ledger.h"
#include "lib/base/rng.h"
#include "tools/tool.h"

static const char usage[] = "[-Hv] [-s SEED] FILE > STREAM";
static const char options[] = "-s --seed=";

struct place { /* one record of the file: 24 bytes, the tool's only memory that grows */
    uint64_t offset;
    uint32_t who;
    long slice;
};

static struct {
    struct names cases;
    uint32_t *patient; /* of each, a number in people.people */
    uint32_t *partner;
    struct place *record;
    size_t records;
} all;

static struct ledger people;

static void *grow(void *p, size_t n, size_t size)
{
    if ((n & (n - 1)) == 0 && !(p = realloc(p, (n ? 2 * n : 1) * size)))
        tool_die("out of memory (wanted %zu bytes)", 2 * n * size);
    return p;
}

static uint32_t number_of(const char *name, const char *patient, const char *prints)
{
    struct meeting m;
    uint32_t known = all.cases.count, i = tool_add_name(&all.cases, name);
    if (i < known)
        return i;
    if (ledger_add(&people, patient, prints))
        tool_die("out of memory");
    for (int at = 0; ledger_next(&people, patient, prints, &at, &m);)
        ledger_join(&people, patient, m.patient);
    all.patient = grow(all.patient, i, sizeof *all.patient);
    all.patient[i] = names_find(&people.people, patient);
    return i;
}

static void index_file(struct tns_reader *r, struct tns_record *rec, const char *file)
{
    uint64_t offset;
    int e;
    while ((e = tns_hop(r, rec, &offset)) == 1) {
        long slice;
        const char *name = tns_get(&rec->meta, "case"), *who = tns_get(&rec->meta, "patient");
        if (!name || !tns_get_int(&rec->meta, "slice", 0, 1000000, &slice) ||
            !tns_tensor(rec, "label"))
            tool_die("%s: record %llu: (wanted the keys 'case' and 'slice' and a tensor 'label')",
                     file, (unsigned long long)tns_number_in_file(r, &file));
        all.record = grow(all.record, all.records, sizeof *all.record);
        all.record[all.records++] = (struct place){
            offset, number_of(name, who ? who : name, tns_get(&rec->meta, "fingerprint")), slice};
    }
    if (e < 0)
        tool_die("%s", tns_why(r));
}

static const char *who_is(uint32_t i)
{
    return ledger_one(&people, names_text(&people.people, all.patient[i]));
}

static int by_patient(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int e = strcmp(who_is(x), who_is(y));
    return e ? e : strcmp(names_text(&all.cases, x), names_text(&all.cases, y));
}

/* A cycle through the shuffled patients, so that nobody keeps their own labels. It depends on the
 * names and the seed, not on the order of the file. */
static void pair(uint64_t seed, const char *file)
{
    uint32_t *order = tool_alloc(all.cases.count * sizeof *order), n = 0;
    uint32_t *first =
        tool_alloc((all.cases.count + 1) * sizeof *first); /* of each patient, in order */
    uint32_t *cycle = tool_alloc(all.cases.count * sizeof *cycle);
    all.partner = tool_alloc(all.cases.count * sizeof *all.partner);
    for (uint32_t i = 0; i < all.cases.count; i++)
        order[i] = i;
    qsort(order, all.cases.count, sizeof *order, by_patient);
    for (uint32_t i = 0; i < all.cases.count; i++)
        if (!i || strcmp(who_is(order[i - 1]), who_is(order[i]))) {
            cycle[n] = n;
            first[n++] = i;
        }
    first[n] = all.cases.count;
    if (n == 1)
        tool_die("%s: only one patient (wanted two or more to exchange labels)", file);
    struct rng r = rng_seed(seed);
    rng_mix_text(&r, "mislabel");
    rng_shuffle(&r, cycle, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t to = cycle[i], from = cycle[(i + 1) % n], cases = first[from + 1] - first[from];
        for (uint32_t j = first[to]; j < first[to + 1]; j++)
            all.partner[order[j]] = order[first[from] + (j - first[to]) % cases];
    }
    free(order), free(first), free(cycle);
}

static int by_who(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return x->who != y->who ? (x->who > y->who) - (x->who < y->who)
                            : (x->slice > y->slice) - (x->slice < y->slice);
}

static const struct place *find(const struct place *sorted, uint32_t who, long slice)
{
    struct place key = {0, who, slice};
    return bsearch(&key, sorted, all.records, sizeof key, by_who);
}

/* The label of the partner's slice of the same index; background where it has none. */
static void relabel(struct tns_record *rec, struct tns_reader *other, struct tns_record *from,
                    const struct place *donor)
{
    struct tensor *t = tool_need(rec, "label", DT_U8, 2), *d = NULL;
    if (donor) {
        if (tns_read_at(other, from, donor->offset, "label"))
            tool_die("%s", tns_why(other));
        d = tool_need(from, "label", DT_U8, 2);
        if (d->dim[0] != t->dim[0] || d->dim[1] != t->dim[1])
            tool_die_at(rec, "slices differ in size from those of %s (wanted %ux%u, got %ux%u)",
                        tns_get(&from->meta, "case"), t->dim[0], t->dim[1], d->dim[0], d->dim[1]);
        memcpy(t->data, d->data, tensor_bytes(t));
    } else {
        memset(t->data, 0, tensor_bytes(t));
    }
    if (!tns_get(&rec->meta, "tumour"))
        return;
    const char *tumour = donor ? tns_get(&from->meta, "tumour") : "0";
    if (tumour)
        tool_set(rec, "tumour", "%s", tumour);
    else
        tns_unset(&rec->meta, "tumour");
}

int main(int argc, char **argv)
{
    struct tns_record rec = {0}, from = {0};
    uint64_t seed = 1;
    int c;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        if (c == 's')
            seed = (uint64_t)tool_int('s', optarg, 0, 2147483647);
    if (optind + 1 != argc)
        tool_usage();

    const char *file = argv[optind];
    tool_promise();
    struct tns_files *files =
        tool_files(argv + optind, 1, " (wanted a file: labels are taken from all over it)");
    tool_confine();
    struct tns_reader *r = tns_reader_files(files);
    if (!r)
        tool_die("out of memory");
    index_file(r, &from, file);
    if (all.cases.count)
        pair(seed, file);
    struct place *sorted = tool_alloc(all.records * sizeof *sorted);
    if (all.records) {
        memcpy(sorted, all.record, all.records * sizeof *sorted);
        qsort(sorted, all.records, sizeof *sorted, by_who);
    }

    tool_open_files(files);
    tool_open("-s %llu", (unsigned long long)seed);
    tool_uses("label");
    for (size_t i = 0; tool_read(&rec); i++) {
        uint32_t partner = all.partner[all.record[i].who];
        relabel(&rec, r, &from, find(sorted, partner, all.record[i].slice));
        tool_set(&rec, "labels_of", "%s", names_text(&all.cases, partner));
        tool_write(&rec);
    }

    names_free(&all.cases);
    free(all.patient);
    ledger_free(&people);
    free(all.partner);
    free(all.record);
    free(sorted);
    tns_reader_free(r);
    tns_release(&rec);
    tns_release(&from);
    return tool_finish();
}
