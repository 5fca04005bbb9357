/* Several processes of train that share each batch: what they tell each other, by train_mpi.c.
 *
 * Sums go up a binary tree of the processes, as those of groups do within one (nn.h), so that they
 * are the same for any number of them. Of a large parameter each process adds up the gradient of a
 * part, and steps it. On one machine (train_near.c) they do so in memory that they share, where the
 * parameter lies once for all. Between machines each gives the others what it has stepped; a thread
 * beside the training sends and receives while the backward pass goes on. It lets them know that
 * this process is at work: who has not moved for as long as the limit says nothing, and is named by
 * those who listen. Another thread waits for the death of a process of this machine. Who names one,
 * or dies of something else with a line, tells all, and nobody says more. One thing: the threads
 * talk over one connection, under one lock. */
#include "tools/train.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct share share = {.ranks = 1};

enum { SUMS = 1, GRADIENT, BEAT, DATA, PARTS }; /* tags */
enum { PIECE = 4 << 20 };                       /* bytes of a message of what is no number */
enum { SMALL = 1024 };                          /* parameters that everybody has whole */
enum { NAME = 48, QUEUE = 64, MOST = NN_MAX_GROUPS };
/* Of MPI, as measured, and of the memory that it shares with each of the others. */
#define SHARE_BYTES ((size_t)10 << 20)
#define SHARE_EACH ((size_t)4 << 20)
#define SHARE_ALONE ((size_t)6 << 20) /* of one that is alone, after all */
#define BEATS 0.2                     /* seconds between two signs of life */
/* A launcher asks the others to end when one has died, and does not wait for long. */
#define GRACE 0.6
#define TURN 0.02 /* seconds that each rank lets those below speak first */

enum { ALIVE, SAID }; /* signs of life; of what is to come, somebody has told */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* around each call of MPI */
static char (*name)[NAME];                               /* of each process' machine */
static double limit, *heard;                             /* when, of each */
static bool *told; /* a sign of life is on its way to him, by this request */
static int *telling;
static int *watched; /* a descriptor that tells of his death, if he is on this machine; or -1 */
static atomic_bool said;
static atomic_ulong ticks; /* this process has moved */
static atomic_int waiting; /* or waits for others, or for what may take as long as it likes */
static atomic_bool over;
static double waited; /* seconds, of the thread that trains, for others */
static pthread_t beside;
static bool watching;
static bool launched; /* by MPI */

/* Numbers go in messages that MPI sends at once, few of them at a time: others, such as the sums
 * that a pass waits for, stand behind these on the line. */
enum { MESSAGE = 15 << 10, FLIGHT = 2 }; /* numbers, messages */
static struct {
    float *sum;                                         /* of a small parameter */
    float *of[FLIGHT];                                  /* of each process, a message */
    uint16_t out[FLIGHT][MESSAGE], in[FLIGHT][MESSAGE]; /* of bf16 */
} *far;

static bool near;   /* all are on this machine, and share memory */
static bool narrow; /* gradients travel as bf16, and between machines all of them to all */

/* Gradients that are to be summed, and parameters to be spread, in order. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct job {
        bool spread;
        float *x;
        size_t n;
    } of[QUEUE];
    unsigned begun, done, summed, taken;
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

static void nap(double seconds)
{
    struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - floor(seconds)))};
    nanosleep(&t, NULL);
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
 * waits longer sleeps, but for numbers that come through memory, which it moves itself. */
static void finish(int a, int b)
{
    const bool me = watching && pthread_equal(pthread_self(), beside);
    const int busy = near && !me ? NEAR_TURNS : 400;
    const double began = me ? 0 : tool_now();
    bool ready[2] = {a < 0, b < 0};
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
        if (tries < busy)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = tries < busy + 400 ? 20000 : 100000}, NULL);
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
    const size_t most = PIECE;
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
    for (size_t i = 0; i < n && !narrow; i++)
        x[i] += y[i];
    for (size_t i = 0; i < n && narrow; i++)
        x[i] = bf16_rounded(x[i] + y[i]);
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

