/* Several processes of train that share each batch: what they tell each other, by train_mpi.c.
 *
 * Sums go up a binary tree of the processes, as those of groups do within one (nn.h), so that they
 * are the same for any number of them. A thread beside the training moves gradients while the
 * backward pass goes on, and lets the others know that this process is at work: who has not moved
 * for as long as the limit says nothing, and is named by those who listen. One thing: both threads
 * talk over one connection, under one lock. */
#include "tools/train.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct share share = {.ranks = 1};

enum { SUMS = 1, GRADIENT, BEAT, DATA }; /* tags */
enum { PIECE = 1 << 20 };                /* floats that are summed at once */
enum { NAME = 48, QUEUE = 64 };
/* Of MPI, as measured, and of the memory that it shares with each of the others. */
#define SHARE_BYTES ((size_t)10 << 20)
#define SHARE_EACH ((size_t)4 << 20)
#define BEATS 0.2 /* seconds between two signs of life */
/* A launcher asks the others to end when one has died, and does not wait for long. */
#define GRACE 0.6

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* around each call of MPI */
static char (*name)[NAME];                               /* of each process' machine */
static double limit, *heard;                             /* when, of each */
static bool *told; /* a sign of life is on its way to him, by this request */
static int *telling;
static atomic_ulong ticks; /* this process has moved */
static atomic_int waiting; /* or waits for others, or for what may take as long as it likes */
static atomic_bool over;
static double waited; /* seconds, of the thread that trains, for others */
static pthread_t beside;
static bool watching;
static float *piece;

/* Gradients on their way, in order. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct {
        float *x;
        size_t n;
    } of[QUEUE];
    unsigned begun, done, taken;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void beat(void);

const char *share_name(int rank)
{
    static _Thread_local char text[NAME + 32];
    snprintf(text, sizeof text, "rank %d (%s)", rank, name[rank]);
    return text;
}

void share_tick(void)
{
    atomic_fetch_add(&ticks, 1);
}

void share_idle(bool idle)
{
    atomic_fetch_add(&waiting, idle ? 1 : -1);
}

double share_waited(void)
{
    const double t = waited;
    waited = 0;
    return t;
}

/* --- transfers ---------------------------------------------------------------------------------*/

static int post(bool send, int whom, int tag, void *data, size_t bytes)
{
    pthread_mutex_lock(&lock);
    const int id = send ? mpi_send(whom, tag, data, bytes) : mpi_receive(whom, tag, data, bytes);
    pthread_mutex_unlock(&lock);
    return id;
}

/* Waits for both, or for one. Whoever waits for a moment lets others have the processor; whoever
 * waits longer sleeps. */
static void finish(int a, int b)
{
    const bool me = watching && pthread_equal(pthread_self(), beside);
    const double began = me ? 0 : tool_now();
    bool ready[2] = {false, b < 0};
    share_idle(true);
    for (int tries = 0;; tries++) {
        pthread_mutex_lock(&lock);
        ready[0] = ready[0] || mpi_done(a);
        ready[1] = ready[1] || mpi_done(b);
        pthread_mutex_unlock(&lock);
        if (ready[0] && ready[1])
            break;
        if (me)
            beat();
        if (tries < 400)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = tries < 800 ? 20000 : 100000}, NULL);
    }
    share_idle(false);
    waited += me ? 0 : tool_now() - began;
}

static void give(int to, int tag, const void *data, size_t bytes)
{
    finish(post(true, to, tag, (void *)(uintptr_t)data, bytes), -1);
}

static void get(int from, int tag, void *data, size_t bytes)
{
    finish(post(false, from, tag, data, bytes), -1);
}

static void swap(int with, int tag, const void *out, size_t sent, void *in, size_t received)
{
    const int a = post(false, with, tag, in, received);
    finish(post(true, with, tag, (void *)(uintptr_t)out, sent), a);
}

