/* Letters on a picture: each stands on its line, within its width, and looks like no other. */
#include "lib/image/canvas.h"
#include "tests/lib/tap.h"

#include <string.h>

static struct img_picture p;

static int marks(void) /* pixels that are not black */
{
    int n = 0;
    for (int i = 0; i < p.width * p.height; i++)
        n += p.pixels[i] != 0;
    return n;
}

static void wipe(void)
{
    memset(p.pixels, 0, (size_t)p.width * (size_t)p.height * 4);
}

static uint32_t at(int x, int y)
{
    return p.pixels[y * p.width + x];
}

int main(void)
{
    ok(img_picture_new(&p, 64, 32, 0x102030) == 0 && at(0, 0) == 0x102030 && at(63, 31) == 0x102030,
       "a picture of one colour");

    wipe();
    img_box(&p, 10, 5, 3, 2, 0xff8040, 255);
    ok(marks() == 6 && at(10, 5) == 0xff8040 && at(12, 6) == 0xff8040, "an opaque box");
    img_box(&p, 10, 5, 1, 1, 0x000000, 51); /* a fifth of black: four fifths of each colour stay */
    ok(at(10, 5) == 0xcc6633, "a box that lets a part shine through");
    wipe();
    img_box(&p, -5, -5, 7, 6, 0xffffff, 255);
    img_box(&p, 62, 30, 9, 9, 0xffffff, 255);
    ok(marks() == 2 + 4, "what lies outside is cut off");

    uint8_t grey[6] = {10, 20, 30, 40, 50, 60};
    int bad = 0;
    wipe();
    img_scan(&p, grey, &(struct img_area){3, 2, 4, 4, 3, 2});
    for (int i = 0; i < 6; i++)
        bad += at(4 + i % 3, 4 + i / 3) != grey[i] * 0x010101u;
    ok(!bad && marks() == 6, "a scan voxel by voxel");
    wipe();
    img_scan(&p, grey, &(struct img_area){3, 2, 0, 0, 24, 16});
    /* Pixel 11 is 3.5 of 8 from the first voxel's centre to the second's: 7.5 - 4 of 8. */
    ok(at(0, 0) == 0x0a0a0a && at(23, 15) == 0x3c3c3c && at(7, 0) == 14 * 0x010101u &&
           marks() == 24 * 16,
       "a scan interpolated between centres, its borders as they are");

    bad = 0;
    for (int c = '!'; c <= '~'; c++) {
        char s[2] = {(char)c, 0};
        wipe();
        img_text(&p, 4, 24, 15, false, 0xffffff, s);
        int here = marks(), inside = 1;
        for (int y = 0; y < p.height; y++)
            for (int x = 0; x < p.width; x++)
                inside &=
                    !at(x, y) || (x >= 3 && x <= 5 + img_text_width(15, s) && y >= 10 && y <= 28);
        bad += here < 3 || !inside;
        for (int d = '!'; d < c; d++) { /* no two look the same */
            static uint32_t first[64 * 32];
            char t[2] = {(char)d, 0};
            memcpy(first, p.pixels, sizeof first);
            wipe();
            img_text(&p, 4, 24, 15, false, 0xffffff, t);
            bad += !memcmp(first, p.pixels, sizeof first);
            memcpy(p.pixels, first, sizeof first);
        }
    }
    ok(!bad, "every character stands on its line, within its width, and looks like no other");
    wipe();
    img_text(&p, 4, 24, 15, false, 0xffffff, " ");
    ok(marks() == 0 && img_text_width(15, " ") > 0, "a blank takes room alone");
    ok(img_text_width(15, "\303\274") == img_text_width(15, "\1"),
       "one box for one character of UTF-8");
    ok(img_text_width(15, "ab") > img_text_width(15, "a") && img_text_width(15, "") == 0,
       "widths add up");
    img_text(&p, -40, 3, 20, true, 0xffffff,
             "outside, above and to the left, and far beyond the right");
    ok(at(0, 31) == 0, "text is cut off too");
    img_picture_free(&p);
    return done_testing();
}
