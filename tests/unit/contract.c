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
                                       "strip -k"};
    struct tns_meta header = {0};
    char steps[CONTRACT_MAX];
    bool added = true;
    for (size_t i = 0; i < sizeof line / sizeof *line; i++)
        added &= !tns_append(&header, "history", line[i]);
    ok(added && contract_steps(&header, steps) == 1 && !strcmp(steps, "znorm -p case\n"),
       "recode, infer, tidy and strip change nothing that a network sees");
    free(header.text);
    return done_testing();
}
