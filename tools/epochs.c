/* epochs - shuffled passes over streams in files
 *
 * reads   image's shape; patient, norm, crop, cropped; label with -b; case and slice with -w, -d
 *         and -N
 * changes nothing
 * adds    patients, scans and digest in the header; epoch, index, epochs, length, largest; repeat
 *         where a record comes again; slab and depth with -d and -N, centre with -N; a mark after
 *         each epoch
 *
 * What is drawn, an item, is a slice or a row of them. Items are cards: they are shuffled, an epoch
 * takes so many from the top, and when the deck is empty it is shuffled anew. Those of a minority
 * class are a deck of their own in each epoch. */
#include "tools/epochs.h"

#include "lib/base/rng.h"
#include "lib/image/batch.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "[-FHpv] [-d DEPTH | -N NEIGHBOURS] [-k ITEMS] [-l ITEMS] [-r RANK/RANKS] "
    "[-s SEED] [-S SITES] [-w WEIGHTS] [-b SHARE [-c] [-B BATCH] [-T LABELS]] "
    "-n EPOCHS FILE... > STREAM";
static const char options[] =
    "-b --balance= -B --batch= -c --classes -d --depth= -F --force -k --skip= "
    "-l --length= -n --epochs= -N --neighbours= -p --patients -r --rank= -s --seed= "
    "-S --sites= -T --labels= -w --weights=";

struct options opt = {.batch = 8, .ranks = 1, .labels = "1,2,3", .share = 0.75, .by_class = true};

enum { MOST_DEPTH = 1024 };

static bool asked;     /* for a share, by -b */
static double *weight; /* of each item; NULL: all the same */
static uint32_t records, items, length;
static uint32_t holders[CLASSES]; /* of each class: records that hold it */

/* The classes that an item holds which begins there. */
static uint64_t holds(uint32_t from)
{
    const struct span p = opt.neighbours ? (struct span){from, 1} : slabs_span(from);
    uint64_t bits = 0;
    for (uint32_t i = 0; i < p.n; i++)
        bits |= index_bits(p.from + i);
    return bits;
}

/* What weighs nothing never comes. */
static void forget_weightless(void)
{
    uint32_t *from = tool_alloc(items * sizeof *from);
    struct rng any = rng_seed(0);
    if (opt.depth)
        slabs_cut(&any, from);
    for (uint32_t i = 0; i < items; i++) {
        const uint32_t at = opt.depth ? from[i] : i;
        const struct span p = opt.depth ? slabs_span(at) : (struct span){at, 1};
        for (uint32_t k = 0; k < p.n && !(weight[i] > 0); k++)
            index_forget(p.from + k);
    }
    free(from);
}

static void count_holders(void)
{
    uint32_t any = 0;
    if (weight)
        forget_weightless();
    for (uint32_t i = 0; i < records; i++)
        for (int c = 0; c < classes; c++) {
            holders[c] += index_bits(i) >> c & 1;
            any |= holders[c];
        }
    if (opt.share > 0 && !any)
        tool_die("%s: no record holds a label of %s, which %s", index_name(), opt.labels,
                 asked ? "-b wants" : "three of four are to hold (-b 0 takes them as they come)");
}

/* A deck of the items that hold a class, or of all: n cards, dealt for the first, the second, ...
 * time, each the record at which an item begins. By weight the same may come twice in one deal. */
struct deck {
    const char *what;
    uint64_t epoch; /* whose deck it is, 0 if it lasts for all */
    int class;      /* -1: all items */
    uint32_t *card, n, next;
    uint64_t deals;
};

static struct deck new_deck(const char *what, uint64_t epoch, int class)
{
    struct deck d = {.what = what, .epoch = epoch, .class = class};
    const uint32_t most = class < 0 || opt.depth ? items : holders[class];
    d.card = tool_alloc(most * sizeof *d.card);
    return d;
}

static uint32_t *pool_of(uint32_t **pool)
{
    return *pool ? *pool : (*pool = tool_alloc(items * sizeof **pool));
}

/* The lasting deck is keyed by the deal as an epoch's own is by the epoch: where an epoch is one
 * deal, they are the same thing. */
static void deal(struct deck *d)
{
    static uint32_t *weighed, *cut;
    struct rng r = rng_seed(opt.seed);
    rng_mix_text(&r, d->what);
    rng_mix(&r, d->class < 0 ? d->deals : d->epoch);
    rng_mix(&r, d->class < 0 ? 0 : d->deals);
    if (d->class > 0)
        rng_mix(&r, (uint64_t)d->class);
    uint32_t *to = weight ? pool_of(&weighed) : d->card;
    const uint32_t *from = opt.depth ? pool_of(&cut) : NULL;
    if (from)
        slabs_cut(&r, cut);
    d->n = 0;
    for (uint32_t i = 0; i < items; i++)
        if (d->class < 0 || holds(from ? from[i] : i) >> d->class & 1)
            to[d->n++] = i;
    if (weight)
        rng_deal(&r, weight, weighed, d->n, d->card, d->n);
    else
        rng_shuffle(&r, d->card, d->n);
    for (uint32_t i = 0; from && i < d->n; i++)
        d->card[i] = from[d->card[i]];
    d->deals++;
    d->next = 0;
}

