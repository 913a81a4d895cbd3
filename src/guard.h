/* The guard: remembers, of the runs that change now, what a blind writer may destroy (CONTRACT Part A, lost cancels): a
 * cancel that was asked for, and the image of a run that has ended. When an entry of the bucket takes it back, the
 * guard says so; whether and how it is put right is decided elsewhere.
 *
 * One for the process. Bounded: GUARD_RUNS runs, GUARD_BYTES of images, images for GUARD_SEC; the oldest go first.
 */
#ifndef PH_GUARD_H
#define PH_GUARD_H

#include "tail.h"

#define GUARD_RUNS 20000
#define GUARD_BYTES (16u << 20)
#define GUARD_SEC 120

typedef enum ph_guard_kind {
    PH_GUARD_NOTHING,
    PH_GUARD_CANCEL, /* a run that was being cancelled goes on without a word of it */
    PH_GUARD_ENDED,  /* a run that had ended goes on */
} ph_guard_kind;

typedef struct ph_guard_fault {
    ph_guard_kind kind;
    char key[256];
    char cancel_at[40], cancel_by[160]; /* of PH_GUARD_CANCEL: JSON values, "" when unknown */
    char *image;                        /* of PH_GUARD_ENDED: the snapshot as it ended; the caller frees it */
    size_t len;
} ph_guard_fault;

/* Takes in an entry of the bucket of runs; one that is older than what is known of its run is passed over. The tail
 * does it for all entries, and whoever writes here for its own: KV keeps one version, so what is overwritten at once
 * never reaches the tail. Any thread. */
void ph_guard_see(const ph_entry *entry);
/* The bucket was made anew: forgets everything. */
void ph_guard_clear(void);
/* Takes a fault that nobody has taken yet; kind PH_GUARD_NOTHING when there is none. Any thread. */
void ph_guard_take(ph_guard_fault *out);

typedef struct ph_guard_stats {
    size_t runs, bytes;
} ph_guard_stats;
ph_guard_stats ph_guard_get_stats(void);

#endif
