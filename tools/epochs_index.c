/* The index of epochs: the records of its files, in the order of the files, each with its place and
 * the minority classes that it holds. */
#include "tools/epochs.h"

#include "formats/contract.h"
#include "formats/ledger.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A place is an offset, which is a multiple of 64, so that the lowest bits are free for classes. */
enum { BITS = 63 };

static struct tns_files *files;
static struct tns_reader *in;

static uint64_t *place;
static uint32_t count, room;
static uint64_t class_of[256]; /* a label's bit, or 0 */
static struct ledger met;
static bool nameless; /* some record is of no patient */

int classes;
uint32_t largest[2];

/* --- files ------------------------------------------------------------------------------------ */

void index_open(char **names, int n)
{
    files = tool_files(names, n,
                       ", and can be read once only; many shuffled epochs want the stream in a "
                       "file: write it to one first");
    if (!(in = tns_reader_files(files)))
        tool_die("out of memory");
}

const char *index_name(void)
{
    static char text[300];
    const uint32_t n = tns_files_count(files);
    snprintf(text, sizeof text, n > 1 ? "%.200s and %u more" : "%.200s", tns_files_name(files, 0),
             n - 1);
    return text;
}

void index_close(void)
{
    tns_reader_free(in);
    tns_files_free(files);
    free(place);
}

/* --- headers ---------------------------------------------------------------------------------- */

static void add_header(const struct tns_meta *from, const char *name, uint32_t its)
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
        tool_die("%s: record %u: a part of the data was prepared differently: %s; -F mixes them",
                 name, its, why);
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

/* So that train knows before it starts whom it will learn from, and how much that is. More names
 * than a value can hold, or names with commas, are left to it to find out. */
static void list_patients(void)
{
    char *list = ledger_patients(&met, ',');
    uint32_t commas = 0;
    if (!list)
        tool_die("out of memory");
    tns_unset(tool_header(), "patients"); /* of the first file alone */
    tns_unset(tool_header(), "scans");
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

static void set_digest(void)
{
    if (tns_setf(tool_header(), "digest", "%016" PRIx64, tns_digest(in)))
        tool_die("out of memory");
}

/* --- labels ----------------------------------------------------------------------------------- */

void index_labels(const char *text)
{
    for (const char *p = text; p;) {
        const int v = tool_label('T', text, &p);
        if (!class_of[v] && opt.by_class && classes == CLASSES)
            tool_misuse("-T: with -c (wanted at most %d labels, got '%s')", CLASSES, text);
        if (!class_of[v])
            class_of[v] = opt.by_class ? UINT64_C(1) << classes++ : 1;
    }
    classes = opt.by_class ? classes : 1;
}

/* The bits of the classes that the record at that offset holds. */
static uint64_t classes_at(uint64_t at, const char *name, uint32_t its)
{
    static struct tns_record rec;
    uint64_t bits = 0;
    if (tns_read_at(in, &rec, at, "label"))
        tool_die("%s", tns_why(in));
    struct tensor *t = tns_tensor(&rec, "label");
    if (!t || t->dtype != DT_U8)
        tool_die("%s: record %u: no tensor 'label' of bytes, into which -b looks unless it is 0",
                 name, its);
    const uint8_t *v = t->data;
    for (size_t i = 0, n = tensor_count(t); i < n; i++)
        bits |= class_of[v[i]];
    return bits;
}

/* --- records ---------------------------------------------------------------------------------- */

/* `its`: the record's number in its file. */
static void check_record(struct tns_record *rec, const char *name, uint32_t its)
{
    static struct contract_keys first;
    struct contract_keys keys;
    char why[256];
    if (tns_is_mark(rec) || tns_get(&rec->meta, "epoch"))
        tool_die("%s: record %u: came out of epochs already (wanted the stream before it)", name,
                 its);
    contract_keys(&rec->meta, &keys);
    if (!count)
        first = keys;
    if (!opt.force && contract_keys_differ(&first, &keys, why, sizeof why))
        tool_die("%s: record %u: prepared differently: %s; -F mixes them", name, its, why);
}

static void note_record(struct tns_record *rec, uint64_t at, const char *name, uint32_t its)
{
    struct tensor *t = tns_tensor(rec, "image");
    check_record(rec, name, its);
    if (t && t->rank == 3)
        for (int i = 0; i < 2; i++)
            if (t->dim[i + 1] > largest[i])
                largest[i] = t->dim[i + 1];
    const char *patient = tns_get(&rec->meta, "patient");
    nameless |= !patient;
    if (patient && ledger_add(&met, patient, tns_get(&rec->meta, "fingerprint")))
        tool_die("%s: out of memory, or more than %d scans (at record %u)", name, LEDGER_MAX, its);
    if (count == room) {
        if (room > UINT32_MAX / 2 ||
            !(place = realloc(place, (room = room ? room * 2 : 4096) * sizeof *place)))
            tool_die("%s: out of memory (at record %u)", name, its);
    }
    slabs_note(rec, count, name, its);
    place[count++] = at | (opt.share > 0 ? classes_at(at, name, its) : 0);
}

uint32_t index_make(void)
{
    struct tns_record rec = {0};
    uint64_t at;
    int e, segment = 0;
    do {
        const char *name;
        if ((e = tns_hop(in, &rec, &at)) < 0)
            tool_die("%s", tns_why(in));
        const uint32_t its = (uint32_t)tns_number_in_file(in, &name);
        for (; tns_segment(in) > segment; segment++)
            if (segment + 1 == tns_segment(in))
                add_header(tns_header(in), name, its);
        if (e)
            note_record(&rec, at, name, its);
    } while (e);
    tns_release(&rec);
    if (!count)
        tool_die("%s: holds no records", index_name());
    list_patients();
    set_digest();
    return count;
}

uint64_t index_bits(uint32_t record)
{
    return place[record] & BITS;
}

void index_forget(uint32_t record)
{
    place[record] &= ~(uint64_t)BITS;
}

/* Segments end and begin between records of a file, too: a little more than the record's own. */
void index_advise(uint32_t record)
{
    const uint64_t at = place[record] & ~(uint64_t)BITS, file = at >> TNS_FILE_SHIFT;
    const uint64_t start = at - (file << TNS_FILE_SHIFT);
    const uint64_t next = record + 1 < count ? place[record + 1] & ~(uint64_t)BITS : 0;
    tns_advise(in, at,
               next >> TNS_FILE_SHIFT == file && next > at ? next - at
                                                           : tns_size_at(in, at) - start);
}

void index_read(uint32_t record, struct tns_record *rec)
{
    if (tns_read_at(in, rec, place[record] & ~(uint64_t)BITS, NULL))
        tool_die("%s", tns_why(in));
}
