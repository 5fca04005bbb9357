/* Which channel of a stream is which of a model. */
#include "formats/contract.h"
#include "tests/lib/tap.h"

#include <stdlib.h>
#include <string.h>

int main(void)
{
    static const struct {
        const char *wanted, *got, *why; /* why: words of the refusal, or the order in digits */
    } table[] = {
        {"flair,t1,t1gd,t2", "flair,t1,t1gd,t2", "0123"},
        {"flair,t1,t1gd,t2", "t2,t1gd,flair,t1", "2310"},
        {"t1", "t1", "0"},
        {"flair,t1,t1gd,t2", "flair,t1,t1gd,flair", "modality 'flair' is there twice"},
        {"flair,t1,t1gd,t2", "flair,t1,t1,t2", "modality 't1' is there twice"},
        {"flair,t1,t1gd,t2", "t1,t1,t1gd,t2", "modality 'flair' is missing"},
        {"flair,t1,t1gd,t2", "flair,t1,t1ce,t2", "modality 't1gd' is missing"},
        {"t1,t1gd", "t1g,t1gd", "modality 't1' is missing"},
        {"flair,t1,t1gd,t2", "flair,t1,t1gd", "wrong modalities"},
        {"flair,t1", "flair,t1,t1gd", "wrong modalities"},
        {"", "", "wrong modalities"},
        {"a,b,c,d,e", "a,b,c,d,e", "wrong modalities"}, /* more than there is room for */
        {"flair,flair", "flair,flair", "modality 'flair' is there twice"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int order[4];
        char why[200] = "", digits[8] = "";
        int n = contract_order(table[i].wanted, table[i].got, order, 4, why, sizeof why);
        for (int k = 0; k < n; k++)
            digits[k] = (char)('0' + order[k]);
        ok(n < 0 ? !!strstr(why, table[i].why) : !strcmp(digits, table[i].why),
           "%s for %s: %s (got '%s')", table[i].got, table[i].wanted, table[i].why,
           n < 0 ? why : digits);
    }
    /* What changes no image is no step of preparation. */
    static const char *const line[] = {"recode -s msd", "znorm -p case", "infer", "tidy -w 100 -i",
                                       "strip -l -k"};
    struct tns_meta header = {0};
    char steps[CONTRACT_MAX];
    bool added = true;
    for (size_t i = 0; i < sizeof line / sizeof *line; i++)
        added &= !tns_append(&header, "history", line[i]);
    ok(added && contract_steps(&header, steps) == 1 && !strcmp(steps, "znorm -p case\n"),
       "recode, infer, tidy and a look at the mask change nothing that a network sees");
#define FIELD "regrid -g scan -s 1 -n linear"
#define ATLAS "regrid -g 240x240x155 -n linear"
    static const struct {
        const char *wanted, *got, *differs, *doubts;
    } made[] = {
        {ATLAS " -k\n", ATLAS " -k\n", NULL, NULL},
        {ATLAS " -k\n", "regrid -g 240x240x155 -n lanczos -k t1-to-t1gd.txt\n", NULL, NULL},
        {ATLAS " -k\nznorm -p case\n", ATLAS "\nznorm -p case\n",
         "the skull is on (wanted it off, as '" ATLAS " -k'", NULL},
        {ATLAS "\nstrip -m mindgrab:0123456789abcdef\n", ATLAS "\n", "the skull is on", NULL},
        {ATLAS "\nstrip -k\n", ATLAS " -k\n", NULL, NULL},
        {ATLAS "\n", ATLAS "\nstrip -k\n", "the skull is off (wanted it on", NULL},
        {ATLAS " -k\n", FIELD " -k\n", NULL, "in the scan's own field"},
        {FIELD " -k\n", ATLAS " -k\n", NULL, NULL},
        {ATLAS " -k\n", "", NULL, NULL},
        {"", FIELD "\nstrip -k\n", NULL, NULL},
        {"", FIELD "\n", NULL, "nothing took the skull off after '" FIELD "'"},
        {FIELD "\n", "", NULL, "learned from heads with their skull"},
    };
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        char why[512] = "", doubt[512] = "";
        bool differs = contract_differs(made[i].wanted, made[i].got, why, sizeof why),
             doubts = contract_doubts(made[i].wanted, made[i].got, doubt, sizeof doubt);
        ok(differs == !!made[i].differs && (!differs || strstr(why, made[i].differs)) &&
               (differs || doubts == !!made[i].doubts) &&
               (!doubts || differs || strstr(doubt, made[i].doubts)),
           "scans made one way and another, %zu: '%s' '%s'", i, why, doubt);
    }
    free(header.text);
    return done_testing();
}
