/* The end of all child processes: for a process that has no child but those of one run. */
#ifndef PH_ORPHANS_H
#define PH_ORPHANS_H

/* Kills and reaps all children of this process's main thread and, if it is a child subreaper, what they leave to it.
 * Waits for as long as that takes. Async-signal-safe. */
void ph_end_children(void);

#endif
