/* Slices of unequal size as one batch: every value where it belongs, and nothing else beyond. */
#include "lib/image/batch.h"
#include "tests/lib/tap.h"

int main(void)
{
    int16_t value[2 * 3 * 5];
    for (int i = 0; i < 30; i++)
        value[i] = (int16_t)(i - 9);
    struct tensor image = {.dtype = DT_I16, .rank = 3, .dim = {2, 3, 5}, .data = value};
    enum { H = 4, W = 8 };
    static const int swapped[] = {1, 0};
    for (int o = 0; o < 2; o++) {
        float got[2 * H * W + 1];
        int right = 1;
        for (int i = 0; i < 2 * H * W + 1; i++)
            got[i] = 99;
        img_batch_image(&image, o ? swapped : NULL, H, W, got);
        for (int c = 0; c < 2; c++)
            for (int y = 0; y < H; y++)
                for (int x = 0; x < W; x++) {
                    int from = o ? 1 - c : c,
                        want = y < 3 && x < 5 ? (from * 3 + y) * 5 + x - 9 : 0;
                    right &= got[(c * H + y) * W + x] == (float)want;
                }
        ok(right && got[2 * H * W] == 99, "an image, its channels %s",
           o ? "swapped" : "as they are");
    }

    uint8_t bytes[6] = {1, 2, 3, 4, 5, 6}, got[H * W + 1] = {0};
    struct tensor label = {.dtype = DT_U8, .rank = 2, .dim = {2, 3}, .data = bytes};
    int right = 1;
    img_batch_label(&label, 255, H, W, got);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            right &= got[y * W + x] == (y < 2 && x < 3 ? bytes[y * 3 + x] : 255);
    ok(right && !got[H * W], "a label, 255 around it");
    return done_testing();
}
