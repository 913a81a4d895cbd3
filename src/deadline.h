/* When a slot is overdue: the earliest deadline of its run's tasks, in memory that slot and supervisor share.
 * A task with a time limit costs no message by this, and the supervisor sees the deadline of a slot that
 * cannot answer. */
#ifndef PH_DEADLINE_H
#define PH_DEADLINE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct ph_deadline ph_deadline;

enum { PH_DEADLINE_TASK_MAX = 512 }; /* bytes of a task's name that are kept, its NUL included */

/* New shared memory: mapped here, and *fd (close-on-exec) for the other process to map. NULL on failure,
 * errno says why. */
ph_deadline *ph_deadline_new(int *fd);
ph_deadline *ph_deadline_map(int fd);   /* NULL on failure; fd may be closed afterwards */
void ph_deadline_unmap(ph_deadline *d); /* NULL is fine */

/* By the slot. at: CLOCK_MONOTONIC in seconds; 0 and less: there is none. */
void ph_deadline_set(ph_deadline *d, double at, double seconds, const char *task);

/* By the supervisor. False when there is none (or it is being written just now). task has room for
 * PH_DEADLINE_TASK_MAX bytes. */
bool ph_deadline_get(const ph_deadline *d, double *at, double *seconds, char *task);

#endif
