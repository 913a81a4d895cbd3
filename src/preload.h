/* The one table of host.* modules built into the program. */
#ifndef PH_PRELOAD_H
#define PH_PRELOAD_H
#include <lua.h>
void ph_preload(lua_State *L); /* fills package.preload; opens nothing */
#endif
