/* What the words of data sets mean. */
#include "lib/image/scheme.h"
#include "tests/lib/tap.h"

#include <string.h>

int main(void)
{
    static const struct {
        const char *words;
        uint8_t class;
    } table[] = {
        /* as they stand in dataset.json of the Decathlon, of nnU-Net, and in the challenges'
         * pages */
        {"background", IMG_BACKGROUND},
        {"edema", IMG_OEDEMA},
        {"Oedema", IMG_OEDEMA},
        {"peritumoral edematous/invaded tissue", IMG_OEDEMA},
        {"ED", IMG_OEDEMA},
        {"SNFH", IMG_OEDEMA},
        {"surrounding non-enhancing FLAIR hyperintensity", IMG_OEDEMA},
        {"non-enhancing tumor", IMG_CORE},
        {"Non enhancing tumour", IMG_CORE},
        {"nonenhancing", IMG_CORE},
        {"non_enhancing_tumor_core", IMG_CORE},
        {"necrosis", IMG_CORE},
        {"necrotic and non-enhancing tumor core", IMG_CORE},
        {"NCR", IMG_CORE},
        {"NETC", IMG_CORE},
        {"cystic component", IMG_CORE},
        {"tumor core", IMG_CORE},
        {"enhancing tumor", IMG_ENHANCING},
        {"GD-enhancing tumour", IMG_ENHANCING},
        {"enhancing tumor core", IMG_ENHANCING},
        {"ET", IMG_ENHANCING},
        {"resection cavity", IMG_CAVITY},
        {"RC", IMG_CAVITY},
        /* none, or several */
        {"", IMG_NONE},
        {"tumor", IMG_NONE},
        {"whole tumor", IMG_NONE},
        {"edema and non-enhancing tumor", IMG_NONE},
        {"necrosis and enhancing tumor", IMG_NONE},
        {"et al", IMG_NONE},
        {"internet", IMG_NONE},
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        uint8_t got = img_class_in_words(table[i].words, strlen(table[i].words));
        ok(got == table[i].class, "'%s' is %u (got %u)", table[i].words, table[i].class, got);
    }
    for (const char *p = "1 edema, 2 core"; *p;
         p++) { /* whatever the text, it is read to its end */
        struct img_denial d;
        img_scheme_denied(img_scheme("msd"), p, &d);
    }
    struct img_denial d;
    ok(!img_scheme_denied(img_scheme("msd"), "300 edema, x, , 1", &d),
       "numbers beyond a byte and entries without words say nothing");
    ok(img_scheme_denied(img_scheme("brats2017"), "0 background, 3 enhancing tumour", &d) &&
           d.value == 3 && d.n == 16 && d.means == IMG_ENHANCING && d.takes == IMG_NONE,
       "a number that the scheme has not is denied too");
    return done_testing();
}