/* Anything large, in pieces. */
static void carry(void (*one)(int, int, void *, size_t), int whom, void *data, size_t bytes)
{
    const size_t most = PIECE * sizeof(float);
    for (size_t at = 0; at < bytes; at += most)
        one(whom, DATA, (char *)data + at, bytes - at < most ? bytes - at : most);
}

static void give_piece(int to, int tag, void *data, size_t bytes)
{
    give(to, tag, data, bytes);
}

void share_from_first(void *data, size_t bytes)
{
    for (int r = 1; r < share.ranks && !share.rank; r++)
        carry(give_piece, r, data, bytes);
    if (share.rank)
        carry(get, 0, data, bytes);
}

void share_to_first(const void *data, size_t bytes,
                    void (*take)(void *ctx, int rank, const void *data, size_t bytes), void *ctx)
{
    uint64_t n = bytes;
    if (share.rank) {
        give(0, DATA, &n, sizeof n);
        carry(give_piece, 0, (void *)(uintptr_t)data, bytes);
        return;
    }
    for (int r = 1; r < share.ranks; r++) {
        get(r, DATA, &n, sizeof n);
        char *text = tool_alloc(n);
        carry(get, r, text, n);
        take(ctx, r, text, n);
        free(text);
    }
}

void share_same(const char *what, const char *text)
{
    uint64_t n = strlen(text) + 1;
    if (share.ranks == 1)
        return;
    share_from_first(&n, sizeof n);
    char *first = tool_alloc(n);
    if (!share.rank)
        memcpy(first, text, n);
    share_from_first(first, n);
    if (strcmp(first, text))
        tool_die("another %s than rank 0 has (wanted '%.200s', got '%.200s')", what, first, text);
    free(first);
}

/* --- sums --------------------------------------------------------------------------------------*/

