/* epochs - shuffled passes over a stream in a file
 *
 * reads   image's shape; patient, norm, crop, cropped; label with -b; case with -w
 * changes nothing
 * adds    patients, scans and digest in the header; epoch, index, epochs, length, largest; repeat
 * where a record comes again; a mark after each epoch
 *
 * Records are cards: they are shuffled, an epoch takes so many from the top, and when the deck is
 * empty it is shuffled anew. Those of a minority class are a deck of their own in each epoch. */
#include "tools/epochs.h"

#include "formats/contract.h"
#include "formats/ledger.h"
#include "lib/base/rng.h"
#include "lib/image/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] = "[-FHpv] [-k RECORDS] [-l RECORDS] [-s SEED] [-S SITES] [-w WEIGHTS] "
                            "[-b SHARE [-c] [-B BATCH] [-T LABELS]] -n EPOCHS FILE > STREAM";

static struct {
    long epochs, batch, skip, length;
    unsigned long long seed;
    double share;
    bool force, by_class, by_patient;
    const char *labels, *weights, *sites;
} opt = {.batch = 8, .labels = "1,3"};

/* A record's place in the file; those are multiples of 64, so the lowest bits are free to say which
 * minority classes it holds: one of all labels, or with -c one of each. */
enum { CLASSES = 6, BITS = 63 };
static uint64_t *place;
static double *weight; /* of each record; NULL: all the same */
static uint32_t count, room, length;
static uint32_t largest[2];
static uint64_t class_of[256]; /* a label's bit, or 0 */
static int classes;
static uint32_t holders[CLASSES]; /* of each class: records that hold it */
static struct ledger met;
static bool nameless; /* some record is of no patient */

static void add_header(const struct tns_meta *from, const char *name)
{
    static char first[CONTRACT_MAX];
    static bool begun;
    char steps[CONTRACT_MAX], why[512], key[TNS_MAX_KEY + 1];
    const char *value;
    struct tns_meta *to = tool_header();
    if (contract_steps(from, steps) < 0)
        tool_die("%s: history too long", name);
    if (!begun)
        memcpy(first, steps, sizeof first);
    else if (!opt.force && contract_differs(first, steps, why, sizeof why))
        tool_die("%s: record %u: a part of the file was prepared differently: %s; -F mixes them",
                 name, count, why);
    for (size_t pos = 0; tns_each(from, &pos, key, &value);) {
        bool known = false;
        char k[TNS_MAX_KEY + 1];
        const char *v;
        if (!strcmp(key, "history")) {
            for (size_t p = 0; tns_each(to, &p, k, &v);)
                known |= !strcmp(k, key) && !strcmp(v, value);
            if (!known && tns_append(to, key, value))
                tool_die("%s: the header's metadata is too long", name);
        } else if (!begun && tns_set(to, key, value)) {
            tool_die("out of memory");
        }
    }
    begun = true;
}

/* The bits of the classes that the record at that place holds. */
static uint64_t classes_at(struct tns_reader *in, uint64_t at, const char *name)
{
    static struct tns_record rec;
    uint64_t bits = 0;
    if (tns_read_at(in, &rec, at))
        tool_die("%s: %s", name, tns_why(in));
    struct tensor *t = tns_tensor(&rec, "label");
    if (!t || t->dtype != DT_U8)
        tool_die("%s: record %u: no tensor 'label' of bytes, which -b looks into", name, count);
    const uint8_t *v = t->data;
    for (size_t i = 0, n = tensor_count(t); i < n; i++)
        bits |= class_of[v[i]];
    return bits;
}

static void note_record(struct tns_reader *in, struct tns_record *rec, uint64_t at,
                        const char *name)
{
    struct tensor *t = tns_tensor(rec, "image");
    if (tns_is_mark(rec) || tns_get(&rec->meta, "epoch"))
        tool_die("%s: record %u: came out of epochs already (wanted the stream before it)", name,
                 count);
    if (t && t->rank == 3)
        for (int i = 0; i < 2; i++)
            if (t->dim[i + 1] > largest[i])
                largest[i] = t->dim[i + 1];
    static struct contract_keys first;
    struct contract_keys keys;
    char why[256];
    contract_keys(&rec->meta, &keys);
    if (!count)
        first = keys;
    if (!opt.force && contract_keys_differ(&first, &keys, why, sizeof why))
        tool_die("%s: record %u: prepared differently: %s; -F mixes them", name, count, why);
    const char *patient = tns_get(&rec->meta, "patient");
    nameless |= !patient;
    if (patient && ledger_add(&met, patient, tns_get(&rec->meta, "fingerprint")))
        tool_die("%s: out of memory, or more than %d scans (at record %u)", name, LEDGER_MAX,
                 count);
    if (count == room) {
        if (room > UINT32_MAX / 2 ||
            !(place = realloc(place, (room = room ? room * 2 : 4096) * sizeof *place)))
            tool_die("%s: out of memory (at record %u)", name, count);
    }
    weights_note(&rec->meta, count, name);
    place[count++] = at | (opt.share > 0 ? classes_at(in, at, name) : 0);
}

