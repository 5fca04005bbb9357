#include "lib/image/scheme.h"

#include <string.h>

/* Value v of the scheme is at place v; the rest of the 256 is IMG_NONE. */
static const struct {
    const char *name, *source;
    uint8_t values[8];
    int count;
    uint8_t back[IMG_CLASSES];
} table[] = {
    {"canonical", "0 background, 1 core, 2 oedema, 3 enhancing", {0, 1, 2, 3}, 4, {0, 1, 2, 3}},
    {"brats2012",
     "BraTS 2012-2016: 1 necrosis, 2 oedema, 3 non-enhancing, 4 enhancing",
     {0, 1, 2, 1, 3},
     5,
     {0, 1, 2, 4}},
    {"brats2017",
     "BraTS 2017-2022: 1 core, 2 oedema, 4 enhancing",
     {0, 1, 2, IMG_NONE, 3},
     5,
     {0, 1, 2, 4}},
    {"brats2023", "BraTS 2023: 1 core, 2 oedema, 3 enhancing", {0, 1, 2, 3}, 4, {0, 1, 2, 3}},
    {"brats2024",
     "BraTS 2024 post-treatment: as 2023, and 4 resection cavity",
     {0, 1, 2, 3, IMG_NONE},
     5,
     {0, 1, 2, 3}},
    {"bratsped",
     "BraTS-PED 2024: 1 enhancing, 2 non-enhancing, 3 cystic, 4 oedema",
     {0, 3, 1, 1, 2},
     5,
     {0, 2, 4, 1}},
    {"msd",
     "Medical Segmentation Decathlon Task01: 1 oedema, 2 non-enhancing, 3 enhancing",
     {0, 2, 1, 3},
     4,
     {0, 2, 1, 3}},
    {"nnunet",
     "nnU-Net's converted BraTS: 1 oedema, 2 core, 3 enhancing",
     {0, 2, 1, 3},
     4,
     {0, 2, 1, 3}},
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
            s.cavity = !strcmp(name, "brats2024") ? 4 : 0;
            memcpy(s.from_canonical, table[i].back, sizeof s.from_canonical);
            return &s;
        }
    return NULL;
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
    if (s->cavity)
        map[IMG_CAVITY] = s->cavity;
}
