/* The memory that processes of train on one machine share: a head for each, then two boxes for
 * each, which are filled in turn, and behind them what the network has there. It has no name, so
 * nothing of it is left when they are gone, and no file system limits it. */
#include "tools/train.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct {
    int fd;
    struct head {
        alignas(64) atomic_ulong filled; /* boxes */
    } *head;
    char *boxes;
    unsigned long filled; /* by this process */
    char *common;
    size_t bytes;
} all = {.fd = -1};

size_t near_bytes(void)
{
    const size_t n = (size_t)share.ranks, page = 4096;
    return (n * sizeof(struct head) + page - 1) / page * page + n * 2 * NEAR_BOX;
}

int near_make(void)
{
#ifdef SYS_memfd_create
    all.fd = (int)syscall(SYS_memfd_create, "train", 1u /* close on exec */);
#endif
    return all.fd;
}

bool near_open(int pid, int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    if (share.rank)
        all.fd = fd < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
    return all.fd >= 0 && (share.rank || !ftruncate(all.fd, (off_t)near_bytes()));
}

static void *map(size_t from, size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, all.fd, (off_t)from);
    return p == MAP_FAILED ? NULL : p;
}

bool near_map(void)
{
    char *p = map(0, near_bytes());
    all.head = (struct head *)p;
    all.boxes = p ? p + near_bytes() - (size_t)share.ranks * 2 * NEAR_BOX : NULL;
    return p;
}

void near_close(void)
{
    if (all.fd >= 0)
        close(all.fd);
    all.fd = -1;
}

void *near_common(size_t bytes)
{
    if (!share.rank && ftruncate(all.fd, (off_t)(near_bytes() + bytes)))
        tool_die("no memory for all processes: %s", strerror(errno));
    near_meet();
    all.bytes = bytes;
    return all.common = map(near_bytes(), bytes);
}

bool near_holds(const void *x)
{
    const char *at = x;
    return all.common && at >= all.common && at < all.common + all.bytes;
}

void *near_box(int rank)
{
    return all.boxes + ((size_t)rank * 2 + all.filled % 2) * NEAR_BOX;
}

/* Who fills his next box has emptied the others' before the one that he fills now: two will do. */
double near_wait(void)
{
    const double began = tool_now();
    const unsigned long mine = all.filled + 1;
    atomic_store_explicit(&all.head[share.rank].filled, mine, memory_order_release);
    share_idle(true);
    for (int r = 0; r < share.ranks; r++)
        for (int tries = 0; atomic_load_explicit(&all.head[r].filled, memory_order_acquire) < mine;
             tries++)
            if (tries < NEAR_TURNS)
                sched_yield();
            else
                nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    share_idle(false);
    return tool_now() - began;
}

void near_next(void)
{
    all.filled++;
}

double near_meet(void)
{
    const double t = near_wait();
    near_next();
    return t;
}

double near_sum(void *x, size_t n, size_t size, void (*add)(void *, const void *, size_t))
{
    enum { LITTLE = 256 };
    static double room[NN_MAX_GROUPS][LITTLE];
    const size_t most = NEAR_BOX / size;
    double waited = 0;
    for (size_t at = 0; at < n; at += most) {
        const size_t some = n - at < most ? n - at : most;
        char *to = (char *)x + at * size;
        memcpy(near_box(share.rank), to, some * size);
        waited += near_wait();
        for (size_t i = 0; i < some; i += LITTLE) {
            const size_t few = some - i < LITTLE ? some - i : LITTLE;
            for (int r = 0; r < share.ranks; r++)
                memcpy(room[r], (char *)near_box(r) + i * size, few * size);
            for (int step = 1; step < share.ranks; step *= 2)
                for (int r = 0; r + step < share.ranks; r += 2 * step)
                    add(room[r], room[r + step], few);
            memcpy(to + i * size, room[0], few * size);
        }
        near_next();
    }
    return waited;
}
