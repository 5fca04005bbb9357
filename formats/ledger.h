/* ledger.h - who has been met: patients by name, and by the fingerprints of their scans (tns.md,
 * section 8).
 *
 * Two patients are one if they share a name or a fingerprint. Names are compared as a reader would:
 * without regard to capitals, to blanks around them, and to how Unicode composes a letter. A ledger
 * as text is two sets of lines, sorted, so that it does not depend on who came first: patients, and
 * scans (the key `fingerprint` of one scan, maybe empty, a tab and the patient). */
#ifndef LEDGER_H
#define LEDGER_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/names.h"

#define LEDGER_MAX 65536 /* scans; more would not fit the head of a model's file */

/* How much there is to know: scans, their fingerprints, bytes of their lines without line ends. */
struct ledger_size {
    uint32_t scans, prints;
    size_t bytes;
};

/* A zeroed struct is an empty ledger. */
struct ledger {
    struct names scans, people, key;
    struct ledger_size size;
    uint32_t *owner, room;     /* of each key: who came with it first, a number in people */
    uint32_t *same, same_room; /* of each of the people: another who is the same one, or himself */
};

/* A scan of a patient; prints is the record's key `fingerprint`, or NULL. -1: memory is short, or
 * there are too many. */
int ledger_add(struct ledger *, const char *patient, const char *prints)
    __attribute__((warn_unused_result));
/* Both texts of a ledger, as a model has them; scans may be NULL. */
int ledger_add_lines(struct ledger *, const char *patients, const char *scans)
    __attribute__((warn_unused_result));

/* Whether a scan in it has no fingerprint, so that it can be met by name alone. */
bool ledger_blind(const struct ledger *);

/* Both texts of a ledger, to be freed; NULL if memory is short. */
char *ledger_patients(const struct ledger *, char separator);
char *ledger_scans(const struct ledger *);

/* Room for so much more: until it has come the ledger takes no more memory. -1 if memory is
 * short. */
int ledger_reserve(struct ledger *, const struct ledger_size *) __attribute__((warn_unused_result));
/* Of both texts, as ledger_add_lines reads them. */
struct ledger_size ledger_size_of(const char *patients, const char *scans);
/* Bytes that a ledger takes; that both texts of one of that size take, as they are and, with line
 * ends and tabs escaped, in a model's file. */
size_t ledger_memory(const struct ledger *);
size_t ledger_text_bytes(const struct ledger_size *);
size_t ledger_file_bytes(const struct ledger_size *);

/* Whom a scan meets in a ledger: as he is called there, and by what. */
struct meeting {
    const char *patient; /* until the ledger changes */
    bool voxels;         /* else by name */
};

/* The next one whom the scan meets, by name, then by each fingerprint; *at begins at 0. */
bool ledger_next(const struct ledger *, const char *patient, const char *prints, int *at,
                 struct meeting *);
/* The first. */
bool ledger_meets(const struct ledger *, const char *patient, const char *prints, struct meeting *);

/* From now on whoever has that name or one of those fingerprints meets `other`, as he is called in
 * the ledger. Nobody is added. -1 if memory is short. */
int ledger_tie(struct ledger *, const char *patient, const char *prints, const char *other)
    __attribute__((warn_unused_result));
/* From now on both are one; false if they were. Both have been added. */
bool ledger_join(struct ledger *, const char *patient, const char *other);
/* The first, in bytes, of the names of all who are one with him. */
const char *ledger_one(const struct ledger *, const char *patient);

/* How many patients of `here` meet one of `there`, and the first of them in words: "patient A of
 * HERE is B of THERE: the same voxels". -1 if memory is short. */
int ledger_shared(const struct ledger *here, const char *here_name, const struct ledger *there,
                  const char *there_name, char *words, size_t size);
/* Those words, for one meeting. */
void ledger_words(const char *patient, const char *here_name, const struct meeting *,
                  const char *there_name, char *words, size_t size);

void ledger_free(struct ledger *);

#endif
