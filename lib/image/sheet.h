/* sheet.h - pictures of segmentations: scan, truth, prediction, their overlap and how uncertain the
 * prediction is, side by side.
 *
 * One row a slice, one column a panel; a title above, a legend below. No two meanings share a
 * colour, and people with any colour vision tell all of them apart. Letters and margins grow with
 * sheets of more than 1000 pixels, which are seen made smaller. */
#ifndef SHEET_H
#define SHEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/image/canvas.h"

#define IMG_SHEET_SCANS 4
#define IMG_LABELS 16            /* that have a colour */
#define IMG_SHEET_MAX_SIDE 30000 /* pixels */

/* One slice, h rows of w: grey scans (0 black to 255), canonical labels. The caller owns all. */
struct img_slice {
    int w, h;
    long z;
    const uint8_t *scan[IMG_SHEET_SCANS];
    const uint8_t *label, *pred; /* NULL: the sheet has no such panel */
    const uint8_t *heat;         /* 0 cold to 255; NULL likewise */
};

struct img_sheet {
    const char *title, *note; /* UTF-8; two lines above the panels; note may be "" */
    const char *scan_name[IMG_SHEET_SCANS];
    int nscan;
    bool label, pred; /* which panels; with both, the overlap too */
    const char *heat; /* what the panel with the slices' heat shows, from 0 to 1; NULL: none */
    bool lines;       /* contours instead of paint */
    double zoom[2];   /* pixels a voxel across and down, at least 1 */
};

/* Cuts slices, whose planes are the caller's to change, to the smallest rectangle with all that is
 * not black or marked in any of them, and a margin: heads fill half of an uncropped slice. Where
 * they differ in size they are cut already, and stay. */
void img_sheet_trim(const struct img_sheet *, struct img_slice *, int n);

/* Draws n slices; 0, or -1 if the sheet would be too large, -2 if memory is short. The picture is
 * freed with img_picture_free. */
int img_sheet_draw(const struct img_sheet *, const struct img_slice *, int n, struct img_picture *);

/* One panel alone, without letters: the first scan, contours of the prediction or else the label on
 * it, or its heat. 0, or as img_sheet_draw. */
enum img_panel { IMG_PANEL_SCAN, IMG_PANEL_LINES, IMG_PANEL_HEAT };
int img_panel_draw(const struct img_slice *, enum img_panel, const double zoom[2],
                   struct img_picture *);

/* What a prediction makes of a voxel that is tumour in it or in truth. */
enum img_verdict { IMG_FOUND, IMG_MIXED, IMG_MISSED, IMG_INVENTED, IMG_VERDICTS };
uint32_t img_verdict_colour(enum img_verdict);

/* Colour of a canonical label as 0xRRGGBB, and its name. */
uint32_t img_class_colour(int label);
const char *img_class_name(int label);

/* Heat as 0xRRGGBB, brighter the hotter it is, and how opaque. */
uint32_t img_heat_colour(uint8_t);
int img_heat_alpha(uint8_t);

/* n values to grey: 0 stays black; the others are spread between the 1st and the 99.5th percentile
 * of the values that are not zero. `scratch` holds n floats. */
void img_to_grey(const float *v, size_t n, float *scratch, uint8_t *grey);
/* The same of parts: n values other than zero, which are sorted, give the range; it gives grey. */
void img_grey_range(float *v, size_t n, float range[2]);
void img_grey(const float *v, size_t n, const float range[2], uint8_t *grey);

#endif