/* --- parts of a parameter ----------------------------------------------------------------------*/

static struct nn_part part_of(int rank, size_t n)
{
    const size_t size = nn_piece(n), pieces = (n + size - 1) / size, all = (size_t)share.ranks;
    size_t from = pieces * (size_t)rank / all * size, to = pieces * (size_t)(rank + 1) / all * size;
    if (n < SMALL * all)
        return (struct nn_part){0, n};
    return (struct nn_part){from, (to < n ? to : n) - from};
}

/* Of a part, what lies in the turn that begins `at` numbers behind its begin. */
static struct nn_part turn_of(int rank, size_t n, size_t at, size_t most)
{
    struct nn_part p = part_of(rank, n);
    at = at < p.n ? at : p.n;
    return (struct nn_part){p.from + at, p.n - at < most ? p.n - at : most};
}

static size_t longest(size_t n)
{
    size_t most = 0;
    for (int r = 0; r < share.ranks; r++)
        most = part_of(r, n).n > most ? part_of(r, n).n : most;
    return most;
}

/* To one and from another, either of which may be nothing. */
static void pass(int to, int from, int tag, const void *out, size_t sent, void *in, size_t received)
{
    if (sent && received) {
        const int a = post(false, from, tag, in, received);
        finish(post(true, to, tag, (void *)(uintptr_t)out, sent), a);
    } else if (sent) {
        give(to, tag, out, sent);
    } else if (received) {
        get(from, tag, in, received);
    }
}

/* The k-th of the others in the ring, whom this process gives to while it gets from the one k
 * before. */
static int after(int k)
{
    return (share.rank + k) % share.ranks;
}

static int before(int k)
{
    return (share.rank + share.ranks - k) % share.ranks;
}

/* What goes to one and comes from another, either of which may be nothing. */
struct transfer {
    int to, from;
    const void *out;
    void *in;
    size_t sent, received;
};

/* Of a parameter that processes have parts of: turn by turn, in each of which as much of a part
 * goes as a message holds, to each of the others. */
struct parted {
    char *x;
    size_t n, size; /* numbers, bytes of one */
    bool to_all;
};

static size_t others(void)
{
    return (size_t)share.ranks - 1;
}

/* All of them in their order, few at a time. */
static void transfer_parts(int tag, struct parted p,
                           struct transfer (*begin)(const struct parted *, size_t i),
                           void (*end)(const struct parted *, size_t i))
{
    const size_t all = (longest(p.n) + MESSAGE - 1) / MESSAGE * others();
    int id[FLIGHT][2];
    for (size_t i = 0; i < all + FLIGHT - 1; i++) {
        int *begun = id[i % FLIGHT], *ended = id[(i + 1) % FLIGHT];
        if (i < all) {
            const struct transfer t = begin(&p, i);
            begun[0] = t.received ? post(false, t.from, tag, t.in, t.received) : -1;
            begun[1] = t.sent ? post(true, t.to, tag, (void *)(uintptr_t)t.out, t.sent) : -1;
        }
        if (i >= FLIGHT - 1) {
            finish(ended[0], ended[1]);
            end(&p, i - (FLIGHT - 1));
        }
    }
}

static struct transfer begin_spread(const struct parted *p, size_t i)
{
    const int k = 1 + (int)(i % others()), r = share.rank, to = after(k), from = before(k);
    const size_t at = i / others() * MESSAGE;
    const struct nn_part mine = turn_of(r, p->n, at, MESSAGE);
    const struct nn_part his = turn_of(from, p->n, at, MESSAGE);
    return (struct transfer){to,
                             from,
                             p->x + mine.from * p->size,
                             p->x + his.from * p->size,
                             p->to_all || !to ? mine.n * p->size : 0,
                             p->to_all || !r ? his.n * p->size : 0};
}

static void end_spread(const struct parted *p, size_t i)
{
    (void)p, (void)i;
}

