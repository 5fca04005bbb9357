/* infer_check.c - whether a stream is what the models learned from, and whom they know. */
#include "tools/infer.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char
    doubt[512]; /* of the segment: "" or what may be different, which is said of each case */

#define FILLS 0.95 /* of each side of a slice; brains in their field of view take up to 0.8 */

void check_segment(const struct tns_meta *header)
{
    char steps[CONTRACT_MAX], why[512];
    int known = contract_steps(header, steps);
    *doubt = 0;
    if (known < 0)
        tool_die("stdin: history too long");
    if (opt.force)
        return;
    const struct model *model = &member->model;
    if (!model->steps)
        tool_die("%s: does not say how its data was prepared; -F lets that pass", member->path);
    if (!known)
        tool_die("stdin: no history, so nobody can tell how it was prepared; -F lets that pass");
    if (contract_differs(model->steps, steps, why, sizeof why))
        tool_die("stdin: prepared differently from what the model learned from: %s; -F lets that "
                 "pass",
                 why);
    contract_doubts(model->steps, steps, doubt, sizeof doubt);
}

/* What is true of a whole case is said once of it; of so many, and no more. */
static bool first_time(struct names *said, const char *text)
{
    uint32_t known = said->count;
    if (names_find(said, text) != NAMES_NONE || names_memory(said) > SAID / 2)
        return false;
    tool_add_name(said, text);
    if (names_memory(said) > SAID / 2)
        tool_warn("... and so on; this is not said again after %u times", known + 1);
    return true;
}

/* Was a model trained on this patient, maybe under another name? Who was found out by one scan is
 * known by all that come after it. */
static void check_trained(struct tns_record *rec)
{
    const char *patient = tool_need_key(rec, "patient"), *prints = tool_fingerprint(rec);
    struct meeting m;
    bool met = ledger_meets(&trained, patient, prints, &m);
    bool renamed = met && strcmp(m.patient, patient);
    tool_set(rec, "trained", met ? "yes" : "no");
    tns_unset(&rec->meta, "trained_as");
    if (met && ledger_tie(&trained, patient, prints, m.patient))
        tool_die("out of memory");
    if (!renamed)
        return;
    tool_set(rec, "trained_as", "%s", m.patient);
    static struct names said;
    char words[400];
    if (first_time(&said, patient)) {
        ledger_words(patient, "the stream", &m, "the model's training", words, sizeof words);
        tool_warn("%s", words);
    }
}

/* A brain ends before the slice does; a head with its skull, in the noise around it, does not. */
static void check_brain(struct tns_record *rec)
{
    static struct names said;
    const struct tensor *t = tns_tensor(rec, "image");
    double box[4], crop[6];
    if (!tns_get_numbers(&rec->meta, "brain", 4, box))
        return;
    if (!tns_get_numbers(&rec->meta, "crop", 6, crop))
        crop[4] = t->dim[1], crop[5] = t->dim[2];
    if (box[2] >= FILLS * crop[4] && box[3] >= FILLS * crop[5] &&
        first_time(&said, key_or(rec, "case")))
        tool_warn_at(rec,
                     "what is not zero fills the slice (%gx%g of %gx%g), as a head with its skull "
                     "does, or a background that is not zero",
                     box[2], box[3], crop[4], crop[5]);
}

/* How the record says that its image was prepared, whatever the history shows. */
static void check_keys(struct tns_record *rec)
{
    char why[256];
    struct contract_keys got;
    contract_keys(&rec->meta, &got);
    if (!opt.force && contract_keys_differ(&member->model.keys, &got, why, sizeof why))
        tool_die_at(rec,
                    "prepared differently from what the model learned from: %s; -F lets that pass",
                    why);
}

static void check_spacing(struct tns_record *rec)
{
    static struct names said;
    double spacing[3];
    if (!tns_get_numbers(&rec->meta, "spacing", 3, spacing))
        return;
    for (int i = 0; i < members; i++)
        if (member[i].model.spacing && !contract_spacing_near(&member[i].model.learned, spacing) &&
            first_time(&said, key_or(rec, "case")))
            tool_warn_at(rec, "spacing %.60s is not what the model learned from (%.120s)",
                         tns_get(&rec->meta, "spacing"), member[i].model.spacing);
}

static void check_made(struct tns_record *rec)
{
    static struct names said;
    if (*doubt && first_time(&said, key_or(rec, "case")))
        tool_warn_at(rec, "%s", doubt);
}

