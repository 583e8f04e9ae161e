/* The pool under a thread sanitizer: several callers at once, more threads than cores, calls one after
 * the other so close that workers meet an open, a closed and the next gate.
 *
 * Every index must be handed out once, and memory that belongs to a slot or to an index is written
 * without any care: two threads in one slot, or a worker that is still inside after its call has
 * returned, are races that the sanitizer reports. Exit status 1 says that an index was missed.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fc.h"

enum { CALLERS = 3, CALLS = 2000, COUNT = 40, THREADS = 6 };

typedef struct {
    int64_t done[COUNT], of_slot[THREADS], mode[COUNT];
} call;

static void work(void *context, int64_t i, int64_t slot)
{
    call *const c = context;
    c->done[i]++;
    c->of_slot[slot]++;
    c->mode[i] = fc_flushes();
    for (volatile int64_t spent = 0; spent < i * 20; spent++) {}
}

static int64_t wrong_calls(int64_t seed)
{
    int64_t wrong = 0;
    for (int64_t n = 0; n < CALLS; n++) {
        const int64_t count = (n * 7 + seed) % (COUNT + 1), threads = 1 + (n + seed) % THREADS;
        fc_flush((int)(n % 2));
        call *const c = calloc(1, sizeof *c); /* gone right after the call: so must be the workers */
        fc_parallel(count, threads, work, c);
        int64_t total = 0;
        for (int64_t slot = 0; slot < THREADS; slot++) {
            wrong += slot >= threads && c->of_slot[slot] != 0;
            total += c->of_slot[slot];
        }
        wrong += total != count;
        for (int64_t i = 0; i < COUNT; i++)
            wrong += c->done[i] != (i < count) || (i < count && c->mode[i] != fc_flushes());
        free(c);
        if (n % 250 == 0) usleep(2000); /* long enough for workers to fall asleep */
    }
    return wrong;
}

static void *caller(void *seed)
{
    return (void *)(intptr_t)wrong_calls((int64_t)(intptr_t)seed);
}

int main(void)
{
    int64_t wrong = wrong_calls(0);
    pthread_t threads[CALLERS];
    for (int64_t i = 0; i < CALLERS; i++) pthread_create(&threads[i], NULL, caller, (void *)(intptr_t)i);
    for (int64_t i = 0; i < CALLERS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        wrong += (intptr_t)result;
    }
    printf("%lld wrong\n", (long long)wrong);
    return wrong != 0;
}
