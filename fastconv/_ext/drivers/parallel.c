/* A pool of threads shared by every call: work is handed out one index at a time.
 *
 * Workers start at first use and sleep between calls. One call owns the pool at a time; a call that
 * finds it taken (another Python thread is convolving) runs on its own thread alone, so that the
 * process never runs more threads than the largest call asked for plus its callers. */
#include <pthread.h>
#include <stdatomic.h>

#include "../fc.h"

enum { MAX_WORKERS = 255 };

static pthread_mutex_t owner = PTHREAD_MUTEX_INITIALIZER; /* held for the whole of a parallel call */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  /* guards what follows */
static pthread_cond_t begin = PTHREAD_COND_INITIALIZER, end = PTHREAD_COND_INITIALIZER;
static int64_t workers, generation, wanted, running;
static void (*work)(void *, int64_t, int64_t);
static void *work_context;
static int64_t work_count;
static _Atomic int64_t next_index;

static void drain(int64_t slot)
{
    for (int64_t i; (i = atomic_fetch_add(&next_index, 1)) < work_count;)
        work(work_context, i, slot);
}

static void *worker(void *argument)
{
    const int64_t slot = (int64_t)(intptr_t)argument; /* 1, 2, ...: the caller is 0 */
    int64_t seen = 0;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (generation == seen || slot > wanted) {
            if (generation != seen) seen = generation;
            pthread_cond_wait(&begin, &lock);
        }
        seen = generation;
        pthread_mutex_unlock(&lock);
        drain(slot);
        pthread_mutex_lock(&lock);
        if (--running == 0) pthread_cond_signal(&end);
    }
    return NULL;
}

/* A forked child has none of the threads: forget them, and any call that was under way. */
static void forget(void)
{
    pthread_mutex_init(&owner, NULL);
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&begin, NULL);
    pthread_cond_init(&end, NULL);
    workers = generation = wanted = running = 0;
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
    pthread_mutex_lock(&lock);
    start_workers(helpers);
    helpers = fc_min(helpers, workers);
    work = function;
    work_context = context;
    work_count = count;
    atomic_store(&next_index, 0);
    wanted = running = helpers;
    generation++;
    pthread_cond_broadcast(&begin);
    pthread_mutex_unlock(&lock);
    drain(0);
    pthread_mutex_lock(&lock);
    while (running) pthread_cond_wait(&end, &lock);
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&owner);
}