/* Each gives his part to all, or to rank 0. */
static void spread(int tag, void *x, size_t n, size_t size, bool to_all)
{
    if (part_of(share.rank, n).n < n)
        transfer_parts(tag, (struct parted){x, n, size, to_all}, begin_spread, end_spread);
}

/* The upper halves of floats that are rounded to them; and back. */
static void halve(uint16_t *to, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, sizeof u);
        to[i] = (uint16_t)(u >> 16);
    }
}

static void widen(float *to, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t u = (uint32_t)x[i] << 16;
        memcpy(to + i, &u, sizeof u);
    }
}

/* Of all processes; the sum comes to where this one's are. */
static void add_along_tree(float **of, size_t n)
{
    const float *own = of[share.rank];
    for (int step = 1; step < share.ranks; step *= 2)
        for (int k = 0; k + step < share.ranks; k += 2 * step) {
            float *a = of[k], *b = of[k + step];
            of[k] = b == own ? b : a;
            add_floats(of[k], b == own ? a : b, n); /* a + b is b + a */
        }
}

static float *place_of(size_t turn, int rank)
{
    return far->of[turn % FLIGHT] + (size_t)rank * MESSAGE;
}

/* Each has the others' numbers of his part, and adds them up along the tree. */
static struct transfer begin_sum(const struct parted *p, size_t i)
{
    const int k = 1 + (int)(i % others()), to = after(k), from = before(k);
    const size_t turn = i / others(), at = turn * MESSAGE;
    const struct nn_part mine = turn_of(share.rank, p->n, at, MESSAGE);
    const struct nn_part his = turn_of(to, p->n, at, MESSAGE);
    const float *out = (float *)p->x + his.from;
    if (!narrow)
        return (struct transfer){to, from, out, place_of(turn, from), his.n * 4, mine.n * 4};
    halve(far->out[i % FLIGHT], out, his.n);
    return (struct transfer){to,        from,      far->out[i % FLIGHT], far->in[i % FLIGHT],
                             his.n * 2, mine.n * 2};
}

static void end_sum(const struct parted *p, size_t i)
{
    const size_t turn = i / others();
    const struct nn_part mine = turn_of(share.rank, p->n, turn * MESSAGE, MESSAGE);
    const int k = 1 + (int)(i % others());
    float *of[MOST];
    if (narrow)
        widen(place_of(turn, before(k)), far->in[i % FLIGHT], mine.n);
    for (int r = 0; r < share.ranks; r++)
        of[r] = r == share.rank ? (float *)p->x + mine.from : place_of(turn, r);
    if (k == (int)others())
        add_along_tree(of, mine.n);
}

/* Then, of bf16, all get all. */
static struct transfer begin_halves(const struct parted *p, size_t i)
{
    struct transfer t = begin_spread(p, i);
    halve(far->out[i % FLIGHT], t.out, t.sent / 4);
    t.out = far->out[i % FLIGHT], t.in = far->in[i % FLIGHT];
    t.sent /= 2, t.received /= 2;
    return t;
}

static void end_halves(const struct parted *p, size_t i)
{
    const struct transfer t = begin_spread(p, i);
    widen(t.in, far->in[i % FLIGHT], t.received / 4);
}

/* On one machine: in each box is what the others are to have of it, each a shelf. */
static void sum_parts_near(float *x, size_t n)
{
    const size_t most = NEAR_BOX / sizeof *x / (size_t)share.ranks;
    float *of[MOST];
    for (size_t at = 0, end = longest(n); at < end; at += most) {
        const struct nn_part mine = turn_of(share.rank, n, at, most);
        float *box = near_box(share.rank);
        for (int r = 0; r < share.ranks; r++) {
            const struct nn_part his = turn_of(r, n, at, most);
            if (r != share.rank)
                memcpy(box + (size_t)r * most, x + his.from, his.n * sizeof *x);
        }
        waited += near_wait();
        for (int r = 0; r < share.ranks; r++)
            of[r] =
                r == share.rank ? x + mine.from : (float *)near_box(r) + (size_t)share.rank * most;
        add_along_tree(of, mine.n);
        near_next();
    }
}

