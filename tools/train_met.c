/* Whom a run of train has met: its ledger, and the memory of that and of the texts made of it. */
#include "tools/train.h"

#include <math.h>

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
