/* A pool of threads shared by every call: work is handed out one index at a time.
 *
 * A call opens the gate, takes indices like any worker, and closes the gate when none is left. Workers
 * that come while it is open take a place and are inside; the call waits for those, and for nobody
 * else, so that it never waits for a thread to wake up, or for one whose core others use. Gate, one
 * word:
 *
 *     number of the call (48 bits) | places left (8) | workers inside (8)
 *
 * To open is to store the next number with as many places as the call wants helpers, to join is to
 * swap a place for a worker inside, to close is to clear the places. What the call wants done is written
 * while the gate is closed and empty, and read inside.
 *
 * Workers start at first use, and run where their caller may, but not on its core. Between calls they
 * look for the next one for a moment, then giving way to other threads, then sleep. Those that gave way or slept
 * do so once more before they join: a thread that shares their core takes it then, when nobody waits for them. A
 * call that waits for workers inside gives way to nobody: it sleeps when that takes long, and is woken at once. One
 * call owns the pool at a time; a call that finds it taken (another Python thread is convolving) runs on
 * its own thread alone, so that the process never runs more threads than the largest call asked for
 * plus its callers. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "../fc.h"

enum { MAX_WORKERS = 255 };
static const uint64_t INSIDE = 255, PLACE = 256, PLACES = 255 * 256, CALL = 65536;

/* Nanoseconds of looking before sleeping, and before giving way: see "A call waits for no worker that has not
 * begun" and "Who has just worked gives way to nobody" in decisions.md. A look takes 0.5 to 1 us, or, giving way, a
 * slice of the scheduler where others want the core, however little they are entitled to. */
enum { LOOKING = 200000, HOT = 50000, PAUSES = 16 };

static pthread_mutex_t owner = PTHREAD_MUTEX_INITIALIZER; /* held for the whole of a parallel call */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  /* of the two conditions */
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER, left = PTHREAD_COND_INITIALIZER;
static int64_t workers; /* guarded by owner */
static void (*work)(void *, int64_t, int64_t); /* by the gate, as are the next three */
static void *work_context;
static int64_t work_count;
static int work_flushes;
static _Atomic uint64_t gate;
static _Atomic int64_t next_index, asleep, caller_asleep;
static _Atomic uint64_t caller; /* where the last call came from: thread and core, 32 bits each */

static void drain(int64_t slot)
{
    for (int64_t i; (i = atomic_fetch_add(&next_index, 1)) < work_count;)
        work(work_context, i, slot);
}

