/* A volume in a file, in bricks of 32x32x16 voxels, mapped into memory.
 *
 * A plane of a plain volume that stands across its rows touches a page for each of them: all there
 * are. Of bricks it touches those that it cuts: as many as a layer of them has, and some more where
 * it is turned. A brick of floats is 64 KiB, which is what Linux maps of a file around the place
 * that is asked for, so that no smaller one would take less. It also maps at once what was written
 * at once, so each is written by itself. */
#include "tools/tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const uint32_t side[3] = {32, 32, 16};
enum { BRICK = 32 * 32 * 16, AROUND = 65536 };

struct tool_volume *tool_volume_new(int fd, const char *dir, const uint32_t grid[3], size_t voxel)
{
    struct tool_volume *v = tool_alloc(sizeof *v);
    size_t within = 1, brick = BRICK;

    *v = (struct tool_volume){.fd = fd, .dir = dir, .voxel = voxel};
    for (int c = 0; c < 3; c++) {
        v->grid[c] = grid[c];
        v->at[c] = tool_alloc(grid[c] * sizeof *v->at[c]);
        for (uint32_t i = 0; i < grid[c]; i++)
            v->at[c][i] = i / side[c] * brick + i % side[c] * within;
        within *= side[c];
        v->room = brick * voxel;
        brick *= (grid[c] + side[c] - 1) / side[c];
    }
    v->bytes = brick * voxel;
    v->layer = tool_alloc(v->room);
    memset(v->layer, 0, v->room);
    return v;
}

void tool_volume_put(struct tool_volume *v, const void *plane)
{
    const size_t row = v->grid[0] * v->voxel, first = v->next / side[2] * v->room,
                 within = v->at[2][v->next] * v->voxel - first;

    for (uint32_t y = 0; y < v->grid[1]; y++)
        for (uint32_t x = 0; x < v->grid[0]; x += side[0]) {
            uint32_t n = v->grid[0] - x < side[0] ? v->grid[0] - x : side[0];
            memcpy(v->layer + within + (v->at[0][x] + v->at[1][y]) * v->voxel,
                   (const char *)plane + y * row + x * v->voxel, n * v->voxel);
        }
    if (++v->next % side[2] == 0 || v->next == v->grid[2])
        for (size_t at = 0; at < v->room; at += AROUND) {
            size_t n = v->room - at < AROUND ? v->room - at : AROUND;
            tool_put_at(v->fd, v->dir, v->layer + at, n, first + at);
        }
}

void tool_volume_show(struct tool_volume *v)
{
    static bool told;
    char *place;

    free(v->layer);
    v->layer = NULL;
    if (!told)
        tool_maps(v->dir);
    told = true;
    /* Where a brick begins, what is mapped around it begins, too. */
    place = mmap(NULL, v->bytes + AROUND, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place != MAP_FAILED) {
        size_t odd = (uintptr_t)place % AROUND;
        munmap(place, AROUND - odd);
        munmap(place + AROUND - odd + v->bytes, odd);
        place = mmap(place + AROUND - odd, v->bytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, v->fd, 0);
    }
    if (place == MAP_FAILED)
        tool_die("%s: temporary file: %s", v->dir, strerror(errno));
    v->voxels = place;
}

void tool_volume_forget(struct tool_volume *v)
{
    if (madvise((void *)v->voxels, v->bytes, MADV_DONTNEED))
        tool_die("%s: temporary file: %s", v->dir, strerror(errno));
}

void tool_volume_free(struct tool_volume *v)
{
    if (!v)
        return;
    if (v->voxels)
        munmap((void *)v->voxels, v->bytes);
    for (int c = 0; c < 3; c++)
        free(v->at[c]);
    free(v->layer);
    free(v);
}
