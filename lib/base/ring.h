/* ring.h - a few slots that go round between threads: filled, worked on, emptied, filled again.
 *
 * A slot passes the stages 0 .. stages - 1 one after the other; behind the last it is free for
 * stage 0. Each stage gets the slots in the order in which stage 0 took them. So a thread that
 * fills, one that computes and one that writes are three stages, and what is written has the order
 * of what was read; the number of slots bounds how far one may be ahead of another, and what that
 * takes of memory.
 *
 * Several threads may serve a stage, but for the last, and a stage of a slot may have several
 * parts, taken one by one; it is over when all of them are. */
#ifndef RING_H
#define RING_H

#include <pthread.h>
#include <stdint.h>

#define RING_SLOTS 18
#define RING_STAGES 4

struct ring {
    unsigned slots, stages;
    uint64_t end; /* stage 0 takes slots so many times */
    /* private */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t next[RING_STAGES], freed; /* how often each stage took a slot, all its parts */
    struct {
        unsigned stage, parts, taken, open, coming; /* the stage it waits for or is in, its parts,
                                                       those of the next */
    } slot[RING_SLOTS];
};

/* To begin with, without an end; one may be set before the first call. */
#define RING(slots_, stages_)                                                                      \
    {.slots = (slots_),                                                                            \
     .stages = (stages_),                                                                          \
     .end = UINT64_MAX,                                                                            \
     .lock = PTHREAD_MUTEX_INITIALIZER,                                                            \
     .changed = PTHREAD_COND_INITIALIZER}

struct ring_turn {
    unsigned slot, stage, part;
    uint64_t number; /* how often stage 0 had taken a slot before this one */
};

/* Waits for the turn of one of the stages first .. last, the latest that has one: its slot, or a
 * part of it, is the caller's until ring_pass. */
struct ring_turn ring_take(struct ring *, unsigned first, unsigned last);

/* The next stage of a slot that the caller has will have so many parts (1 if nobody says). */
void ring_split(struct ring *, unsigned slot, unsigned parts);

/* The caller's part of the slot's stage is done. */
void ring_pass(struct ring *, unsigned slot);

/* Waits until every slot is free. For stage 0, while it has none. */
void ring_drain(struct ring *);

#endif