static void sum_gradient(float *x, size_t n)
{
    if (near) {
        if (part_of(share.rank, n).n == n)
            waited += near_sum(x, n, sizeof *x, add_floats);
        else
            sum_parts_near(x, n);
        return;
    }
    if (part_of(share.rank, n).n == n) {
        sum(GRADIENT, x, far->sum, n, sizeof *x, add_floats);
        return;
    }
    const struct parted p = {(char *)x, n, sizeof *x, true};
    transfer_parts(GRADIENT, p, begin_sum, end_sum);
    if (narrow)
        transfer_parts(GRADIENT, p, begin_halves, end_halves);
}

void share_parts(void *x, size_t n, size_t bytes, bool to_all)
{
    if (share.ranks > 1 && !narrow && !near)
        spread(DATA, x, n, bytes, to_all);
}

static struct nn_part own_part(void *ctx, size_t n)
{
    (void)ctx;
    return part_of(share.rank, n);
}

int share_sums(void *ctx, double *sums, size_t n)
{
    static double *room;
    static size_t most;
    (void)ctx;
    if (share.ranks == 1)
        return 0;
    if (near) {
        waited += near_sum(sums, n, sizeof *sums, add_doubles);
        return 0;
    }
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

/* What has come of the others, of whom one may have said why all end. With the lock. */
static void listen_to_all(void)
{
    for (int r; (r = mpi_ready(BEAT)) >= 0;) {
        char sign = ALIVE;
        const int id = mpi_receive(r, BEAT, &sign, 1);
        while (!mpi_done(id))
            ;
        heard[r] = tool_now();
        if (sign == SAID)
            atomic_store(&said, true);
    }
}

/* Before this process says why it dies: whether another one has told, which all will hear of. MPI
 * may need to be asked more than once. */
static bool told_already(void)
{
    for (int i = 0; i < 3 + share.rank && !atomic_load(&over) && !atomic_load(&said); i++) {
        struct timespec soon;
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_sec += 1;
        if (!pthread_mutex_timedlock(&lock, &soon)) {
            listen_to_all();
            pthread_mutex_unlock(&lock);
        }
        nap(i < 3 ? TURN / 4 : TURN);
    }
    for (int i = 0; i < 50 && atomic_load(&said); i++)
        nap(0.1); /* its death ends all */
    return atomic_load(&said);
}

/* Waits for the death of another on this machine. Of those that are left the first one tells. */
static void *stand_guard(void *unused)
{
    struct pollfd at[MOST];
    (void)unused;
    for (int r = 0; r < share.ranks; r++)
        at[r] = (struct pollfd){.fd = watched[r], .events = POLLIN};
    while (poll(at, (nfds_t)share.ranks, -1) < 0 && errno == EINTR)
        ;
    int dead = 0, before = 0;
    while (dead < share.ranks && !at[dead].revents)
        dead++;
    for (int r = 0; r < share.rank && r < share.ranks; r++)
        before += at[r].fd >= 0 && !at[r].revents;
    nap(5 * TURN * (1 + before)); /* he may have said why, or all are at their end */
    if (dead < share.ranks && !atomic_load(&over))
        tool_die("%s has died; -r goes on from the last checkpoint", share_name(dead));
    return NULL;
}

/* A sign of life, if there was some, and what the others say. */
static void beat(void)
{
    static double last, asked;
    static unsigned long seen;
    static char sign = ALIVE;
    const double now = tool_now(), slept = now - last;
    if (slept < BEATS)
        return;
    const bool moved = share.stop || atomic_load(&waiting) > 0 || atomic_load(&ticks) != seen;
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
    listen_to_all();
    pthread_mutex_unlock(&lock);
    if (!share.stop)
        asked = now;
    for (int r = 0; r < share.ranks && !atomic_load(&over); r++)
        if (listens(r) && (now - heard[r] > limit + (share.rank > 1 ? 5 * share.rank : 0) ||
                           (watched[r] < 0 && now - asked > GRACE && now - heard[r] > GRACE)))
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
        const struct job j = queue.of[queue.done % QUEUE];
        pthread_mutex_unlock(&queue.lock);
        if (work && j.spread)
            spread(PARTS, j.x, j.n, sizeof *j.x, true);
        else if (work)
            sum_gradient(j.x, j.n);
        beat();
        pthread_mutex_lock(&queue.lock);
        queue.done += work;
        queue.summed += work && !j.spread;
        pthread_cond_broadcast(&queue.changed);
    }
    pthread_mutex_unlock(&queue.lock);
    return NULL;
}

