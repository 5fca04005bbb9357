/* config.h - settings in a YAML file, checked against a table.
 *
 * The file is one mapping of names to scalars, lists of numbers and mappings of names to numbers.
 * What is wrong is told with file and line, and an unknown name with the known one that is nearest.
 * This stands on libyaml's events, which carry the line of everything; libcyaml's schemas report
 * through a log and know neither the line of a value out of range nor a nearest name. */
#ifndef CONFIG_H
#define CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A field that is not given keeps what it holds. It is not printed if that is empty, or a number
 * out of its bounds, or a choice below 0. */
enum config_type {
    CONFIG_INT,    /* int */
    CONFIG_NUMBER, /* double */
    CONFIG_SEED,   /* uint64_t, at most 2^63 - 1 */
    CONFIG_BOOL,   /* bool: true or false, as YAML 1.2 has them */
    CONFIG_CHOICE, /* int: index into choices */
    CONFIG_SIZE,   /* int[2]: HEIGHTxWIDTH, both within lo..hi; 0x0 is empty */
    CONFIG_LIST,   /* struct config_list: [1, 2.5] */
    CONFIG_TEXT,   /* char[CONFIG_TEXT_MAX]: printable ASCII without an apostrophe */
    CONFIG_NUMBERS /* struct config_numbers: {some: 1, others: 2.5} */
};

#define CONFIG_LIST_MAX 16
#define CONFIG_TEXT_MAX 512
#define CONFIG_NUMBERS_MAX 11 /* with the five that are settings, what a network may be set */

struct config_list {
    int n;
    double v[CONFIG_LIST_MAX];
};

/* Under names of the file's own. */
struct config_numbers {
    int n;
    struct {
        char name[32];
        double value;
    } of[CONFIG_NUMBERS_MAX];
};

struct config_field {
    const char *name;
    enum config_type type;
    void *value;   /* what it holds before is the default */
    double lo, hi; /* bounds of numbers, also in a list, and of each side of a size */
    const char *const *choices;
    bool required;
};

/* A name that others have for a setting, and what is said of it: the setting's, or where else that
 * is chosen. The last has none. */
struct config_other {
    const char *name, *wanted;
};

/* Reads a file, or text of a given length under a name for messages. 0, or -1 with "NAME:LINE:
 * what" in `why`; values that came before are changed then. */
int config_read(const char *path, const struct config_field *, int fields,
                const struct config_other *, char *why, size_t size)
    __attribute__((warn_unused_result));
int config_parse(const char *text, size_t length, const char *name, const struct config_field *,
                 int fields, const struct config_other *, char *why, size_t size)
    __attribute__((warn_unused_result));

/* A number's shortest text that reads back to it. */
#define CONFIG_NUMBER_SIZE 32
void config_number(char to[CONFIG_NUMBER_SIZE], double);

/* Writes all settings, in the order of the table, as a file that reads back to the same. Returns
 * the length, which is at least `size` if it did not fit. */
size_t config_print(const struct config_field *, int fields, char *out, size_t size);

#endif