static uint32_t draw(struct deck *d)
{
    if (d->next == d->n)
        deal(d);
    return d->card[d->next++];
}

/* The items of one epoch, before a class is given its share. */
static void take_cards(struct deck *d, uint64_t epoch, uint32_t *order)
{
    uint64_t from = epoch * length;
    if (d->deals != from / items + 1 || d->next != from % items) {
        d->deals = from / items;
        deal(d);
        d->next = (uint32_t)(from % items);
    }
    for (uint32_t i = 0; i < length; i++)
        order[i] = draw(d);
}

/* Gives a share of each batch of train to the minority classes, in place of the last items: of
 * those that hold none, where too few hold one; with -c of any, to the classes in turn. */
static void enrich(uint64_t epoch, uint32_t *order)
{
    struct deck deck[CLASSES];
    int decks = 0;
    for (int c = 0; c < classes; c++)
        if (holders[c])
            deck[decks++] = new_deck("oversample", epoch, c);
    uint64_t most = (uint64_t)opt.batch, turn = epoch;
    for (uint32_t start = 0, end; start < length; start = end) {
        uint64_t batch = img_batch_of(start, length, most);
        uint32_t have = 0;
        for (end = start; end < length && img_batch_of(end, length, most) == batch; end++)
            have += !opt.by_class && holds(order[end]);
        uint32_t need = (uint32_t)ceil(opt.share * (end - start) - 1e-9);
        for (uint32_t i = end; i-- > start && have < need;)
            if (opt.by_class || !holds(order[i])) {
                order[i] = draw(&deck[turn++ % (uint64_t)decks]);
                have++;
            }
    }
    for (int c = 0; c < decks; c++)
        free(deck[c].card);
}

static void set_number(struct tns_record *rec, const char *key, uint64_t v)
{
    tool_set(rec, key, "%llu", (unsigned long long)v);
}

static void set_place(struct tns_record *rec, long epoch, uint32_t index)
{
    set_number(rec, "epoch", (uint64_t)epoch);
    set_number(rec, "index", index);
    set_number(rec, "epochs", (uint64_t)opt.epochs);
    set_number(rec, "length", length);
    if (largest[0] && slabs_depth())
        tool_set(rec, "largest", "%u %u %u", slabs_depth(), largest[0], largest[1]);
    else if (largest[0])
        tool_set(rec, "largest", "%u %u", largest[0], largest[1]);
}

/* Whether an item of an epoch is for the process that this is for: it has a part of each batch. */
static bool is_ours(uint32_t i)
{
    return img_batch_part_of(i, length, (uint64_t)opt.batch, (uint64_t)opt.ranks) ==
           (uint64_t)opt.rank;
}

/* Slices that the disk may bring while others are written. */
enum { AHEAD = 64 };

static uint32_t advise(const uint32_t *order, uint32_t from, uint32_t i)
{
    for (; from < length && from < i + AHEAD; from++) {
        const struct span p = slabs_span(order[from]);
        for (uint32_t k = 0; k < p.n && is_ours(from); k++)
            index_advise(p.from + k);
    }
    return from;
}

/* seen[i] counts how often the item that begins there has come in this epoch: what augment does to
 * it hangs on that. */
static void write_pass(long epoch, uint32_t first, const uint32_t *order, uint32_t *seen)
{
    struct tns_record rec = {0};
    uint32_t ahead = first;
    memset(seen, 0, records * sizeof *seen);
    for (uint32_t i = 0; i < length; i++) {
        const uint32_t repeat = seen[order[i]]++;
        const struct span p = slabs_span(order[i]);
        if (i >= first)
            ahead = advise(order, ahead, i);
        for (uint32_t k = 0; k < p.n && i >= first && is_ours(i); k++) {
            index_read(p.from + k, &rec);
            set_place(&rec, epoch, i);
            slabs_tell(&rec, order[i]);
            if (repeat)
                set_number(&rec, "repeat", repeat);
            tool_write(&rec);
        }
    }
    tns_clear(&rec);
    tool_set(&rec, "mark", "epoch");
    set_place(&rec, epoch, length);
    tool_write(&rec);
    tns_release(&rec);
}

