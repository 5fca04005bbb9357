/* scheme.h - what the numbers in a segmentation mean, by year and data set.
 *
 * Canonical numbering is that of BraTS 2023: 0 background, 1 necrotic and non-enhancing tumour
 * core, 2 oedema, 3 enhancing tumour; and of BraTS 2024, 4 resection cavity. No set of values
 * identifies a scheme (0..3 fits both msd and brats2023, which disagree), so a scheme is always
 * named, never guessed. */
#ifndef SCHEME_H
#define SCHEME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum img_class {
    IMG_BACKGROUND,
    IMG_CORE,
    IMG_OEDEMA,
    IMG_ENHANCING,
    IMG_CAVITY, /* of a resection: kept only when asked for */
    IMG_CLASSES
};

#define IMG_NONE 255

struct img_scheme {
    const char *name, *source;
    uint8_t cavity; /* the value that means resection cavity, or 0; to_canonical has none for it */
    uint8_t to_canonical[256];
    uint8_t from_canonical[IMG_CLASSES]; /* IMG_NONE: it has none */
};

/* The scheme of that name, or NULL. */
const struct img_scheme *img_scheme(const char *name);

/* Names, in the order of the table; NULL past the end. */
const char *img_scheme_name(int i);

/* What a data set's own words call a class ("enhancing tumour", "peritumoral edema", "NCR"): one of
 * img_class; IMG_NONE if they name none, or more than one. */
uint8_t img_class_in_words(const char *words, size_t n);

/* Whether a list like "1 edema, 2 non-enhancing tumor" contradicts the scheme; then the entry where
 * it does so first, and what the words mean. */
struct img_denial {
    unsigned value;
    const char *words;
    int n;                /* their length */
    uint8_t means, takes; /* the words; the scheme */
};
bool img_scheme_denied(const struct img_scheme *, const char *list, struct img_denial *);

/* Recodes n values in place through a table of 256; returns n, or the index of the first value that
 * the table does not hold (IMG_NONE), in which case the values from there on are untouched. */
size_t img_recode(uint8_t *label, size_t n, const uint8_t table[256]);

/* The table that leads back: canonical values to the scheme's. */
void img_scheme_inverse(const struct img_scheme *, uint8_t table[256]);

#endif
