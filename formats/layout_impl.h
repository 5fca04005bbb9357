/* layout_impl.h - dataset.json, as the Decathlon and nnU-Net have it, for layout.c. */
#ifndef LAYOUT_IMPL_H
#define LAYOUT_IMPL_H

#include <stdbool.h>

#include "formats/layout.h"

#define LAY_LABELS 64

struct lay_dataset {
    char channel[LAY_MODALITIES][64];
    int n;
    char ending[16];
    struct {
        char name[64];
        bool has[256];
        int n; /* numbers that bear the name: several where it is a region */
    } label[LAY_LABELS];
    int labels;
};

int lay_read_dataset(const char *path, struct lay_dataset *, char *why);

/* "1 edema, 2 core": the numbers of which one name says most closely what they are. A region says
 * it of the one number that no smaller region has. To be freed; NULL if memory is short. */
char *lay_say_labels(const struct lay_dataset *);

#endif
