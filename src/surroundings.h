/* What a run may change of its process beyond its VM: the current folder, the environment, the locale, what signals do,
 * open files. Noted once, put back after each run. Threads: the process's main one, while no other reads the
 * environment. */
#ifndef PH_SURROUNDINGS_H
#define PH_SURROUNDINGS_H

#include <stdbool.h>

/* Notes how things are. False without memory. Once per process. */
bool ph_surroundings_note(void);

/* Puts back what has changed since. Cheap when nothing has. */
void ph_surroundings_restore(void);

/* Files that were opened since and never closed, more or less: how far the lowest free descriptor has moved. */
int ph_surroundings_leaked_files(void);

#endif
