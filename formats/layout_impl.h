/* layout_impl.h - what the files of layout share: folders, dataset.json of the Decathlon and
 * nnU-Net (layout_json.c), the tree of BIDS (layout_bids.c). */
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

/* DIR/NAME; one more case's name, n bytes of it; the files of the case folder p->dir. */
int lay_join(char out[LAY_PATH], const char *dir, const char *name, char *why);
int lay_add_name(struct lay_place *, const char *name, size_t n, char *why);
bool lay_is_dir(const char *path);
int lay_folder_case(const struct lay_place *, struct lay_case *, char *why);

/* ROOT, ROOT/sub-01, ROOT/sub-01/ses-01, with anat or without. A case is called sub-01_ses-01, so
 * that its name tells where it lies. */
int lay_open_bids(const char *argument, struct lay_place *, char *why);
int lay_bids_case(const struct lay_place *, struct lay_case *, char *why);

int lay_read_dataset(const char *path, struct lay_dataset *, char *why);

/* "1 edema, 2 core": the numbers of which one name says most closely what they are. A region says
 * it of the one number that no smaller region has. To be freed; NULL if memory is short. */
char *lay_say_labels(const struct lay_dataset *);

#endif
