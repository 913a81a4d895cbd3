/* Memory for one short-lived VM: small blocks come from chunks by size class and go back to a free list, so that the
 * ten thousand allocations of a run cost a few nanoseconds each, and the chunks go to the next VM when it ends.
 * Not for VMs that live long: a chunk is given back only when the whole arena is.
 * Threads: the VM's own. Under AddressSanitizer every block is its own malloc, so that its checks stay sharp. */
#ifndef PH_ARENA_H
#define PH_ARENA_H

#include <stddef.h>

typedef struct ph_arena ph_arena;

/* A new arena, or NULL without memory. */
ph_arena *ph_arena_new(void);

/* As realloc and free in one, with the old size known: nsize 0 frees. NULL when there is no memory; the old block
 * is then untouched. */
void *ph_arena_resize(ph_arena *arena, void *ptr, size_t osize, size_t nsize);

/* Gives everything back. NULL is fine. */
void ph_arena_free(ph_arena *arena);

#endif
