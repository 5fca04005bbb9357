/* libpng ends an error by a jump, so whoever it jumps back to allocates nothing of his own. */
#include "formats/png.h"

#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/atomic.h"

struct sink {
    struct afile file;
    char *why;
    size_t size;
};

static void put(png_structp png, png_bytep data, size_t n)
{
    struct sink *s = png_get_io_ptr(png);
    if (afile_write(&s->file, data, n, s->why, s->size))
        png_error(png, ""); /* afile_write has said why */
}

static void flush(png_structp png)
{
    (void)png;
}

static void failed(png_structp png, png_const_charp text)
{
    struct sink *s = png_get_error_ptr(png);
    if (*text)
        snprintf(s->why, s->size, "%s", text);
    png_longjmp(png, 1);
}

static void warned(png_structp png, png_const_charp text)
{
    (void)png, (void)text;
}

static int encode(struct sink *s, int width, int height, const uint32_t *pixels, unsigned char *row)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, s, failed, warned);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info) {
        snprintf(s->why, s->size, "out of memory");
        png_destroy_write_struct(&png, NULL);
        return -1;
    }
    if (setjmp(png_jmpbuf(png))) {
        png_destroy_write_struct(&png, &info);
        return -1;
    }
    png_set_write_fn(png, s, put, flush);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            uint32_t v = pixels[(size_t)y * (size_t)width + (size_t)x];
            row[3 * x] = (unsigned char)(v >> 16);
            row[3 * x + 1] = (unsigned char)(v >> 8);
            row[3 * x + 2] = (unsigned char)v;
        }
        png_write_row(png, row);
    }
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    return 0;
}

int png_save(const char *path, int width, int height, const uint32_t *pixels, char *why,
             size_t size)
{
    struct sink s = {.why = why, .size = size};
    unsigned char *row = malloc(3 * (size_t)width);
    if (!row) {
        snprintf(why, size, "out of memory");
        return -1;
    }
    if (afile_open(&s.file, path, why, size)) {
        free(row);
        return -1;
    }
    int e = encode(&s, width, height, pixels, row);
    free(row);
    if (e)
        afile_abort(&s.file);
    else
        e = afile_commit(&s.file, why, size);
    return e;
}
