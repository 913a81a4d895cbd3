/* The one table of host.* modules built into the program. */
#ifndef PH_PRELOAD_H
#define PH_PRELOAD_H
#include <lua.h>
void ph_preload(lua_State *L); /* fills package.preload; opens nothing */
void ph_open_coroutine(lua_State *L); /* replaces functions of the global `coroutine` (bind/coroutine.c) */
void ph_open_task(lua_State *L); /* replaces print, io.write and os.exit (bind/task.c) */
#endif
