/* host.metrics: the process's histograms of seconds.
 *   observe(name, labels, overflow, seconds)   labels: text as route="runs.get",code="200", escaped by the caller
 *   text(name [, added_up]) -> string          samples in Prometheus's text format; "" when nothing was observed
 *   total(name) -> count, sum                  over all labels
 * Threads: any. */
#include "host.h"
#include "metrics.h"
#include "preload.h"
#include <stdlib.h>

int luaopen_host_metrics(lua_State *L);

static int l_observe(lua_State *L) {
    size_t len;
    const char *name = luaL_checkstring(L, 1), *labels = luaL_checklstring(L, 2, &len);
    ph_metrics_observe(name, labels, len, luaL_checkstring(L, 3), luaL_checknumber(L, 4));
    return 0;
}

static int l_text(lua_State *L) {
    size_t len;
    char *text = ph_metrics_text(luaL_checkstring(L, 1), lua_toboolean(L, 2), &len);
    if (!text)
        return luaL_error(L, "out of memory");
    lua_pushlstring(L, text, len);
    free(text);
    return 1;
}

static int l_total(lua_State *L) {
    double count, sum;
    ph_metrics_total(luaL_checkstring(L, 1), &count, &sum);
    lua_pushnumber(L, count);
    lua_pushnumber(L, sum);
    return 2;
}

int luaopen_host_metrics(lua_State *L) {
    static const luaL_Reg functions[] = {{"observe", l_observe}, {"text", l_text}, {"total", l_total}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