/* A scan that is not there is background, which means little to a network that never met it. */
static void check_missing(struct tns_record *rec)
{
    const char *names = tns_get(&rec->meta, "missing");
    uint64_t set;
    if (!names || opt.force)
        return;
    for (int i = 0; i < members; i++) {
        const struct model *m = &member[i].model;
        if (contract_set(m->modalities, names, &set))
            tool_die_at(rec, "key 'missing': (wanted some of %s, got '%.60s')", m->modalities,
                        names);
        if (set & ~m->spared)
            tool_die_at(rec,
                        "no scan of %.60s, and %s learned to do without %s (augment dropout); -F "
                        "lets that pass",
                        names, member[i].path, m->without ? m->without : "no modality");
    }
}

static void check_image(struct tns_record *rec)
{
    char why[512];
    int order[NN_MAX_CIN];
    const struct tensor *t = tool_need(rec, "image", DT_COUNT, 3);
    int n = contract_order(member->model.modalities, tool_need_key(rec, "modalities"), order,
                           NN_MAX_CIN, why, sizeof why);
    if (n < 0)
        tool_die_at(rec, "%s", why);
    if (n != member->channels || t->dim[0] != (uint32_t)n)
        tool_die_at(rec, "image: wrong number of channels (wanted %d, got %u)", member->channels,
                    t->dim[0]);
    if (t->dim[1] > NN_MAX_SIDE || t->dim[2] > NN_MAX_SIDE)
        tool_die_at(rec, "image: too large (wanted at most %d, got %u by %u)", NN_MAX_SIDE,
                    t->dim[1], t->dim[2]);
    if (plan_depth(rec) > NN_MAX_SIDE)
        tool_die_at(rec, "slices: too many to hold a case (wanted at most %d, got %d)", NN_MAX_SIDE,
                    plan_depth(rec));
}

/* A record has one scheme, and pred will have the models'. */
static void check_label(struct tns_record *rec)
{
    const char *scheme = tns_get(&rec->meta, "scheme"), *wanted = member->model.scheme;
    if (!tns_tensor(rec, "label") || (scheme && !strcmp(scheme, wanted)))
        return;
    if (!opt.force)
        tool_die_at(rec,
                    "another label scheme than the model's (wanted %.60s, got %.60s: recode); "
                    "-F drops the label",
                    wanted, scheme ? scheme : "none");
    tns_remove(rec, "label");
}

/* What an earlier prediction said of itself. */
static void forget(struct tns_record *rec)
{
    tns_remove(rec, "prob");
    tns_remove(rec, "entropy");
    tns_remove(rec, "disagreement");
    tns_unset(&rec->meta, "regions");
}

void check_record(struct tns_record *rec)
{
    check_image(rec);
    check_label(rec);
    check_keys(rec);
    check_spacing(rec);
    check_made(rec);
    check_missing(rec);
    check_brain(rec);
    check_trained(rec);
    forget(rec);
}

/* --- streams ---------------------------------------------------------------------------------- */

static struct {
    char *name;
    long next, slices;
    uint32_t h, w;
} of;

bool check_goes_on(const struct tns_record *rec)
{
    const char *name = tns_get(&rec->meta, "case");
    return of.name && name && !strcmp(name, of.name);
}

void check_slice(struct tns_record *rec)
{
    const char *name = tool_need_key(rec, "case");
    const struct tensor *image = tns_tensor(rec, "image");
    const long slices = tool_need_int(rec, "slices", 1, INT_MAX);
    const long slice = tool_need_int(rec, "slice", 0, slices - 1);
    if (!of.name) {
        of.name = tool_copy(name);
        of.next = 0, of.slices = slices;
        of.h = image->dim[1], of.w = image->dim[2];
    }
    if (slice != of.next || slices != of.slices)
        tool_die_at(
            rec,
            "the network sees beside a slice, so it wants all slices of a case one after another "
            "(wanted %ld of %ld, got %ld of %ld)",
            of.next, of.slices, slice, slices);
    if (image->dim[1] != of.h || image->dim[2] != of.w)
        tool_die_at(rec, "slices of one case differ in size (%ux%u, %ux%u)", of.h, of.w,
                    image->dim[1], image->dim[2]);
    of.next++;
}

void check_whole(void)
{
    if (of.name && of.next < of.slices)
        tool_die("stdin: case %s: the network sees beside a slice, and the case ends behind slice "
                 "%ld of %ld",
                 of.name, of.next, of.slices);
    free(of.name);
    of.name = NULL;
}