static void write_passes(void)
{
    struct deck all = new_deck("epochs", 0, -1);
    uint32_t *order = tool_alloc(length * sizeof *order);
    uint32_t *seen = tool_alloc(records * sizeof *seen);
    uint32_t first = (uint32_t)(opt.skip % length);
    for (long e = opt.skip / length; e < opt.epochs; e++, first = 0) {
        take_cards(&all, (uint64_t)e, order);
        if (opt.share > 0)
            enrich((uint64_t)e, order);
        write_pass(e, first, order, seen);
    }
    free(all.card);
    free(order);
    free(seen);
}

/* All that changes what comes, in one spelling. */
static const char *describe(void)
{
    static char step[600];
    char batch[300] = "", of[32] = "", rows[32] = "";
    if (opt.share > 0)
        snprintf(batch, sizeof batch, " -b %g%s -B %ld -T %.200s", opt.share,
                 opt.by_class ? " -c" : "", opt.batch, opt.labels);
    if (opt.length)
        snprintf(of, sizeof of, " -l %ld", opt.length);
    if (opt.depth)
        snprintf(rows, sizeof rows, " -d %ld", opt.depth);
    if (opt.neighbours)
        snprintf(rows, sizeof rows, " -N %ld", opt.neighbours);
    snprintf(step, sizeof step, "-s %llu%s%s%s%s%s", opt.seed, rows, of, weights_read(), batch,
             opt.force ? " -F" : "");
    return step;
}

/* RANK/RANKS; or `mpi`, as mpirun or srun says, and alone where none of them has started it. */
static void read_rank(const char *text)
{
    static const char *const says[][2] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                          {"PMI_RANK", "PMI_SIZE"},
                                          {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}};
    char both[64] = "0/1", end;
    for (int i = 2; i >= 0; i--) {
        const char *rank = getenv(says[i][0]), *ranks = getenv(says[i][1]);
        if (rank && ranks)
            snprintf(both, sizeof both, "%.20s/%.20s", rank, ranks);
    }
    if (sscanf(strcmp(text, "mpi") ? text : both, "%ld/%ld%c", &opt.rank, &opt.ranks, &end) != 2 ||
        opt.rank < 0 || opt.rank >= opt.ranks)
        tool_misuse("-r: (wanted RANK/RANKS such as 0/2, or mpi, got '%s')",
                    strcmp(text, "mpi") ? text : both);
}

int main(int argc, char **argv)
{
    int c;
    bool by_class = false;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt(options)) != -1)
        switch (c) {
        case 'b':
            opt.share = tool_double('b', optarg, 0, 1);
            asked = true;
            break;
        case 'B':
            opt.batch = tool_int('B', optarg, 1, 1 << 20);
            break;
        case 'c':
            by_class = true;
            break;
        case 'd':
            opt.depth = tool_int('d', optarg, 1, MOST_DEPTH);
            break;
        case 'F':
            opt.force = true;
            break;
        case 'k':
            opt.skip = tool_int('k', optarg, 0, LONG_MAX);
            break;
        case 'l':
            opt.length = tool_int('l', optarg, 1, INT32_MAX);
            break;
        case 'n':
            opt.epochs = tool_int('n', optarg, 1, 1000000);
            break;
        case 'N':
            opt.neighbours = tool_int('N', optarg, 1, MOST_DEPTH / 2);
            break;
        case 'r':
            read_rank(optarg);
            break;
        case 's':
            opt.seed = (unsigned long long)tool_int('s', optarg, 0, LONG_MAX);
            break;
        case 'p':
            opt.by_patient = true;
            break;
        case 'S':
            opt.sites = optarg;
            break;
        case 'T':
            opt.labels = optarg;
            break;
        case 'w':
            opt.weights = optarg;
            break;
        }
    if (asked)
        opt.by_class = by_class;
    index_labels(opt.labels);
    if (!opt.epochs)
        tool_usage();
    if (by_class && !(opt.share > 0))
        tool_misuse("-c: of the share that -b asks for");
    if (opt.depth && opt.neighbours)
        tool_misuse("both -d and -N (wanted one of them)");
    if (optind == argc)
        tool_misuse("no FILE: a pipe can be read once only; many shuffled epochs want the stream "
                    "in a file");

    tool_promise();
    index_open(argv + optind, argc - optind);
    weights_open(opt.weights, opt.sites, opt.by_patient);
    tool_confine();
    const char *step = describe();
    tool_open_out("-n %ld %s", opt.epochs, step);
    tool_signs(step); /* a run may be given more passes than it had */
    records = index_make();
    items = slabs_count();
    weight = weights_make(items, index_name());
    count_holders();
    length = opt.length ? (uint32_t)opt.length : items;
    if ((uint64_t)opt.skip > (uint64_t)opt.epochs * length)
        tool_die("%s: -k %ld is past the end (%ld epochs of %u %s)", index_name(), opt.skip,
                 opt.epochs, length, opt.depth ? "slabs" : "records");

    write_passes();
    free(weight);
    slabs_free();
    index_close();
    return tool_finish();
}