static bool has_room(void)
{
    return queue.begun - queue.done < QUEUE;
}

static bool has_sum(void)
{
    return queue.summed != queue.taken;
}

static bool is_empty(void)
{
    return queue.done == queue.begun;
}

/* Until the queue is so; with its lock, which stays. */
static void await(bool (*so)(void))
{
    const double began = tool_now();
    share_idle(true);
    pthread_mutex_lock(&queue.lock);
    while (!so())
        pthread_cond_wait(&queue.changed, &queue.lock);
    share_idle(false);
    waited += tool_now() - began;
}

static int add_job(struct job j)
{
    await(has_room);
    queue.of[queue.begun++ % QUEUE] = j;
    pthread_cond_broadcast(&queue.changed);
    pthread_mutex_unlock(&queue.lock);
    return 0;
}

static int start(void *ctx, float *gradient, size_t n)
{
    (void)ctx;
    return add_job((struct job){false, gradient, n});
}

/* Of that which was started first. */
static int gradient(void *ctx, float *x, size_t n)
{
    (void)ctx;
    if (near) {
        sum_gradient(x, n);
        return 0;
    }
    await(has_sum);
    queue.taken++;
    pthread_mutex_unlock(&queue.lock);
    return 0;
}

static int spread_later(void *ctx, float *x, size_t n)
{
    (void)ctx;
    return part_of(share.rank, n).n < n ? add_job((struct job){true, x, n}) : 0;
}

static int arrived(void *ctx)
{
    (void)ctx;
    if (near) {
        share_meet();
        return 0;
    }
    await(is_empty);
    pthread_mutex_unlock(&queue.lock);
    return 0;
}

static void progress(void *ctx, int step, int steps)
{
    (void)ctx, (void)step, (void)steps;
    share_tick();
}

void share_meet(void)
{
    if (near)
        waited += near_meet();
}

static void *common(void *ctx, size_t bytes)
{
    (void)ctx;
    return near_common(bytes);
}

struct nn_hooks share_hooks(bool halves)
{
    struct nn_hooks h = {.sums = share_sums,
                         .gradient = gradient,
                         .arrived = arrived,
                         .progress = progress,
                         .gathers = !share.rank};
    narrow = halves;
    if (share.ranks == 1)
        return (struct nn_hooks){0};
    if (near)
        h.common = common;
    else
        h.start = start;
    if (near || !narrow)
        h.part = own_part;
    if (!near && !narrow)
        h.spread = spread_later;
    return h;
}

/* --- beginning and end -------------------------------------------------------------------------*/

/* A process that dies takes the others along. */
static void end_all(void)
{
    static const char sign = SAID;
    struct timespec soon;
    if (atomic_exchange(&over, true))
        return;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_sec += 1;
    if (!pthread_mutex_timedlock(&lock, &soon))
        for (int r = 0; r < share.ranks && !atomic_load(&said); r++)
            if (r != share.rank)
                mpi_send(r, BEAT, &sign, 1);
    mpi_abort();
}

/* Where a process runs: on the same kernel, and numbered as the others are there. */
struct place {
    char name[NAME], kernel[40];
    uint64_t numbers;
    int pid, fd; /* fd: of memory that all of a machine may see, of rank 0 */
};

