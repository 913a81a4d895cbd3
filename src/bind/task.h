/* What the C side of tasks shares: waits that pass outward through users' coroutines. */
#ifndef PH_TASK_H
#define PH_TASK_H

#include "interrupt.h"

/* Whether co is suspended in a wait: its stack then ends with (start function, marker). */
bool ph_is_waiting(lua_State *co);

/* Pushes the marker that makes a yield a wait. */
void ph_push_wait_marker(lua_State *L);

/* lua_resume of co with the nargs values on its stack, recorded as the running user code when there is any. */
int ph_resume(lua_State *L, lua_State *co, int nargs, int *nresults);

#endif
