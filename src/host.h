/* The host's shared declarations.
 *
 * Rules that every C file relies on:
 *  1. One lua_State belongs to one OS thread from creation to close; no state is entered from another thread.
 *  2. No Lua runs on a nats.c thread; what arrives there is queued and the owner's loop is woken.
 *  3. The memory of nats.c's thread-local data is released (nats_ReleaseThreadMemory) at the end of each
 *     thread of ours that called it.
 *  4. A Lua error (longjmp) is never raised while C resources are held outside a userdata.
 *  5. Failures cross into Lua as nil, message, code; error() is for bugs of the caller.
 */
#ifndef PH_HOST_H
#define PH_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <lua.h>
#include <lauxlib.h>
#include <lualib.h>

/* The closed list of error codes, as strings at the border (the second list is lua/pyoco/err.lua). */
#define PH_INVALID "invalid"
#define PH_NOT_FOUND "not_found"
#define PH_CONFLICT "conflict"
#define PH_TIMEOUT "timeout"
#define PH_UNAVAILABLE "unavailable"
#define PH_UNAUTHORIZED "unauthorized"
#define PH_FORBIDDEN "forbidden"
#define PH_TOO_LARGE "too_large"
#define PH_UNSUPPORTED "unsupported"
#define PH_LIMITED "limited"
#define PH_CANCELLED "cancelled"
#define PH_INTERNAL "internal"

typedef struct ph_error {
    char text[1024]; /* always terminated; empty when nothing failed */
} ph_error;

/* Pushes nil, the formatted message and the code; returns 3, so `return ph_fail(L, code, fmt, ...)`. */
int ph_fail(lua_State *L, const char *code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* A metatable of that name with methods and metamethods kept apart, closed to Lua; nothing happens when it exists. */
void ph_class(lua_State *L, const char *name, const luaL_Reg *methods, const luaL_Reg *meta);

/* --- process facts (host.c) --- */
const char *ph_exe(void);  /* absolute path of this program */
const char *ph_home(void); /* folder that holds lua/, flows/, www/ : PYOCO_HOME, the checkout, or the share folder */

/* The short name by which the user called this program ("pyoco-client"); NULL for pyoco-host. Set once, by main. */
void ph_set_command(const char *name);
const char *ph_command(void);

/* Finds a script as given, then in ph_home()/lua.
 * Writes the path to out (size n). Returns false, with every place tried in err, when there is none. */
bool ph_find_script(const char *name, char *out, size_t n, ph_error *err);

/* Gives a program that was started with a standard stream closed (`>&-`) an empty one instead: what it opens first
 * must not be taken for it. Called by main before anything is opened. */
void ph_streams_init(void);

/* Block the signals that only chosen threads may take; called by main before any thread starts. */
void ph_signals_init(void);

#endif
