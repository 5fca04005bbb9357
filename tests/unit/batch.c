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
    /* Each voxel has a number of its own; what lies beyond the slice is 99 and stays. */
    for (int axes = 0; axes < 4; axes++) {
        float planes[2 * H * W], sum[2 * 15];
        int mirrored = 1, added = 1;
        for (int i = 0; i < 2 * H * W; i++)
            planes[i] = i / W % H < 3 && i % W < 5 ? (float)i : 99;
        for (int i = 0; i < 30; i++)
            sum[i] = (float)(1000 * i);
        img_batch_mirror(planes, 2, H, W, 3, 5, axes & 1, axes & 2);
        img_batch_add(planes, 2, H, W, 3, 5, sum);
        for (int i = 0; i < 2 * H * W; i++) {
            int c = i / (H * W), y = i / W % H, x = i % W;
            int from = (c * H + (axes & 2 ? 2 - y : y)) * W + (axes & 1 ? 4 - x : x);
            bool inside = y < 3 && x < 5;
            mirrored &= planes[i] == (float)(inside ? from : 99);
            int at = (c * 3 + y) * 5 + x;
            added &= !inside || sum[at] == (float)(1000 * at + from);
        }
        ok(mirrored, "planes mirrored in%s%s", axes & 1 ? " x" : "", axes & 2 ? " y" : "");
        ok(added, "and added without what lies beyond");
    }
    return done_testing();
}
