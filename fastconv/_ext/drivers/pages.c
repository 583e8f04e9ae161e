/* Memory of results, used again: pages that a process has not had before are cleared by the system, one
 * at a time, and whoever drops a result of some MB gives its pages back. What that costs, and what is
 * kept for it, is in docs/decisions.md. */
#define _DEFAULT_SOURCE /* madvise */

#include "pages.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

/* MOST bytes are kept, what glibc's malloc keeps of a heap at most: M_TRIM_THRESHOLD, twice the largest
 * M_MMAP_THRESHOLD (mallopt(3)). */
enum { SLOTS = 32, LINE = 64, MOST = 64 << 20 };

/* From HUGE bytes on, pages of 2 MB are asked for, as NumPy does. */
enum { HUGE = 4 << 20 };

/* What is in front of memory that was taken. */
typedef struct {
    void *start;
    size_t bytes;
} block;

/* Blocks given back, the one kept for longest first. */
static block *kept[SLOTS];
static int count;
static size_t total;
static atomic_flag taken = ATOMIC_FLAG_INIT;

/* Nobody waits, for who is within may be a thread that a fork has left behind: others do without. */
static int enter(void) { return !atomic_flag_test_and_set_explicit(&taken, memory_order_acquire); }
static void leave(void) { atomic_flag_clear_explicit(&taken, memory_order_release); }

static block *block_of(void *memory) { return (block *)memory - 1; }

static void *fresh(size_t bytes)
{
    if (bytes > SIZE_MAX - sizeof(block) - LINE) return NULL;
    char *const start = malloc(bytes + sizeof(block) + LINE);
    if (!start) return NULL;
    const uintptr_t first = (uintptr_t)start + sizeof(block);
    char *const memory = start + sizeof(block) + (LINE - first % LINE) % LINE;
    *block_of(memory) = (block){start, bytes};
#ifdef __linux__
    if (bytes >= HUGE) {
        const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
        const uintptr_t offset = (page - (uintptr_t)memory % page) % page;
        (void)madvise(memory + offset, bytes - offset, MADV_HUGEPAGE);
    }
#endif
    return memory;
}

/* Takes out block i. */
static block *out(int i)
{
    block *const b = kept[i];
    total -= b->bytes;
    count--;
    memmove(kept + i, kept + i + 1, (size_t)(count - i) * sizeof(*kept));
    return b;
}

void *fc_pages_take(void *context, size_t bytes)
{
    (void)context;
    block *found = NULL;
    if (enter()) {
        int i = count - 1;
        while (i >= 0 && kept[i]->bytes != bytes) i--;
        if (i >= 0) found = out(i);
        leave();
    }
    return found ? found + 1 : fresh(bytes);
}

void *fc_pages_take_zeros(void *context, size_t number, size_t bytes)
{
    if (bytes && number > SIZE_MAX / bytes) return NULL;
    void *const memory = fc_pages_take(context, number * bytes);
    return memory ? memset(memory, 0, number * bytes) : NULL;
}

void *fc_pages_resize(void *context, void *memory, size_t bytes)
{
    void *const other = fc_pages_take(context, bytes);
    if (!other || !memory) return other;
    const size_t before = block_of(memory)->bytes;
    memcpy(other, memory, before < bytes ? before : bytes);
    fc_pages_give(context, memory, before);
    return other;
}

void fc_pages_give(void *context, void *memory, size_t bytes)
{
    (void)context, (void)bytes;
    if (!memory) return;
    block *const b = block_of(memory);
    block *left[SLOTS] = {b};
    int leaving = 1;
    if (b->bytes <= MOST && enter()) {
        leaving = 0;
        while (count == SLOTS || total + b->bytes > MOST) left[leaving++] = out(0);
        kept[count++] = b;
        total += b->bytes;
        leave();
    }
    while (leaving) free(left[--leaving]->start);
}

size_t fc_pages_kept(void) { return total; }

void fc_pages_drop(void)
{
    if (!enter()) return;
    while (count) free(out(count - 1)->start);
    leave();
}
