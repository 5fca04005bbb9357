/* canvas.h - boxes and text on a picture in memory.
 *
 * All that a sheet of slices needs, and no more: a font of strokes instead of the system's fonts,
 * so that the same stream gives the same picture on every machine, and nothing can fail once the
 * picture is allocated. (Cairo was measured to drop a fill, and fontconfig to crash, where memory
 * is short.) What lies outside the picture is cut off. */
#ifndef CANVAS_H
#define CANVAS_H

#include <stdbool.h>
#include <stdint.h>

/* Pixels: one native 32-bit word each, 0x00RRGGBB, row after row without gaps. */
struct img_picture {
    int width, height;
    uint32_t *pixels;
};

/* A picture of one colour; 0, or -1 if memory is short. Sides at most 32767. */
int img_picture_new(struct img_picture *, int width, int height, uint32_t rgb);
void img_picture_free(struct img_picture *);

/* Colours are 0xRRGGBB; alpha runs from 0, nothing, to 255, opaque. */
void img_box(struct img_picture *, int x, int y, int w, int h, uint32_t rgb, int alpha);

/* Where a slice of w by h voxels lies on a picture: at (x, y), wide by high pixels, at least one
 * for each voxel. */
struct img_area {
    int w, h, x, y, wide, high;
};

/* The first pixel of a voxel's column or row; w or h gives where the area ends. And the column or
 * row of a pixel. */
int img_area_x(const struct img_area *, int column);
int img_area_y(const struct img_area *, int row);
int img_area_column(const struct img_area *, int x);
int img_area_row(const struct img_area *, int y);

/* A grey image, interpolated between the voxels' centres. */
void img_scan(struct img_picture *, const uint8_t *grey, const struct img_area *);

/* Text that begins at x and stands on the line y; size is that of the line in pixels. Printable
 * ASCII; any other character is an empty box. */
void img_text(struct img_picture *, int x, int y, int size, bool bold, uint32_t rgb, const char *);
int img_text_width(int size, const char *);

#endif
