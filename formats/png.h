/* png.h - writes a picture as PNG (ISO/IEC 15948), through libpng. 8 bits, RGB, no interlace. */
#ifndef PNG_OUT_H
#define PNG_OUT_H

#include <stddef.h>
#include <stdint.h>

/* Rows of native 32-bit words 0x00RRGGBB without gaps. The file appears under its name when it is
 * whole (atomic.h). 0, or -1 with one line of text in `why`. */
int png_save(const char *path, int width, int height, const uint32_t *pixels, char *why,
             size_t size) __attribute__((warn_unused_result));

#endif
