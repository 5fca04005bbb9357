/* epochs - shuffled passes over a stream in a file
 *
 * reads   image's shape; patient, norm, crop, cropped; label with -b
 * changes nothing
 * adds    patients, scans and digest in the header; epoch, index, epochs, length, largest; repeat
 * with -b; a mark after each epoch */
#include "formats/contract.h"
#include "formats/ledger.h"
#include "lib/base/rng.h"
#include "tools/tool.h"

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

static const char usage[] =
    "[-FHv] [-k RECORDS] [-s SEED] [-b SHARE [-B BATCH] [-T LABELS]] -n EPOCHS FILE > STREAM";

static struct {
    long epochs, batch, skip;
    unsigned long long seed;
    double share;
    bool force;
    const char *labels;
} opt = {.batch = 8, .labels = "1,3"};

/* A record's place in the file; those are multiples of 64, so the lowest bit is free to say that it
 * holds a minority class. */
static uint64_t *place;
static uint32_t count, rare, room;
static uint32_t largest[2];
static bool wanted[256];
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

static bool holds_rare(struct tns_reader *in, uint64_t at, const char *name)
{
    static struct tns_record rec;
    if (tns_read_at(in, &rec, at))
        tool_die("%s: %s", name, tns_why(in));
    struct tensor *t = tns_tensor(&rec, "label");
    if (!t || t->dtype != DT_U8)
        tool_die("%s: record %u: no tensor 'label' of bytes, which -b looks into", name, count);
    const uint8_t *v = t->data;
    for (size_t i = 0, n = tensor_count(t); i < n; i++)
        if (wanted[v[i]])
            return true;
    return false;
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
    bool is_rare = opt.share > 0 && holds_rare(in, at, name);
    rare += is_rare;
    place[count++] = at | is_rare;
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
    if (opt.share > 0 && !rare)
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

/* The order of one epoch. */
static void shuffle(const char *what, uint64_t epoch, uint64_t round, uint32_t *v, uint32_t n)
{
    struct rng r = rng_seed(opt.seed);
    rng_mix_text(&r, what);
    rng_mix(&r, epoch);
    rng_mix(&r, round);
    rng_shuffle(&r, v, n);
}

/* In each batch's worth that holds too few records of a minority class, the last of the others give
 * way to such records, each of which comes once before any comes again. repeat[i] counts how often
 * the record at i has been drawn that way. */
static void enrich(uint64_t epoch, uint32_t *order, uint32_t *repeat)
{
    uint32_t *deck = tool_alloc(rare * sizeof *deck), next = rare, rounds = 0;
    memset(repeat, 0, count * sizeof *repeat);
    for (uint32_t start = 0; start < count; start += (uint32_t)opt.batch) {
        uint32_t end = count - start < opt.batch ? count : start + (uint32_t)opt.batch, have = 0;
        uint32_t need = (uint32_t)ceil(opt.share * (end - start) - 1e-9);
        for (uint32_t i = start; i < end; i++)
            have += place[order[i]] & 1;
        for (uint32_t i = end; i-- > start && have < need;) {
            if (place[order[i]] & 1)
                continue;
            if (next == rare) {
                for (uint32_t j = 0, k = 0; j < count; j++)
                    if (place[j] & 1)
                        deck[k++] = j;
                shuffle("oversample", epoch, rounds++, deck, rare);
                next = 0;
            }
            order[i] = deck[next++];
            repeat[i] = rounds;
            have++;
        }
    }
    free(deck);
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
    set_number(rec, "length", count);
    if (largest[0])
        tool_set(rec, "largest", "%u %u", largest[0], largest[1]);
}

static void write_pass(struct tns_reader *in, long epoch, uint32_t from, uint32_t *order,
                       uint32_t *repeat, const char *name)
{
    struct tns_record rec = {0};
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    shuffle("epochs", (uint64_t)epoch, 0, order, count);
    if (opt.share > 0)
        enrich((uint64_t)epoch, order, repeat);
    for (uint32_t i = from; i < count; i++) {
        if (tns_read_at(in, &rec, place[order[i]] & ~UINT64_C(1)))
            tool_die("%s: %s", name, tns_why(in));
        set_place(&rec, epoch, i);
        if (opt.share > 0 && repeat[i])
            set_number(&rec, "repeat", repeat[i]);
        tool_write(&rec);
    }
    tns_clear(&rec);
    tool_set(&rec, "mark", "epoch");
    set_place(&rec, epoch, count);
    tool_write(&rec);
    tns_release(&rec);
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
        wanted[v] = true;
        p = end + (*end == ',');
    } while (*p);
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
    while ((c = tool_getopt("b:B:Fk:n:s:T:")) != -1)
        switch (c) {
        case 'b':
            opt.share = tool_double('b', optarg, 0, 1);
            break;
        case 'B':
            opt.batch = tool_int('B', optarg, 1, 1 << 20);
            break;
        case 'F':
            opt.force = true;
            break;
        case 'k':
            opt.skip = tool_int('k', optarg, 0, LONG_MAX);
            break;
        case 'n':
            opt.epochs = tool_int('n', optarg, 1, 1000000);
            break;
        case 's':
            opt.seed = (unsigned long long)tool_int('s', optarg, 0, LONG_MAX);
            break;
        case 'T':
            opt.labels = optarg;
            break;
        }
    set_labels(opt.labels);
    if (!opt.epochs)
        tool_usage();
    if (optind == argc)
        tool_misuse("no FILE: a pipe can be read once only; many shuffled epochs want the stream "
                    "in a file");
    if (optind + 1 < argc)
        tool_misuse("operand '%s': one FILE only (cat joins streams)", argv[optind + 1]);

    const char *name = argv[optind];
    tool_promise();
    int fd = open_file(name);
    struct tns_reader *in = tns_reader_new(fd);
    if (!in)
        tool_die("out of memory");
    char batch[300] = "", step[400];
    if (opt.share > 0)
        snprintf(batch, sizeof batch, " -b %g -B %ld -T %.200s", opt.share, opt.batch, opt.labels);
    snprintf(step, sizeof step, "-s %llu%s%s", opt.seed, batch, opt.force ? " -F" : "");
    tool_open_out("-n %ld %s", opt.epochs, step);
    tool_signs(step); /* a run may be given more passes than it had */
    make_index(in, name);
    list_patients();
    if (tns_setf(tool_header(), "digest", "%016" PRIx64, tns_digest(in)))
        tool_die("out of memory");
    if ((uint64_t)opt.skip > (uint64_t)opt.epochs * count)
        tool_die("%s: -k %ld is past the end (%ld epochs of %u records)", name, opt.skip,
                 opt.epochs, count);

    uint32_t *order = tool_alloc(count * sizeof *order);
    uint32_t *repeat = opt.share > 0 ? tool_alloc(count * sizeof *repeat) : NULL;
    uint32_t from = (uint32_t)(opt.skip % count);
    for (long e = opt.skip / count; e < opt.epochs; e++, from = 0)
        write_pass(in, e, from, order, repeat, name);
    free(order);
    free(repeat);
    free(place);
    tns_reader_free(in);
    close(fd);
    return tool_finish();
}