static void look_again(int gives_way)
{
    for (int64_t i = 0; i < PAUSES; i++)
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#else
        (void)0;
#endif
    if (gives_way) sched_yield();
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static uint64_t call_of(uint64_t word) { return word / CALL; }

/* Returns when another call than `seen` has opened the gate: whether that was so soon that nothing was given way to. */
static int wait_for_call(uint64_t seen)
{
    const int64_t start = now_ns();
    for (int64_t passed = 0; passed < LOOKING; look_again(passed >= HOT), passed = now_ns() - start)
        if (call_of(atomic_load(&gate)) != seen) return passed < HOT;
    pthread_mutex_lock(&lock);
    atomic_fetch_add(&asleep, 1); /* before looking once more: the caller opens, then asks for it */
    while (call_of(atomic_load(&gate)) == seen) pthread_cond_wait(&opened, &lock);
    atomic_fetch_sub(&asleep, 1);
    pthread_mutex_unlock(&lock);
    return 0;
}

/* Takes a place, whose number it returns; 0 when there is none. The call becomes *seen. */
static int64_t join(uint64_t *seen)
{
    uint64_t now = atomic_load(&gate);
    while (now & PLACES && !atomic_compare_exchange_weak(&gate, &now, now - PLACE + 1)) {}
    *seen = call_of(now);
    return (int64_t)(now / PLACE % 256);
}

#ifdef __linux__
static void remember_caller(void)
{
    atomic_store(&caller, (uint64_t)syscall(SYS_gettid) << 32 | (uint32_t)sched_getcpu());
}

/* Lets a worker run on the cores that its caller may use now, but for the one that it is using, if
 * there are others. `cores` is where it may run so far. */
static void follow_caller(cpu_set_t *cores)
{
    const uint64_t from = atomic_load(&caller);
    cpu_set_t allowed;
    if (sched_getaffinity((pid_t)(from >> 32), sizeof allowed, &allowed)) return;
    if (CPU_COUNT(&allowed) > 1) CPU_CLR((uint32_t)from, &allowed);
    if (!CPU_EQUAL(&allowed, cores) && !sched_setaffinity(0, sizeof allowed, &allowed))
        *cores = allowed;
}
#else
typedef int cpu_set_t;
static void remember_caller(void) {}
static void follow_caller(cpu_set_t *cores) { (void)cores; }
#endif

static void *worker(void *argument)
{
    (void)argument;
    uint64_t seen = 0;
    cpu_set_t cores = {0};
    for (;;) {
        const int hot = wait_for_call(seen);
        follow_caller(&cores);
        if (!hot) sched_yield();
        const int64_t slot = join(&seen);
        if (!slot) continue;
        fc_flush(work_flushes);
        drain(slot);
        if ((atomic_fetch_sub(&gate, 1) & (INSIDE | PLACES)) == 1 && atomic_load(&caller_asleep)) {
            pthread_mutex_lock(&lock);
            pthread_cond_signal(&left);
            pthread_mutex_unlock(&lock);
        }
    }
    return NULL;
}

static void close_gate(void)
{
    if (!(atomic_fetch_and(&gate, ~PLACES) & INSIDE)) return;
    const int64_t start = now_ns();
    for (int64_t passed = 0; passed < LOOKING; look_again(0), passed = now_ns() - start)
        if (!(atomic_load(&gate) & INSIDE)) return;
    pthread_mutex_lock(&lock);
    atomic_store(&caller_asleep, 1);
    while (atomic_load(&gate) & INSIDE) pthread_cond_wait(&left, &lock);
    atomic_store(&caller_asleep, 0);
    pthread_mutex_unlock(&lock);
}

/* A forked child has none of the threads: forget them, and any call that was under way. */
static void forget(void)
{
    pthread_mutex_init(&owner, NULL);
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&opened, NULL);
    pthread_cond_init(&left, NULL);
    workers = 0;
    atomic_store(&gate, 0);
    atomic_store(&asleep, 0);
    atomic_store(&caller_asleep, 0);
}

static void start_workers(int64_t count)
{
    static int registered;
    if (!registered) {
        registered = 1;
        pthread_atfork(NULL, NULL, forget);
    }
    while (workers < count) {
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        const int failed = pthread_create(&thread, &attributes, worker, NULL);
        pthread_attr_destroy(&attributes);
        if (failed) break; /* fewer threads: slower, still right */
        workers++;
    }
}

static void open_gate(uint64_t helpers)
{
    atomic_store(&gate, (call_of(atomic_load(&gate)) + 1) * CALL + helpers * PLACE);
    if (!atomic_load(&asleep)) return;
    pthread_mutex_lock(&lock);
    for (uint64_t i = 0; i < helpers; i++) pthread_cond_signal(&opened);
    pthread_mutex_unlock(&lock);
}

void fc_parallel(int64_t count, int64_t threads, void (*function)(void *, int64_t, int64_t),
                 void *context)
{
    int64_t helpers = fc_min(fc_min(threads, count) - 1, MAX_WORKERS);
    if (helpers < 1 || pthread_mutex_trylock(&owner)) {
        for (int64_t i = 0; i < count; i++) function(context, i, 0);
        return;
    }
    start_workers(helpers);
    helpers = fc_min(helpers, workers);
    work = function;
    work_context = context;
    work_count = count;
    work_flushes = fc_flushes();
    atomic_store(&next_index, 0);
    remember_caller();
    open_gate((uint64_t)helpers);
    drain(0);
    close_gate();
    pthread_mutex_unlock(&owner);
}
