/* Slots that go round: their order, how far one stage gets ahead of another, parts, the end. */
#include "lib/base/ring.h"
#include "tests/lib/tap.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { FILL, WORK, EMPTY, SLOTS = 3, ROUNDS = 4000, WORKERS = 3, PARTS = 4 };

static struct ring ring = RING(SLOTS, 3);
static struct {
    uint64_t value;
    atomic_uint parts;
} slot[SLOTS];
static atomic_long full; /* slots between FILL and EMPTY */
static atomic_int wrong;

static void *fill(void *unused)
{
    (void)unused;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        struct ring_turn t = ring_take(&ring, FILL, FILL);
        wrong += t.number != i || t.slot != i % SLOTS || t.part || ++full > SLOTS;
        slot[t.slot].value = i;
        slot[t.slot].parts = 0;
        ring_split(&ring, t.slot, 1 + i % PARTS);
        ring_pass(&ring, t.slot);
    }
    return NULL;
}

static void *work(void *unused)
{
    (void)unused;
    for (;;) {
        struct ring_turn t = ring_take(&ring, WORK, WORK);
        uint64_t value = slot[t.slot].value;
        wrong += value != t.number || t.part > value % PARTS;
        wrong += (atomic_fetch_or(&slot[t.slot].parts, 1u << t.part) & 1u << t.part) != 0;
        ring_pass(&ring, t.slot);
    }
    return NULL;
}

static void stages(void)
{
    pthread_t t;
    pthread_create(&t, NULL, fill, NULL);
    for (int i = 0; i < WORKERS; i++) {
        pthread_t worker;
        pthread_create(&worker, NULL, work, NULL);
        pthread_detach(worker);
    }
    uint64_t i;
    for (i = 0; i < ROUNDS; i++) {
        struct ring_turn turn = ring_take(&ring, EMPTY, EMPTY);
        const unsigned all = (1u << (1 + i % PARTS)) - 1;
        wrong += turn.number != i || slot[turn.slot].value != i || slot[turn.slot].parts != all;
        full--;
        ring_pass(&ring, turn.slot);
    }
    pthread_join(t, NULL);
    ok(!wrong, "%d fillings went through in order, each part once, no more than %d at a time",
       ROUNDS, SLOTS);
    ring_drain(&ring);
    ok(full == 0, "a ring that is empty is drained at once");
}

/* One thread that serves two stages does the older work first, and no more than there is. */
static void ends(void)
{
    struct ring r = RING(2, 2);
    r.end = 3;
    static const unsigned stage[] = {0, 1, 0, 1, 0, 1};
    static const uint64_t number[] = {0, 0, 1, 1, 2, 2};
    int right = 1;
    for (int i = 0; i < 6; i++) {
        struct ring_turn t = ring_take(&r, 0, 1);
        right &= t.stage == stage[i] && t.number == number[i] && t.slot == number[i] % 2;
        ring_pass(&r, t.slot);
    }
    ok(right, "the later stage first, and stage 0 as often as it may");
    ring_drain(&r);
    ok(r.freed == 3, "then it is at its end");
}

int main(void)
{
    stages();
    ends();
    return done_testing();
}
