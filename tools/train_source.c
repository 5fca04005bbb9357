/* The stream of train: what its header and its first record say of it, and whether settings and
 * validation speak of the same. */
#include "tools/train.h"

#include "lib/image/beside.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool source_apart(const struct ledger *trained, const char *what, const struct validation *val,
                  bool leaky)
{
    char words[400];
    int n = ledger_shared(trained, what, &val->ledger, VALIDATED, words, sizeof words);
    if (n < 0)
        tool_die("out of memory");
    if (n > 1)
        snprintf(words + strlen(words), sizeof words - strlen(words), " (and %d more)", n - 1);
    if (n && !leaky)
        tool_die("%s; -L lets that pass, and the model says so", words);
    return n > 0;
}

/* How many scans will come: as the header says, or one of each patient that it names, or a
 * guess. */
static void read_scans(struct source *source, int modalities)
{
    enum { GUESS = 256, NAME = 64, PRINT = 17 };
    const char *text = tns_get(tool_header(), "scans");
    struct ledger_size *s = &source->scans, named = source->named.size;
    unsigned channels = (unsigned)modalities, n = named.scans ? named.scans : GUESS;
    size_t names = named.scans ? named.bytes : (size_t)GUESS * NAME;
    char end;
    *s = (struct ledger_size){n, n * channels, names + (size_t)n * channels * PRINT};
    if (text &&
        (sscanf(text, "%" SCNu32 " %" SCNu32 " %zu%c", &s->scans, &s->prints, &s->bytes, &end) !=
             3 ||
         s->scans > LEDGER_MAX || s->prints > s->bytes || s->bytes / TNS_MAX_HEADER > s->scans))
        tool_die("stdin: key 'scans': (wanted scans, fingerprints and bytes, got '%.60s')", text);
}

/* The header may name all patients to come; then a leak is known before anything is done. */
static void read_patients(struct source *source)
{
    const char *list = tns_get(tool_header(), "patients");
    char *copy = tool_copy(list ? list : "");
    for (char *p = copy; *p; p++)
        *p = *p == ',' ? '\n' : *p;
    if (ledger_add_lines(&source->named, copy, NULL))
        tool_die("out of memory");
    free(copy);
}

static char *history_text(const struct tns_meta *header)
{
    char key[TNS_MAX_KEY + 1], *text = tool_alloc(header->len + 2);
    const char *value;
    size_t n = 0;
    *text = 0;
    for (size_t pos = 0; tns_each(header, &pos, key, &value);)
        if (!strcmp(key, "history"))
            n += (size_t)sprintf(text + n, "%s%s", n ? "\n" : "", value);
    return text;
}

/* What an item of the stream is, and whether the network takes that. */
static void read_rows(struct source *source, struct tns_record *rec, const struct settings *set)
{
    const bool slab = tns_get(&rec->meta, "slab"), centre = tns_get(&rec->meta, "centre");
    source->rows = centre ? BESIDE : slab ? SLABS : SLICES;
    if (set->volume && source->rows != SLABS)
        tool_die("stdin: %s; %s sees volumes and wants slabs (epochs -d DEPTH)",
                 centre ? "slices with their neighbours" : "slices by themselves", set->called);
    if (set->neighbours && source->rows != BESIDE)
        tool_die("stdin: %s; neighbours: wants slices with those beside them (epochs -N %d)",
                 slab ? "slabs" : "slices by themselves", set->neighbours);
    if (!set->neighbours && source->rows == BESIDE)
        tool_die("stdin: slices with their neighbours (epochs -N); %s sees none (wanted the "
                 "setting neighbours)",
                 set->called);
}

/* What its items fit into. */
static void read_size(struct source *source, struct tns_record *rec, const struct settings *set)
{
    double largest[3] = {1};
    const int from = source->rows == SLICES ? 1 : 0;
    source->d = 1;
    source->h = set->size[0];
    source->w = set->size[1];
    if (source->h && from)
        return;
    tool_need_numbers(rec, "largest", 3 - from, largest + from);
    for (int i = from; i < 3; i++)
        if (!(largest[i] >= 1 && largest[i] <= NN_MAX_SIDE))
            tool_die_at(rec, "slices of %g by %g, %g in a row (wanted at most %d)", largest[1],
                        largest[2], largest[0], NN_MAX_SIDE);
    source->d = nn_padded((int)largest[0], set->multiple[0]);
    if (set->neighbours && source->d != img_beside_planes(set->neighbours))
        tool_die_at(rec, "other neighbours than the settings' (wanted epochs -N %d, got -N %d)",
                    set->neighbours, source->d / 2);
    if (source->h)
        return;
    source->h = nn_padded((int)largest[1], set->multiple[1]);
    source->w = nn_padded((int)largest[2], set->multiple[2]);
}

void source_read(struct source *source, struct tns_record *rec, const struct settings *set)
{
    source->modalities = tool_copy(tool_need_key(rec, "modalities"));
    source->scheme = tool_copy(tool_need_key(rec, "scheme"));
    source->history = history_text(tool_header());
    const char *digest = tns_get(tool_header(), "digest");
    source->digest = tool_copy(digest ? digest : "none");
    read_patients(source);
    read_scans(source, set->channels);
    source->header = tool_header()->len;
    contract_keys(&rec->meta, &source->keys);
    if (!tns_get(&rec->meta, "epoch"))
        tool_die_at(rec, "no key 'epoch' (wanted a stream of epochs(1))");
    source->epochs = tool_need_int(rec, "epochs", 1, 1000000);
    source->length = (uint64_t)tool_need_int(rec, "length", 1, UINT32_MAX);
    read_rows(source, rec, set);
    read_size(source, rec, set);
    int known = contract_steps(tool_header(), source->steps);
    if (known < 0)
        tool_die("stdin: history too long");
    source->steps_known = known;
    if (!known)
        tool_warn("stdin: no history; the model will not say how its data was prepared");
}

void source_agree(const struct source *source, const struct settings *set, const char *config,
                  const struct validation *val, bool force, bool leaky)
{
    char why[512];
    int order[NN_MAX_CIN];
    if (strcmp(source->scheme, "canonical") && !force)
        tool_die("stdin: labels are not recoded (wanted scheme=canonical, got scheme=%.60s); -F "
                 "trains on them",
                 source->scheme);
    int n =
        contract_order(source->modalities, source->modalities, order, NN_MAX_CIN, why, sizeof why);
    if (n < 0)
        tool_die("stdin: %s", why);
    if (n != set->channels)
        tool_die("%s: channels: the stream has %d modalities (wanted %d, got %.100s)", config, n,
                 set->channels, source->modalities);
    if (set->average > source->epochs)
        tool_die("%s: average: more passes than the stream has (wanted at most %ld, got %d)",
                 config, source->epochs, set->average);
    if (!val)
        return;
    source_apart(&source->named, TRAINED, val, leaky);
    if (strcmp(val->modalities, source->modalities))
        tool_die("%s: other modalities than the training stream (wanted %.100s, got %.100s)",
                 val->path, source->modalities, val->modalities);
    if (strcmp(val->scheme, source->scheme) && !force)
        tool_die("%s: another label scheme than the training stream (wanted %.60s, got %.60s)",
                 val->path, source->scheme, val->scheme);
    if (!force && (contract_keys_differ(&source->keys, &val->keys, why, sizeof why) ||
                   (source->steps_known && val->steps_known &&
                    contract_differs(source->steps, val->steps, why, sizeof why))))
        tool_die("%s: prepared differently from the training stream: %s; -F lets that pass",
                 val->path, why);
}
