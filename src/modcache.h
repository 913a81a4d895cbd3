/* A process-wide cache of our library's compiled modules: a fresh VM loads bytecode instead of parsing. */
#ifndef PH_MODCACHE_H
#define PH_MODCACHE_H

#include "host.h"

/* Adds a searcher for `pyoco` and `pyoco.*` (found in <home>/lua) in front of the file searchers of L's
 * package library. A module whose file changed (mtime or size) is compiled anew; a short-lived VM may use
 * one that was current 100 ms ago. Bytecode keeps its debug information. Other modules are not touched. Any thread. */
void ph_modcache_install(lua_State *L);

#endif
