/* A scheme is 256 bytes; what words say of a class is weighed against it only to refuse, never to
 * choose. */
#include "lib/image/scheme.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Value v of the scheme is at place v; the rest of the 256 is IMG_NONE. */
static const struct {
    const char *name, *source;
    uint8_t values[8];
    int count;
    uint8_t back[IMG_CLASSES];
} table[] = {
    {"canonical",
     "0 background, 1 core, 2 oedema, 3 enhancing",
     {0, 1, 2, 3},
     4,
     {0, 1, 2, 3, IMG_NONE}},
    {"brats2012",
     "BraTS 2012-2016: 1 necrosis, 2 oedema, 3 non-enhancing, 4 enhancing",
     {0, 1, 2, 1, 3},
     5,
     {0, 1, 2, 4, IMG_NONE}},
    {"brats2017",
     "BraTS 2017-2022: 1 core, 2 oedema, 4 enhancing",
     {0, 1, 2, IMG_NONE, 3},
     5,
     {0, 1, 2, 4, IMG_NONE}},
    {"brats2023",
     "BraTS 2023: 1 core, 2 oedema, 3 enhancing",
     {0, 1, 2, 3},
     4,
     {0, 1, 2, 3, IMG_NONE}},
    {"brats2024",
     "BraTS 2024 post-treatment: as 2023, and 4 resection cavity",
     {0, 1, 2, 3, IMG_NONE},
     5,
     {0, 1, 2, 3, 4}},
    {"bratsped",
     "BraTS-PED 2024: 1 enhancing, 2 non-enhancing, 3 cystic, 4 oedema",
     {0, 3, 1, 1, 2},
     5,
     {0, 2, 4, 1, IMG_NONE}},
    {"msd",
     "Medical Segmentation Decathlon Task01: 1 oedema, 2 non-enhancing, 3 enhancing",
     {0, 2, 1, 3},
     4,
     {0, 2, 1, 3, IMG_NONE}},
    {"nnunet",
     "nnU-Net's converted BraTS: 1 oedema, 2 core, 3 enhancing",
     {0, 2, 1, 3},
     4,
     {0, 2, 1, 3, IMG_NONE}},
};

#define COUNT ((int)(sizeof table / sizeof *table))

const char *img_scheme_name(int i)
{
    return i >= 0 && i < COUNT ? table[i].name : NULL;
}

const struct img_scheme *img_scheme(const char *name)
{
    static struct img_scheme s;
    for (int i = 0; i < COUNT; i++)
        if (!strcmp(name, table[i].name)) {
            s.name = table[i].name;
            s.source = table[i].source;
            memset(s.to_canonical, IMG_NONE, sizeof s.to_canonical);
            memcpy(s.to_canonical, table[i].values, (size_t)table[i].count);
            memcpy(s.from_canonical, table[i].back, sizeof s.from_canonical);
            s.cavity = s.from_canonical[IMG_CAVITY] == IMG_NONE ? 0 : s.from_canonical[IMG_CAVITY];
            return &s;
        }
    return NULL;
}

/* Where `part` stands in n characters, in capitals or not; NULL if it does not. */
static const char *find(const char *words, size_t n, const char *part)
{
    size_t m = strlen(part);

    for (; n >= m; words++, n--)
        if (!strncasecmp(words, part, m))
            return words;
    return NULL;
}

static bool negated(const char *words, const char *at)
{
    if (at > words && strchr(" -_", at[-1]))
        at--;
    return at - words >= 3 && !strncasecmp(at - 3, "non", 3);
}

uint8_t img_class_in_words(const char *words, size_t n)
{
    static const struct {
        const char *text;
        uint8_t class;
    } part[] = {{"necro", IMG_CORE},
                {"cyst", IMG_CORE},
                {"edema", IMG_OEDEMA},
                {"background", IMG_BACKGROUND},
                {"cavity", IMG_CAVITY}},
      whole[] = {{"ncr", IMG_CORE},     {"net", IMG_CORE},  {"netc", IMG_CORE},
                 {"tc", IMG_CORE},      {"ed", IMG_OEDEMA}, {"snfh", IMG_OEDEMA},
                 {"et", IMG_ENHANCING}, {"rc", IMG_CAVITY}};
    unsigned said = 0;

    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (strlen(whole[i].text) == n && find(words, n, whole[i].text))
            return whole[i].class;
    if (find(words, n, "hyperintens")) /* surrounding non-enhancing FLAIR hyperintensity */
        return IMG_OEDEMA;
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        said |= find(words, n, part[i].text) ? 1u << part[i].class : 0;
    for (const char *p = words; (p = find(p, n - (size_t)(p - words), "enhanc")); p++)
        said |= 1u << (negated(words, p) ? IMG_CORE : IMG_ENHANCING);
    if (!said && find(words, n, "core"))
        return IMG_CORE;
    for (uint8_t c = 0; c < IMG_CLASSES; c++)
        if (said == 1u << c)
            return c;
    return IMG_NONE;
}

bool img_scheme_denied(const struct img_scheme *s, const char *list, struct img_denial *d)
{
    char *end;

    for (const char *p = list; *p; p = *end ? end + 2 : end) {
        unsigned long v = strtoul(p, &end, 10);
        const char *words = end + (*end == ' ');
        uint8_t takes;
        if (!(end = strstr(words, ", ")))
            end = (char *)(words + strlen(words));
        d->means = img_class_in_words(words, (size_t)(end - words));
        if (d->means == IMG_NONE || v > 255)
            continue;
        takes = s->cavity && v == s->cavity ? IMG_CAVITY : s->to_canonical[v];
        if (takes != d->means) {
            d->value = (unsigned)v;
            d->words = words;
            d->n = (int)(end - words);
            d->takes = takes;
            return true;
        }
    }
    return false;
}

size_t img_recode(uint8_t *label, size_t n, const uint8_t map[256])
{
    for (size_t i = 0; i < n; i++) {
        if (map[label[i]] == IMG_NONE)
            return i;
        label[i] = map[label[i]];
    }
    return n;
}

void img_scheme_inverse(const struct img_scheme *s, uint8_t map[256])
{
    memset(map, IMG_NONE, 256);
    memcpy(map, s->from_canonical, sizeof s->from_canonical);
}
