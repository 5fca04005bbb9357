/* layout.h - finds the files of cases in the folders that the data sets come in; the names are
 * those of formats/nifti.md, section 2.
 *
 * Errors: -1 and one line in why (NII_WHY bytes). */
#ifndef LAYOUT_H
#define LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define LAY_MODALITIES 4
#define LAY_MAPS 2 /* floats of each voxel that go into the stream by their names */
#define LAY_FILES (LAY_MODALITIES + 1) /* with the segmentation, the last */
#define LAY_NAME 256
#define LAY_PATH 4352

enum layout {
    LAY_BRATS,   /* a folder CASE, or CASE/SESSION, with *_flair, *_t1, ... or *-t2f, *-t1n, ... */
    LAY_MSD,     /* a data set: imagesTr/CASE (4D), labelsTr/CASE, dataset.json */
    LAY_NNUNET,  /* a data set: imagesTr/CASE_0000 ..., labelsTr/CASE, dataset.json */
    LAY_FILE,    /* one NIfTI file as a case of one modality */
    LAY_WRITTEN, /* what slices2nii wrote: CASE.nii.gz (label), CASE_pred.nii.gz, ... */
    LAY_BIDS     /* a data set: sub-01/anat, sub-01/ses-01/anat, labels in its derivatives */
};

/* The names of the channels as they go into the stream: flair, t1, t1gd, t2. */
extern const char *const lay_modality[LAY_MODALITIES];
/* The tensors that are maps: entropy, disagreement. */
extern const char *const lay_map[LAY_MAPS];

/* -1 and no layout for an unknown name (brats, msd, nnunet, file, slices2nii,
 * bids). */
int lay_by_name(const char *name, enum layout *);

/* Patterns (fnmatch(3), capitals or not) of a case folder's files, for those that are not named as
 * usual: "flair=*FLAIR*,seg=mask.nii" sets two of them. The text is cut up and has to live on. */
int lay_set_names(char *text, const char *pattern[LAY_FILES], char *why);
/* Modalities by any of their names, commas between, as bits; `any` is all. */
int lay_set(const char *text, unsigned *set, char *why);

/* The cases that one argument names: a case folder, a data set or one of its image folders, a
 * file. */
struct lay_place {
    enum layout layout;
    char *dir;    /* the case's folder, or that of the images; for LAY_FILE the file */
    char *ending; /* .nii.gz, as dataset.json says */
    char (*name)[LAY_NAME];
    size_t n;
    int channel[LAY_MODALITIES]; /* where the file set has each modality */
    char *labels;                /* what dataset.json calls the numbers of a label, as the key
                                    `labels` of tns.md has it; NULL if it says nothing */
    const char *const *pattern;  /* LAY_FILES; NULL where the usual names count */
    unsigned may_lack;           /* modalities of which a case folder need have no file, but it has
                                    to have one of some; 0 unless set after lay_open */
};
int lay_open(enum layout, const char *argument, const char *const pattern[LAY_FILES],
             struct lay_place *, char *why);
void lay_close(struct lay_place *);

/* The files of case i. `modalities` is 4, or 1 for LAY_FILE; for LAY_WRITTEN it is 0, as only the
 * image can tell, which may be missing (file[0] is "" then). */
struct lay_case {
    char name[LAY_NAME];
    int modalities;
    char file[LAY_MODALITIES][LAY_PATH]; /* in the stream's order; "" where there is none */
    int channel[LAY_MODALITIES];         /* inside its file: 0 unless the file is 4D */
    char label[LAY_PATH];                /* "" if there is none */
    char pred[LAY_PATH], map[LAY_MAPS][LAY_PATH]; /* likewise */
    const char *labels;                           /* as in the place */
    char others[512]; /* NIfTI files of a case folder that are none of these */
    char lacks[32];   /* modalities that it may lack and does, commas between */
};
int lay_case(const struct lay_place *, size_t i, struct lay_case *, char *why);

/* All cases that the arguments of a tool name, each name once, numbered through. */
struct lay_list {
    struct lay_place *place;
    size_t places, n;
};
int lay_list(struct lay_list *, enum layout, int arguments, char *const argument[],
             const char *const pattern[LAY_FILES], unsigned may_lack, char *why);
int lay_list_case(const struct lay_list *, size_t i, struct lay_case *, char *why);
void lay_list_free(struct lay_list *);

/* The case's prediction in a folder, by its own name or, from others, by the case's alone:
 * CASE_pred.nii.gz, CASE.nii.gz. */
int lay_pred(const char *dir, struct lay_case *, char *why);

#endif