static void make_index(struct tns_reader *in, const char *name)
{
    struct tns_record rec = {0};
    uint64_t at;
    int e, segment = 0;
    do {
        e = tns_hop(in, &rec, &at);
        if (e < 0)
            tool_die("%s: %s", name, tns_why(in));
        if (tns_segment(in) > segment)
            add_header(tns_header(in), name);
        segment = tns_segment(in);
        if (e)
            note_record(in, &rec, at, name);
    } while (e);
    tns_release(&rec);
    if (!count)
        tool_die("%s: holds no records", name);
}

/* What weighs nothing never comes. */
static void count_holders(const char *name)
{
    uint32_t any = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (weight && !(weight[i] > 0))
            place[i] &= ~(uint64_t)BITS;
        for (int c = 0; c < classes; c++) {
            holders[c] += place[i] >> c & 1;
            any |= holders[c];
        }
    }
    if (opt.share > 0 && !any)
        tool_die("%s: no record holds a label of %s", name, opt.labels);
}

/* So that train knows before it starts whom it will learn from, and how much that is. More names
 * than a value can hold, or names with commas, are left to it to find out. */
static void list_patients(void)
{
    char *list = ledger_patients(&met, ',');
    uint32_t commas = 0;
    if (!list)
        tool_die("out of memory");
    for (const char *p = list; *p; p++)
        commas += *p == ',';
    if (*list && commas == met.people.count - 1 && strlen(list) <= TNS_MAX_VALUE &&
        tns_set(tool_header(), "patients", list))
        tool_die("out of memory");
    free(list);
    if (!nameless && tns_setf(tool_header(), "scans", "%" PRIu32 " %" PRIu32 " %zu", met.size.scans,
                              met.size.prints, met.size.bytes))
        tool_die("out of memory");
    ledger_free(&met);
}

/* A deck of the records that hold a class, or of all: n cards, dealt for the first, the second, ...
 * time. By weight the same card may come twice in one deal. */
struct deck {
    const char *what;
    uint64_t epoch; /* whose deck it is, 0 if it lasts for all */
    int class;      /* -1: all records */
    uint32_t *card, n, next;
    uint64_t deals;
};

static struct deck new_deck(const char *what, uint64_t epoch, int class)
{
    struct deck d = {.what = what, .epoch = epoch, .class = class};
    d.n = d.next = class < 0 ? count : holders[class];
    d.card = tool_alloc(d.n * sizeof *d.card);
    return d;
}

/* The lasting deck is keyed by the deal as an epoch's own is by the epoch: where an epoch is one
 * deal, they are the same thing. */
static void deal(struct deck *d)
{
    static uint32_t *pool;
    struct rng r = rng_seed(opt.seed);
    rng_mix_text(&r, d->what);
    rng_mix(&r, d->class < 0 ? d->deals : d->epoch);
    rng_mix(&r, d->class < 0 ? 0 : d->deals);
    if (d->class > 0)
        rng_mix(&r, (uint64_t)d->class);
    if (weight && !pool)
        pool = tool_alloc(count * sizeof *pool);
    uint32_t *to = weight ? pool : d->card;
    for (uint32_t i = 0, k = 0; i < count; i++)
        if (d->class < 0 || place[i] >> d->class & 1)
            to[k++] = i;
    if (weight)
        rng_deal(&r, weight, pool, d->n, d->card, d->n);
    else
        rng_shuffle(&r, d->card, d->n);
    d->deals++;
    d->next = 0;
}

static uint32_t draw(struct deck *d)
{
    if (d->next == d->n)
        deal(d);
    return d->card[d->next++];
}

/* The records of one epoch, before a class is given its share. */
static void take_cards(struct deck *d, uint64_t epoch, uint32_t *order)
{
    uint64_t from = epoch * length;
    if (d->deals != from / count + 1 || d->next != from % count) {
        d->deals = from / count;
        deal(d);
        d->next = (uint32_t)(from % count);
    }
    for (uint32_t i = 0; i < length; i++)
        order[i] = draw(d);
}

/* Gives a share of each batch of train to the minority classes, in place of the last records: of
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
            have += !opt.by_class && place[order[end]] & BITS;
        uint32_t need = (uint32_t)ceil(opt.share * (end - start) - 1e-9);
        for (uint32_t i = end; i-- > start && have < need;)
            if (opt.by_class || !(place[order[i]] & BITS)) {
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
    if (largest[0])
        tool_set(rec, "largest", "%u %u", largest[0], largest[1]);
}

/* seen[i] counts how often the record has come in this epoch: what augment does to it hangs on
 * that. */
