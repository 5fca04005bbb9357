/* One lock and one condition for all: what waits here waits for milliseconds of somebody's work. */
#include "lib/base/ring.h"

#include <stdbool.h>

static bool has_turn(const struct ring *r, unsigned stage)
{
    uint64_t number = r->next[stage];
    if (stage == 0)
        return number - r->freed < r->slots && number < r->end;
    return number < r->next[0] && r->slot[number % r->slots].stage == stage;
}

struct ring_turn ring_take(struct ring *r, unsigned first, unsigned last)
{
    unsigned stage = last;
    pthread_mutex_lock(&r->lock);
    while (!has_turn(r, stage))
        if (stage > first) {
            stage--;
        } else {
            pthread_cond_wait(&r->changed, &r->lock);
            stage = last;
        }
    struct ring_turn t = {.stage = stage, .number = r->next[stage]};
    t.slot = (unsigned)(t.number % r->slots);
    if (stage == 0)
        r->slot[t.slot].parts = r->slot[t.slot].open = r->slot[t.slot].coming = 1;
    t.part = r->slot[t.slot].taken++;
    r->next[stage] += r->slot[t.slot].taken == r->slot[t.slot].parts;
    pthread_mutex_unlock(&r->lock);
    return t;
}

void ring_split(struct ring *r, unsigned slot, unsigned parts)
{
    r->slot[slot].coming = parts;
}

void ring_pass(struct ring *r, unsigned slot)
{
    pthread_mutex_lock(&r->lock);
    if (--r->slot[slot].open == 0) {
        unsigned n = r->slot[slot].coming, stage = (r->slot[slot].stage + 1) % r->stages;
        r->slot[slot].stage = stage;
        r->slot[slot].taken = 0;
        r->slot[slot].parts = r->slot[slot].open = n;
        r->slot[slot].coming = 1;
        r->freed += stage == 0;
        pthread_cond_broadcast(&r->changed);
    }
    pthread_mutex_unlock(&r->lock);
}

void ring_drain(struct ring *r)
{
    pthread_mutex_lock(&r->lock);
    while (r->freed != r->next[0])
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}