static void add_doubles(void *to, const void *from, size_t n)
{
    double *x = to;
    const double *y = from;
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

static void add_floats(void *to, const void *from, size_t n)
{
    float *x = to;
    const float *y = from;
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

static bool even(void) /* a tree without gaps */
{
    return !(share.ranks & (share.ranks - 1));
}

/* Each pair adds up for itself what both have: a + b is b + a, so they have the same. */
static void sum(int tag, void *x, void *room, size_t n, size_t size,
                void (*add)(void *, const void *, size_t))
{
    const int r = share.rank, all = share.ranks;
    int step = 1;
    if (even()) {
        for (; step < all; step *= 2) {
            swap(r ^ step, tag, x, n * size, room, n * size);
            add(x, room, n);
        }
        return;
    }
    for (; step < all && r % (2 * step) == 0; step *= 2)
        if (r + step < all) {
            get(r + step, tag, room, n * size);
            add(x, room, n);
        }
    if (r) {
        give(r - step, tag, x, n * size);
        get(r - step, tag, x, n * size);
    }
    for (step /= 2; step; step /= 2)
        if (r + step < all)
            give(r + step, tag, x, n * size);
}

/* The same tree, but of each pair one adds up the first half and the other the second; then, back
 * down, they give each other what they have. */
static void sum_halves(float *x, size_t n)
{
    size_t from[16], length[16];
    int k = 0;
    for (int step = 1; step < share.ranks; step *= 2, k++) {
        const bool upper = share.rank & step;
        const size_t half = n / 2;
        float *mine = upper ? x + half : x, *theirs = upper ? x : x + half;
        const size_t own = upper ? n - half : half;
        swap(share.rank ^ step, GRADIENT, theirs, (n - own) * sizeof *x, piece, own * sizeof *x);
        add_floats(mine, piece, own);
        from[k] = n, length[k] = own;
        x = mine, n = own;
    }
    for (int step = share.ranks / 2; step && k--; step /= 2) {
        const bool upper = share.rank & step;
        float *begin = upper ? x - (from[k] - length[k]) : x;
        float *theirs = upper ? begin : begin + length[k];
        swap(share.rank ^ step, GRADIENT, x, length[k] * sizeof *x, theirs,
             (from[k] - length[k]) * sizeof *x);
        x = begin;
    }
}

static void sum_gradient(float *x, size_t n)
{
    char here = 0, there;
    if (even() && n >= (size_t)share.ranks * 1024) { /* first be there, both, and then at once */
        for (int step = 1; step < share.ranks; step *= 2)
            swap(share.rank ^ step, GRADIENT, &here, 1, &there, 1);
        for (size_t at = 0; at < n; at += PIECE)
            sum_halves(x + at, n - at < PIECE ? n - at : PIECE);
        return;
    }
    for (size_t at = 0; at < n; at += PIECE)
        sum(GRADIENT, x + at, piece, n - at < PIECE ? n - at : PIECE, sizeof *x, add_floats);
}

int share_sums(void *ctx, double *sums, size_t n)
{
    static double *room;
    static size_t most;
    (void)ctx;
    if (share.ranks == 1)
        return 0;
    if (n > most) {
        free(room);
        room = tool_alloc((most = n) * sizeof *room);
    }
    sum(SUMS, sums, room, n, sizeof *sums, add_doubles);
    return 0;
}

/* --- the thread beside -------------------------------------------------------------------------*/

static bool listens(int to) /* whether he listens to this process, and it to him */
{
    return to != share.rank && (!to || !share.rank);
}

static _Noreturn void silent(int rank, double now)
{
    tool_die("%s has not been heard of for %.1f s: it %s; -r goes on from the last checkpoint",
             share_name(rank), now - heard[rank],
             share.stop ? "has ended" : "hangs, or what it reads or writes does");
}

/* A sign of life, if there was some, and what the others say. */
static void beat(void)
{
    static double last, asked;
    static unsigned long seen;
    static char sign;
    const double now = tool_now(), slept = now - last;
    if (slept < BEATS)
        return;
    const bool moved = atomic_load(&waiting) > 0 || atomic_load(&ticks) != seen;
    last = now;
    seen = atomic_load(&ticks);
    pthread_mutex_lock(&lock);
    if (atomic_load(&over)) {
        pthread_mutex_unlock(&lock);
        return;
    }
    for (int r = 0; r < share.ranks; r++) {
        told[r] = told[r] && !mpi_done(telling[r]);
        if (moved && listens(r) && !told[r]) {
            telling[r] = mpi_send(r, BEAT, &sign, 1);
            told[r] = true;
        }
        if (slept > limit / 2) /* who sleeps hears nobody */
            heard[r] = now;
    }
    for (int r; (r = mpi_ready(BEAT)) >= 0;) {
        static char theirs;
        const int id = mpi_receive(r, BEAT, &theirs, 1);
        while (!mpi_done(id))
            ;
        heard[r] = now;
    }
    pthread_mutex_unlock(&lock);
    if (!share.stop)
        asked = now;
    for (int r = 0; r < share.ranks && !atomic_load(&over); r++)
        if (listens(r) && (now - heard[r] > limit + (share.rank > 1 ? 5 * share.rank : 0) ||
                           (now - asked > GRACE && now - heard[r] > GRACE)))
            silent(r, now);
}

static void *stand_beside(void *unused)
{
    (void)unused;
    beside = pthread_self();
    watching = true;
    pthread_mutex_lock(&queue.lock);
    while (!atomic_load(&over)) {
        struct timespec until;
        if (queue.done == queue.begun) {
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += (long)(BEATS * 1e9);
            until.tv_sec += until.tv_nsec / 1000000000;
            until.tv_nsec %= 1000000000;
            pthread_cond_timedwait(&queue.changed, &queue.lock, &until);
        }
        const bool work = queue.done != queue.begun;
        const unsigned i = queue.done % QUEUE;
        pthread_mutex_unlock(&queue.lock);
        if (work)
            sum_gradient(queue.of[i].x, queue.of[i].n);
        beat();
        pthread_mutex_lock(&queue.lock);
        queue.done += work;
        pthread_cond_broadcast(&queue.changed);
    }
    pthread_mutex_unlock(&queue.lock);
    return NULL;
}

static int start(void *ctx, float *gradient, size_t n)
{
    (void)ctx;
    pthread_mutex_lock(&queue.lock);
    if (queue.begun - queue.taken == QUEUE)
        tool_die("more gradients at once than %d", QUEUE);
    queue.of[queue.begun % QUEUE].x = gradient;
    queue.of[queue.begun++ % QUEUE].n = n;
    pthread_cond_broadcast(&queue.changed);
    pthread_mutex_unlock(&queue.lock);
    return 0;
}

/* Of that which was started first. */
static int gradient(void *ctx, float *x, size_t n)
{
    const double began = tool_now();
    (void)ctx, (void)x, (void)n;
    share_idle(true);
    pthread_mutex_lock(&queue.lock);
    while (queue.done == queue.taken)
        pthread_cond_wait(&queue.changed, &queue.lock);
    queue.taken++;
    pthread_mutex_unlock(&queue.lock);
    share_idle(false);
    waited += tool_now() - began;
    return 0;
}

static void progress(void *ctx, int step, int steps)
{
    (void)ctx, (void)step, (void)steps;
    share_tick();
}

struct nn_hooks share_hooks(void)
{
    if (share.ranks == 1)
        return (struct nn_hooks){0};
    return (struct nn_hooks){
        .sums = share_sums, .start = start, .gradient = gradient, .progress = progress};
}

/* --- beginning and end -------------------------------------------------------------------------*/

/* A process that dies takes the others along. */
static void end_all(void)
{
    struct timespec soon;
    if (atomic_exchange(&over, true))
        return;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_sec += 1;
    pthread_mutex_timedlock(&lock, &soon);
    mpi_abort();
}

static void note_name(void *ctx, int rank, const void *data, size_t bytes)
{
    (void)ctx, (void)bytes;
    memcpy(name[rank], data, NAME);
}

size_t share_memory(void)
{
    return share.ranks > 1 ? SHARE_BYTES + (size_t)share.ranks * SHARE_EACH + PIECE * sizeof *piece
                           : 0;
}

void share_begin(double seconds)
{
    double one = 1;
    char host[NAME] = "";
    mpi_begin(&share.rank, &share.ranks);
    if (share.ranks == 1)
        return;
    limit = seconds;
    const size_t n = (size_t)share.ranks;
    name = tool_alloc(n * sizeof *name);
    heard = tool_alloc(n * sizeof *heard);
    telling = tool_alloc(n * sizeof *telling);
    told = tool_alloc(n * sizeof *told);
    piece = tool_alloc(PIECE * sizeof *piece);
    memset(told, 0, n * sizeof *told);
    gethostname(host, sizeof host - 1);
    memcpy(name[share.rank], host, NAME);
    /* Whoever will talk has talked: a confined process opens no connection any more. */
    share_to_first(host, sizeof host, note_name, NULL);
    share_from_first(name, n * sizeof *name);
    share_sums(NULL, &one, 1);
    for (size_t r = 0; r < n; r++)
        heard[r] = tool_now();
    static char called[NAME + 64];
    snprintf(called, sizeof called, "%s: %s", tool_name(), share_name(share.rank));
    tool_call_itself(called);
    tool_may_talk();
    atexit(end_all);
}

void share_watch(void)
{
    if (share.ranks > 1)
        pthread_detach(tool_thread(stand_beside));
}

void share_end(void)
{
    double last = 0;
    if (share.ranks == 1) {
        return;
    }
    share_sums(NULL, &last, 1);
    atomic_store(&over, true);
    pthread_mutex_lock(&queue.lock);
    pthread_cond_broadcast(&queue.changed);
    pthread_mutex_unlock(&queue.lock);
    pthread_mutex_lock(&lock);
    mpi_end();
    pthread_mutex_unlock(&lock);
}

void share_follow(void)
{
    share_idle(true);
    while (share.rank)
        pause();
    share_idle(false);
}
