/* host.clock: time.
 *   monotonic() -> number   seconds since an unknown start, never goes back
 *   wall([offset]) -> number   unix seconds, whole microseconds (more digits than that make JSON slow and say nothing);
 *                           offset: seconds to add, of another clock against ours; rounded likewise
 *   sleep(s) -> true        blocks the thread for s seconds (>= 0); signals do not shorten it
 * Threads: any. */
#include "host.h"
#include "clocks.h"
#include <errno.h>
#include <math.h>
#include <time.h>

int luaopen_host_clock(lua_State *L);

static int l_clock_monotonic(lua_State *L) {
    lua_pushnumber(L, ph_monotonic());
    return 1;
}

static int l_clock_wall(lua_State *L) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    double offset = rint(luaL_optnumber(L, 1, 0) * 1e6);
    lua_pushnumber(L, ((double)t.tv_sec * 1e6 + (double)(t.tv_nsec / 1000) + offset) / 1e6);
    return 1;
}

static int l_clock_sleep(lua_State *L) {
    double seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds >= 0 && seconds <= 1e9, 1, "must be 0 to 1e9 seconds");
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    double whole = floor(seconds);
    until.tv_sec += (time_t)whole;
    until.tv_nsec += (long)((seconds - whole) * 1e9);
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
    lua_pushboolean(L, 1);
    return 1;
}

static const luaL_Reg functions[] = {
    {"monotonic", l_clock_monotonic},
    {"wall", l_clock_wall},
    {"sleep", l_clock_sleep},
    {NULL, NULL},
};

int luaopen_host_clock(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