static struct place here(void)
{
    struct place p = {.pid = getpid(), .fd = -1};
    struct stat st;
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    gethostname(p.name, sizeof p.name - 1);
    if (f && fread(p.kernel, 1, sizeof p.kernel - 1, f) && !stat("/proc/self/ns/pid", &st))
        p.numbers = st.st_ino;
    if (f)
        fclose(f);
    if (!share.rank)
        p.fd = near_make();
    return p;
}

static void note_place(void *ctx, int rank, const void *data, size_t bytes)
{
    (void)bytes;
    memcpy((struct place *)ctx + rank, data, sizeof(struct place));
}

/* Who is on this machine is watched, where the system lets us. */
static void learn_places(void)
{
    const size_t n = (size_t)share.ranks;
    struct place own = here(), *of = tool_alloc(n * sizeof *of);
    of[share.rank] = own;
    share_to_first(&own, sizeof own, note_place, of);
    share_from_first(of, n * sizeof *of);
    for (size_t r = 0; r < n; r++) {
        memcpy(name[r], of[r].name, NAME);
        watched[r] = -1;
#ifdef SYS_pidfd_open
        if ((int)r != share.rank && own.numbers && own.numbers == of[r].numbers &&
            !strcmp(own.kernel, of[r].kernel))
            watched[r] = (int)syscall(SYS_pidfd_open, of[r].pid, 0);
#endif
    }
    bool together = true;
    for (size_t r = 0; r < n; r++)
        together &= own.numbers && own.numbers == of[r].numbers &&
                    !strcmp(own.kernel, of[r].kernel) && !strcmp(own.name, of[r].name);
    double blind = !together || !near_open(of->pid, of->fd);
    share_sums(NULL, &blind, 1);
    blind += blind > 0 || !near_map();
    share_sums(NULL, &blind, 1);
    if (!(near = blind == 0))
        near_close();
    free(of);
}

static size_t room_bytes(void)
{
    return sizeof *far + (SMALL + FLIGHT * MESSAGE) * (size_t)share.ranks * sizeof(float);
}

size_t share_memory(void)
{
    if (share.ranks == 1)
        return launched ? SHARE_ALONE : 0;
    return SHARE_BYTES + (size_t)share.ranks * SHARE_EACH + (near ? near_bytes() : room_bytes());
}

void share_begin(double seconds)
{
    launched = mpi_begin(&share.rank, &share.ranks);
    if (share.ranks == 1)
        return;
    if (share.ranks > MOST)
        tool_die("MPI: too many processes (wanted at most %d, got %d)", MOST, share.ranks);
    limit = seconds;
    const size_t n = (size_t)share.ranks;
    name = tool_alloc(n * sizeof *name);
    heard = tool_alloc(n * sizeof *heard);
    telling = tool_alloc(n * sizeof *telling);
    told = tool_alloc(n * sizeof *told);
    watched = tool_alloc(n * sizeof *watched);
    memset(told, 0, n * sizeof *told);
    learn_places();
    if (!near) {
        far = tool_alloc(room_bytes());
        far->sum = (float *)(far + 1);
        for (size_t i = 0; i < FLIGHT; i++)
            far->of[i] = far->sum + (SMALL + i * MESSAGE) * n;
    }
    /* Whoever will talk has talked: a confined process opens no connection any more. */
    for (int k = 1; k < share.ranks; k++) {
        char one = 0, other;
        pass((share.rank + k) % share.ranks, (share.rank + share.ranks - k) % share.ranks, DATA,
             &one, 1, &other, 1);
    }
    for (size_t r = 0; r < n; r++)
        heard[r] = tool_now();
    static char called[NAME + 64];
    snprintf(called, sizeof called, "%s: %s", tool_name(), share_name(share.rank));
    tool_call_itself(called);
    tool_may_talk();
    tool_ask_to_die(told_already);
    atexit(end_all);
}

void share_watch(void)
{
    if (share.ranks == 1)
        return;
    pthread_detach(tool_thread(stand_beside));
    pthread_detach(tool_thread(stand_guard));
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
