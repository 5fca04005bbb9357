/* Whom a run of train has met: its ledger, and the memory of that and of the texts made of it. */
#include "tools/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t ledger_room, save_room; /* that the plan has for the ledger, and for its texts */

size_t met_memory(struct run *run, const struct settings *set, const struct source *source,
                  const struct validation *val, const struct origin *origin)
{
    const struct ledger_size *had = &run->ledger.size, *come = &source->scans,
                             *from = &origin->ledger.size;
    struct ledger_size all = {come->scans + from->scans, come->prints + from->prints,
                              come->bytes + from->bytes};
    struct ledger_size more = {all.scans > had->scans ? all.scans - had->scans : 0,
                               all.prints > had->prints ? all.prints - had->prints : 0,
                               all.bytes > had->bytes ? all.bytes - had->bytes : 0};
    struct ledger_size sum = {had->scans + more.scans, had->prints + more.prints,
                              had->bytes + more.bytes};
    if (ledger_reserve(&run->ledger, &more))
        tool_die("out of memory");
    ledger_room = ledger_memory(&run->ledger);
    save_room = save_memory(set, source, val, run, &sum);
    size_t watched = val ? ledger_memory(&val->ledger) + 2 * val->header + val->pools : 0;
    return ledger_room + save_room + origin_memory(origin) + ledger_memory(&source->named) +
           3 * source->header + watched;
}

/* What a process tells of itself; behind it come its patients and scans. */
struct told {
    struct contract_spacing spacing;
    uint64_t missing;
    bool leaky;
    double seconds, waited, stream;
    size_t patients;
};

struct heard {
    struct run *run;
    int slow; /* who has waited least */
    double least, others, stream;
};

static void hear(void *ctx, int rank, const void *data, size_t bytes)
{
    struct heard *h = ctx;
    struct told t;
    const char *text = (const char *)data + sizeof t;
    (void)bytes;
    memcpy(&t, data, sizeof t);
    if (ledger_add_lines(&h->run->ledger, text, text + t.patients))
        tool_die("out of memory (or more than %d scans)", LEDGER_MAX);
    if (t.spacing.greatest[0] > 0) {
        contract_spacing_add(&h->run->spacing, t.spacing.least);
        contract_spacing_add(&h->run->spacing, t.spacing.greatest);
    }
    h->run->missing |= t.missing;
    h->run->leaky |= t.leaky;
    const double waited = t.seconds > 0 ? t.waited / t.seconds : 0;
    h->others = fmax(h->others, waited);
    if (waited < h->least) {
        h->least = waited;
        h->slow = rank;
        h->stream = t.seconds > 0 ? t.stream / t.seconds : 0;
    }
}

/* Of the time. */
#define SLOW 0.15

void met_join(struct run *run, double seconds, double stream)
{
    const double waited = share_waited();
    struct heard h = {run, 0, seconds > 0 ? waited / seconds : 0, 0, stream / fmax(seconds, 1e-9)};
    if (share.ranks == 1)
        return;
    h.others = h.least;
    char *patients = ledger_patients(&run->ledger, '\n'), *scans = ledger_scans(&run->ledger);
    if (!patients || !scans)
        tool_die("out of memory");
    const struct told t = {run->spacing, run->missing, run->leaky,          seconds,
                           waited,       stream,       strlen(patients) + 1};
    const size_t bytes = sizeof t + t.patients + strlen(scans) + 1;
    char *all = tool_alloc(bytes);
    memcpy(all, &t, sizeof t);
    memcpy(all + sizeof t, patients, t.patients);
    strcpy(all + sizeof t + t.patients, scans);
    share_to_first(all, bytes, hear, &h);
    free(all);
    free(patients);
    free(scans);
    if (!share.rank && seconds > 10 && h.others - h.least > SLOW)
        tool_warn("%s is slow: others wait for it %.0f %% of the time%s", share_name(h.slow),
                  100 * (h.others - h.least),
                  h.stream > h.others / 2 ? ", and it for its stream" : "");
}

void met_add(struct run *run, const struct batch *b, const struct ledger *validated)
{
    for (int i = 0; i < b->items; i++) {
        struct meeting m;
        if (ledger_add(&run->ledger, b->patient[i], b->prints[i]))
            tool_die("out of memory (or more than %d scans)", LEDGER_MAX);
        if (b->spacing[i][0] > 0)
            contract_spacing_add(&run->spacing, b->spacing[i]);
        run->missing |= b->missing[i];
        run->leaky |= ledger_meets(validated, b->patient[i], b->prints[i], &m);
    }
}

void met_check_room(const struct run *run, const struct settings *set, const struct source *source,
                    const struct validation *val, size_t peak, unsigned long long ceiling)
{
    static bool said;
    size_t ledger = ledger_memory(&run->ledger);
    if (ledger <= ledger_room || (said && !ceiling))
        return;
    size_t save = save_memory(set, source, val, run, &run->ledger.size);
    peak += ledger - ledger_room + (save > save_room ? save - save_room : 0);
    double least = ceil((double)peak / 1048576);
    if (ceiling && peak > ceiling)
        tool_die("more patients than planned for (%u scans so far); -M needs at least %.0f MiB",
                 run->ledger.scans.count, least);
    if (!said)
        tool_warn("more patients than planned for (%u scans so far): %.0f MiB",
                  run->ledger.scans.count, least);
    said = true;
}
