/* Memory of results, used again. */
#ifndef FC_PAGES_H
#define FC_PAGES_H

#include <stddef.h>

/* The functions of an allocator of NumPy's (NEP 49), whose contexts are not looked at. Memory is aligned
 * to cache lines. Any thread may call them. */
void *fc_pages_take(void *context, size_t bytes);
void *fc_pages_take_zeros(void *context, size_t count, size_t bytes);
void *fc_pages_resize(void *context, void *memory, size_t bytes);
void fc_pages_give(void *context, void *memory, size_t bytes);

/* Bytes of the memory that was given back and is kept. */
size_t fc_pages_kept(void);

/* Give all of that to the system. */
void fc_pages_drop(void);

#endif
