/* Memory in which a VM is built, and which can then be put back as it was: a fresh VM for every run for the price of
 * a memcpy instead of building one.
 *
 * Until it is frozen, all of the VM's memory comes from here. After that what the VM allocates comes from elsewhere,
 * and what it changes in here is undone by ph_freezer_restore. Addresses never change, so every pointer stays right.
 * Threads: the VM's own. Under AddressSanitizer there is no freezer: its checks are worth more there. */
#ifndef PH_FREEZER_H
#define PH_FREEZER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct ph_freezer ph_freezer;

ph_freezer *ph_freezer_new(void); /* NULL without memory, and under AddressSanitizer */
void ph_freezer_free(ph_freezer *f); /* NULL is fine */

/* As realloc and free in one, with the old size known: nsize 0 frees. Only before it is frozen. NULL when it is
 * full; the old block is then untouched. */
void *ph_freezer_resize(ph_freezer *f, void *ptr, size_t osize, size_t nsize);

bool ph_freezer_holds(const ph_freezer *f, const void *ptr);
bool ph_freezer_is_frozen(const ph_freezer *f);
bool ph_freezer_freeze(ph_freezer *f); /* false without memory for the copy */
void ph_freezer_restore(ph_freezer *f);

#endif