static void write_pass(struct tns_reader *in, long epoch, uint32_t from, const uint32_t *order,
                       uint32_t *seen, const char *name)
{
    struct tns_record rec = {0};
    memset(seen, 0, count * sizeof *seen);
    for (uint32_t i = 0; i < length; i++) {
        uint32_t repeat = seen[order[i]]++;
        if (i < from)
            continue;
        if (tns_read_at(in, &rec, place[order[i]] & ~(uint64_t)BITS))
            tool_die("%s: %s", name, tns_why(in));
        set_place(&rec, epoch, i);
        if (repeat)
            set_number(&rec, "repeat", repeat);
        tool_write(&rec);
    }
    tns_clear(&rec);
    tool_set(&rec, "mark", "epoch");
    set_place(&rec, epoch, length);
    tool_write(&rec);
    tns_release(&rec);
}

static void write_passes(struct tns_reader *in, const char *name)
{
    struct deck all = new_deck("epochs", 0, -1);
    uint32_t *order = tool_alloc(length * sizeof *order), *seen = tool_alloc(count * sizeof *seen);
    uint32_t from = (uint32_t)(opt.skip % length);
    for (long e = opt.skip / length; e < opt.epochs; e++, from = 0) {
        take_cards(&all, (uint64_t)e, order);
        if (opt.share > 0)
            enrich((uint64_t)e, order);
        write_pass(in, e, from, order, seen, name);
    }
    free(all.card);
    free(order);
    free(seen);
}

static void set_labels(const char *text)
{
    const char *p = text;
    do {
        char *end;
        errno = 0;
        long v = strtol(p, &end, 10);
        if (errno || end == p || v < 0 || v > 255 || (*end && *end != ','))
            tool_misuse("-T: (wanted labels such as 1,3, got '%s')", text);
        if (!class_of[v] && opt.by_class && classes == CLASSES)
            tool_misuse("-T: with -c (wanted at most %d labels, got '%s')", CLASSES, text);
        if (!class_of[v])
            class_of[v] = opt.by_class ? UINT64_C(1) << classes++ : 1;
        p = end + (*end == ',');
    } while (*p);
    classes = opt.by_class ? classes : 1;
}

static int open_file(const char *name)
{
    struct stat st;
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st))
        tool_die("%s: %s", name, strerror(errno));
    if (S_ISDIR(st.st_mode))
        tool_die("%s: is a directory", name);
    if (!S_ISREG(st.st_mode))
        tool_misuse("%s: is no regular file, and can be read once only; many shuffled epochs want "
                    "the stream in a file: write it to one first",
                    name);
    return fd;
}

int main(int argc, char **argv)
{
    int c;

    tool_start(argc, argv, usage);
    while ((c = tool_getopt("b:B:cFk:l:n:ps:S:T:w:")) != -1)
        switch (c) {
        case 'b':
            opt.share = tool_double('b', optarg, 0, 1);
            break;
        case 'B':
            opt.batch = tool_int('B', optarg, 1, 1 << 20);
            break;
        case 'c':
            opt.by_class = true;
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
    set_labels(opt.labels);
    if (!opt.epochs)
        tool_usage();
    if (opt.by_class && !(opt.share > 0))
        tool_misuse("-c: of the share that -b asks for");
    if (optind == argc)
        tool_misuse("no FILE: a pipe can be read once only; many shuffled epochs want the stream "
                    "in a file");
    if (optind + 1 < argc)
        tool_misuse("operand '%s': one FILE only (cat joins streams)", argv[optind + 1]);

    const char *name = argv[optind];
    tool_promise();
    int fd = open_file(name);
    weights_open(opt.weights, opt.sites, opt.by_patient);
    tool_confine();
    struct tns_reader *in = tns_reader_new(fd);
    if (!in)
        tool_die("out of memory");
    char batch[300] = "", of[32] = "", step[500];
    if (opt.share > 0)
        snprintf(batch, sizeof batch, " -b %g%s -B %ld -T %.200s", opt.share,
                 opt.by_class ? " -c" : "", opt.batch, opt.labels);
    if (opt.length)
        snprintf(of, sizeof of, " -l %ld", opt.length);
    snprintf(step, sizeof step, "-s %llu%s%s%s%s", opt.seed, of, weights_read(), batch,
             opt.force ? " -F" : "");
    tool_open_out("-n %ld %s", opt.epochs, step);
    tool_signs(step); /* a run may be given more passes than it had */
    make_index(in, name);
    weight = weights_make(count, name);
    count_holders(name);
    length = opt.length ? (uint32_t)opt.length : count;
    list_patients();
    if (tns_setf(tool_header(), "digest", "%016" PRIx64, tns_digest(in)))
        tool_die("out of memory");
    if ((uint64_t)opt.skip > (uint64_t)opt.epochs * length)
        tool_die("%s: -k %ld is past the end (%ld epochs of %u records)", name, opt.skip,
                 opt.epochs, length);

    write_passes(in, name);
    free(weight);
    free(place);
    tns_reader_free(in);
    close(fd);
    return tool_finish();
}
