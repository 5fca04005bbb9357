/* Settings: any text is taken or refused with one line, and what is taken prints to a text that is
 * taken again. */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "formats/config.h"

static const char *const choices[] = {"unet", "attention", "residual", NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int i = 1, pick = 0, side[2] = {0, 0};
    double x = 0.5;
    uint64_t seed = 1;
    bool flag = false;
    struct config_list list = {.n = 0};
    char name[CONFIG_TEXT_MAX] = "";
    struct config_numbers numbers = {0};
    const struct config_field table[] = {
        {"base", CONFIG_INT, &i, 1, 256, NULL, false},
        {"rate", CONFIG_NUMBER, &x, 0, 100, NULL, false},
        {"seed", CONFIG_SEED, &seed, 0, 0, NULL, false},
        {"deep", CONFIG_BOOL, &flag, 0, 0, NULL, false},
        {"arch", CONFIG_CHOICE, &pick, 0, 0, choices, true},
        {"size", CONFIG_SIZE, side, 16, 8192, NULL, false},
        {"list", CONFIG_LIST, &list, 0, 1e9, NULL, false},
        {"network", CONFIG_TEXT, name, 0, 0, NULL, false},
        {"parameters", CONFIG_NUMBERS, &numbers, 0, 0, NULL, false},
    };
    const int n = sizeof table / sizeof *table;
    char why[512] = "", text[4096];
    if (config_parse((const char *)data, size, "x.yaml", table, n, NULL, why, sizeof why)) {
        FUZZ_HOLDS(*why && !strchr(why, '\n'));
        return 0;
    }
    FUZZ_HOLDS(i >= 1 && i <= 256 && x >= 0 && x <= 100 && pick >= 0 && pick < 3);
    size_t len = config_print(table, n, text, sizeof text);
    FUZZ_HOLDS(len < sizeof text);
    FUZZ_HOLDS(config_parse(text, len, "again", table, n, NULL, why, sizeof why) == 0);
    return 0;
}
