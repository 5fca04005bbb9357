/* Who meets whom: by name as people read it, by fingerprints. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/ledger.h"
#include "tests/lib/tap.h"

#define ONE "0123456789abcdef"
#define TWO "00000000000000ff"
#define NOBODY "0000000000000000"

static void check_names(void)
{
    static const struct {
        const char *known, *asked;
        bool one;
    } table[] = {
        {"Patient-1", "Patient-1", true},
        {"Patient-1", "patient-1", true},
        {"PATIENT-1", "Patient-1 ", true},
        {"\tPatient-1", "  Patient-1", true},
        {"Ren\xc3\xa9", "Rene\xcc\x81", true}, /* composed or not */
        {"REN\xc3\x89", "ren\xc3\xa9", true},
        {"\xff not UTF-8", "\xff not UTF-8", true},
        {"Patient-1", "Patient-10", false},
        {"Patient-10", "Patient-1", false},
        {"Patient-1", "Patient 1", false},
        {"Ren\xc3\xa9", "Rene", false},
        {"\xff not UTF-8", "\xfe not UTF-8", false},
        {"", "a", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct ledger l = {0};
        struct meeting m;
        bool added = !ledger_add(&l, table[i].known, NULL);
        bool met = ledger_meets(&l, table[i].asked, ONE, &m);
        ok(added && met == table[i].one &&
               (!met || (!m.voxels && !strcmp(m.patient, table[i].known))),
           "'%s' %s '%s'", table[i].asked, table[i].one ? "is" : "is not", table[i].known);
        ledger_free(&l);
    }
}

static void check_prints(void)
{
    struct ledger l = {0};
    struct meeting m;
    int at = 0;
    ok(!ledger_add(&l, "A", ONE "," NOBODY) && !ledger_add(&l, "B", TWO) &&
           !ledger_add(&l, "A", ONE "," NOBODY) && l.scans.count == 2 && l.people.count == 2,
       "a scan that comes again is one scan");
    ok(ledger_meets(&l, "X", NOBODY "," ONE, &m) && m.voxels && !strcmp(m.patient, "A"),
       "one fingerprint is enough, in any place");
    ok(!ledger_meets(&l, "X", NOBODY, &m), "an empty scan is nobody");
    ok(!ledger_meets(&l, "X", "0123456789abcde,0123456789abcdef0,,abc", &m) &&
           !ledger_meets(&l, "X", "", &m) && !ledger_meets(&l, "X", NULL, &m),
       "what is no fingerprint meets nobody");
    ok(ledger_next(&l, "a", TWO "," ONE, &at, &m) && !m.voxels && !strcmp(m.patient, "A") &&
           ledger_next(&l, "a", TWO "," ONE, &at, &m) && m.voxels && !strcmp(m.patient, "B") &&
           ledger_next(&l, "a", TWO "," ONE, &at, &m) && !strcmp(m.patient, "A") &&
           !ledger_next(&l, "a", TWO "," ONE, &at, &m),
       "all that a scan meets are told in turn");
    ledger_free(&l);
}

static void check_text(void)
{
    static const char *const who[] = {"B", "A", "tab\tin it", "A"};
    static const char *const prints[] = {ONE, TWO "," NOBODY, NULL, ONE};
    struct ledger l = {0}, back = {0}, turned = {0};
    char words[200] = "";
    for (int i = 0; i < 4; i++)
        ok(!ledger_add(&l, who[i], prints[i]) && !ledger_add(&turned, who[3 - i], prints[3 - i]),
           "a scan of %s", who[i]);
    char *patients = ledger_patients(&l, '\n'), *scans = ledger_scans(&l);
    char *other = ledger_scans(&turned);
    ok(!strcmp(scans, other) && !strcmp(patients, "A\nB\ntab\tin it"),
       "the text does not depend on who came first");
    ok(!ledger_add_lines(&back, patients, scans), "a ledger is read");
    char *again = ledger_scans(&back);
    ok(!strcmp(scans, again) && back.people.count == 3, "and is what was written");
    ok(ledger_shared(&l, "HERE", &back, "THERE", words, sizeof words) == 3 &&
           !strcmp(words, "patient A of HERE is A of THERE: the same name"),
       "all of a ledger meet themselves (%s)", words);
    ledger_free(&back);
    ok(!ledger_add_lines(&back, "A\nC", NULL) && back.scans.count == 2 &&
           ledger_shared(&back, "HERE", &l, "THERE", words, sizeof words) == 1,
       "names alone are a ledger too");
    struct ledger_size s = ledger_size_of(patients, scans);
    ok(s.scans == 4 && s.scans == l.size.scans && s.prints == l.size.prints &&
           strlen(patients) + strlen(scans) + 2 <= ledger_text_bytes(&s),
       "its size is that of its text (%u scans, %u prints)", s.scans, s.prints);
    free(patients), free(scans), free(other), free(again);
    ledger_free(&l), ledger_free(&back), ledger_free(&turned);
}

/* With room for what comes, a ledger does not grow, whatever the names are like. */
static void check_room(void)
{
    static const int lengths[] = {1, 40, 200, 3000};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        struct ledger l = {0}, again = {0};
        char name[4096], prints[4 * 17 + 1];
        size_t before = 0, after = 0;
        for (int pass = 0; pass < 2; pass++) {
            struct ledger *to = pass ? &again : &l;
            bool sound = !pass || !ledger_reserve(to, &l.size);
            before = ledger_memory(to);
            for (unsigned i = 0; i < 300; i++) {
                snprintf(name, sizeof name, "%0*u", lengths[k], i);
                snprintf(prints, sizeof prints, "%016x,%016x,%016x,%016x", i + 1, i + 1000,
                         i + 2000, i + 3000);
                sound = sound && !ledger_add(to, name, prints) && !ledger_add(to, name, prints);
            }
            ok(sound && to->scans.count == 300, "300 scans, names of %d", lengths[k]);
            after = ledger_memory(to);
        }
        ok(before == after, "a ledger stays within its room (%zu, %zu)", before, after);
        ledger_free(&l), ledger_free(&again);
    }
}

int main(void)
{
    check_names();
    check_prints();
    check_text();
    check_room();
    return done_testing();
}
