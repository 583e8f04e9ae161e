/* A pool of threads shared by every call: work is handed out one index at a time.
 *
 * Workers start at first use. Between calls they look for the next one as long as waking one takes,
 * then sleep. Whoever looks gives way to other threads, and nobody looks where a core is not left for it.
 * One call owns the pool at a time; a call that finds it taken (another Python thread is convolving)
 * runs on its own thread alone, so that the process never runs more threads than the largest call
 * asked for plus its callers. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "../fc.h"

enum { MAX_WORKERS = 255 };

/* Looks, each of some 0.5 us, before sleeping: "Workers look for 5 us before they sleep" in decisions.md. */
enum { LOOKS = 10, PAUSES = 16 };

static pthread_mutex_t owner = PTHREAD_MUTEX_INITIALIZER; /* held for the whole of a parallel call */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  /* of the two conditions */
static pthread_cond_t begin = PTHREAD_COND_INITIALIZER, end = PTHREAD_COND_INITIALIZER;
static int64_t workers; /* guarded by owner, as are the next four until a call is announced */
static void (*work)(void *, int64_t, int64_t);
static void *work_context;
static int64_t work_count;
static int work_flushes;
static _Atomic int64_t next_index, running;
/* The number of the call in its upper bits, the workers it wants in the lower eight. */
static _Atomic uint64_t announced;
static _Atomic int64_t asleep, caller_asleep;

static void drain(int64_t slot)
{
    for (int64_t i; (i = atomic_fetch_add(&next_index, 1)) < work_count;)
        work(work_context, i, slot);
}

static int64_t cores(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (!sched_getaffinity(0, sizeof set, &set)) return CPU_COUNT(&set);
#endif
    return sysconf(_SC_NPROCESSORS_ONLN);
}

static void look_again(void)
{
    for (int64_t i = 0; i < PAUSES; i++)
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#else
        (void)0;
#endif
    sched_yield();
}

/* The next announcement after `seen`. */
static uint64_t wait_for_call(uint64_t seen, int64_t looks)
{
    uint64_t now;
    while ((now = atomic_load(&announced)) == seen && looks-- > 0) look_again();
    if (now != seen) return now;
    pthread_mutex_lock(&lock);
    atomic_fetch_add(&asleep, 1); /* before looking once more: the caller announces, then asks for it */
    while ((now = atomic_load(&announced)) == seen) pthread_cond_wait(&begin, &lock);
    atomic_fetch_sub(&asleep, 1);
    pthread_mutex_unlock(&lock);
    return now;
}

static void *worker(void *argument)
{
    const int64_t slot = (int64_t)(intptr_t)argument; /* 1, 2, ...: the caller is 0 */
    uint64_t seen = 0;
    int64_t looks = 0;
    for (;;) {
        seen = wait_for_call(seen, looks);
        const int64_t wanted = seen & 255;
        looks = 0;
        if (slot > wanted) continue;
        fc_flush(work_flushes);
        drain(slot);
        looks = wanted < cores() ? LOOKS : 0;
        if (atomic_fetch_sub(&running, 1) == 1 && atomic_load(&caller_asleep)) {
            pthread_mutex_lock(&lock);
            pthread_cond_signal(&end);
            pthread_mutex_unlock(&lock);
        }
    }
    return NULL;
}

static void wait_for_workers(int64_t looks)
{
    while (atomic_load(&running) && looks-- > 0) look_again();
    if (!atomic_load(&running)) return;
    pthread_mutex_lock(&lock);
    atomic_store(&caller_asleep, 1);
    while (atomic_load(&running)) pthread_cond_wait(&end, &lock);
    atomic_store(&caller_asleep, 0);
    pthread_mutex_unlock(&lock);
}

/* A forked child has none of the threads: forget them, and any call that was under way. */
static void forget(void)
{
    pthread_mutex_init(&owner, NULL);
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&begin, NULL);
    pthread_cond_init(&end, NULL);
    workers = 0;
    atomic_store(&announced, 0);
    atomic_store(&running, 0);
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
        const int failed = pthread_create(&thread, &attributes, worker, (void *)(intptr_t)(workers + 1));
        pthread_attr_destroy(&attributes);
        if (failed) break; /* fewer threads: slower, still right */
        workers++;
    }
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
    atomic_store(&running, helpers);
    const uint64_t call = (atomic_load(&announced) >> 8) + 1;
    atomic_store(&announced, call << 8 | (uint64_t)helpers);
    if (atomic_load(&asleep)) {
        pthread_mutex_lock(&lock);
        pthread_cond_broadcast(&begin);
        pthread_mutex_unlock(&lock);
    }
    drain(0);
    wait_for_workers(helpers < cores() ? LOOKS : 0);
    pthread_mutex_unlock(&owner);
}
