/* What a handler asks for in its response table, beside or instead of an answer:
 *   stream = "watch"   run_id, tenant_id, brief, since, timeout_sec = 60, until_terminal, last_event_id
 *   stream = "wait"    run_id, tenant_id, brief, timeout_sec; status, headers, body: the answer when it takes longer
 *   stream = "events"  run_status, flow, tag, schedule_id, workflow_yaml_sha256, q, tenant_id, timeout_sec = 60,
 *                      last_event_id, counts
 *   stream = "object"  bucket, nuid, size, chunks, sha256 (hex or nil), is_direct; status, headers: of the answer
 *   wants = "runs"     the answer says that the read model is not complete: C waits for it, then calls the handler again */
#include "httpd.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool option_bool(lua_State *L, const char *key) {
    lua_getfield(L, -1, key);
    bool v = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return v;
}

static double option_number(lua_State *L, const char *key, double fallback) {
    lua_getfield(L, -1, key);
    double v = luaL_optnumber(L, -1, fallback);
    lua_pop(L, 1);
    return v;
}

/* Copies a text; false when there is none. */
static bool option_text(lua_State *L, const char *key, char *out, size_t room) {
    lua_getfield(L, -1, key);
    size_t n = 0;
    const char *text = luaL_optlstring(L, -1, NULL, &n);
    if (text) /* none of ours holds a NUL or is so long: such a one is like nothing */
        strcpy(out, strlen(text) == n && n < room ? text : "\1");
    lua_pop(L, 1);
    return text != NULL;
}

static void read_run(lua_State *L, ph_stream_request *r, double timeout_sec) {
    if (!option_text(L, "run_id", r->run_id, sizeof r->run_id))
        luaL_error(L, "a stream of a run needs its run_id");
    r->has_tenant = option_text(L, "tenant_id", r->tenant, sizeof r->tenant);
    r->brief = option_bool(L, "brief");
    r->timeout_sec = option_number(L, "timeout_sec", timeout_sec);
}

static void read_watch(lua_State *L, ph_stream_request *r) {
    r->kind = PH_STREAM_WATCH;
    read_run(L, r, 60);
    r->until_terminal = option_bool(L, "until_terminal");
    r->since = option_number(L, "since", -1);
    r->has_since = r->since >= 0;
    double last = option_number(L, "last_event_id", 0);
    r->last_revision = last > 0 && last < 9e15 ? (uint64_t)last : 0;
}

static void read_wait(lua_State *L, ph_stream_request *r) {
    r->kind = PH_STREAM_WAIT;
    read_run(L, r, 0);
}

/* An owned copy of a text that is not empty; NULL otherwise. */
static char *option_copy(lua_State *L, const char *key) {
    lua_getfield(L, -1, key);
    const char *text = luaL_optstring(L, -1, "");
    char *copy = *text ? strdup(text) : NULL;
    if (*text && !copy)
        luaL_error(L, "not enough memory for the filter of a stream");
    lua_pop(L, 1);
    return copy;
}

static void read_events(lua_State *L, ph_stream_request *r) {
    static const char *const names[] = {[PH_ROW_STATUS] = "run_status", [PH_ROW_FLOW] = "flow", [PH_ROW_TAG] = "tag",
                                        [PH_ROW_SCHEDULE] = "schedule_id", [PH_ROW_SHA256] = "workflow_yaml_sha256"};
    char last[64] = "", *dash;
    r->kind = PH_STREAM_EVENTS;
    r->has_tenant = option_text(L, "tenant_id", r->tenant, sizeof r->tenant);
    r->timeout_sec = option_number(L, "timeout_sec", 60);
    r->counts = option_bool(L, "counts");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        r->equal[i] = names[i] ? option_copy(L, names[i]) : NULL;
    r->q = option_copy(L, "q");
    option_text(L, "last_event_id", last, sizeof last);
    r->last_revision = strtoull(last, &dash, 10);
    r->last_life = *dash == '-' ? strtoull(dash + 1, NULL, 16) : 0;
}

void ph_httpd_free_stream(ph_stream_request *stream) {
    for (size_t i = 0; i < sizeof stream->equal / sizeof *stream->equal; i++)
        free(stream->equal[i]);
    free(stream->q);
    *stream = (ph_stream_request){0};
}

/* A word of a subject. */
static void read_word(lua_State *L, const char *key, char *out, size_t room) {
    bool is_given = option_text(L, key, out, room);
    if (!is_given || !*out || out[strspn(out, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")])
        luaL_error(L, "%s of an object must be of letters, digits, _ and -", key);
}

static uint64_t read_count(lua_State *L, const char *key) {
    lua_getfield(L, -1, key);
    lua_Integer n = luaL_checkinteger(L, -1);
    if (n < 0)
        luaL_error(L, "%s of an object is below 0", key);
    lua_pop(L, 1);
    return (uint64_t)n;
}

static void read_object(lua_State *L, ph_stream_request *r) {
    ph_object_source *o = &r->object;
    r->kind = PH_STREAM_OBJECT;
    read_word(L, "bucket", o->bucket, sizeof o->bucket);
    read_word(L, "nuid", o->nuid, sizeof o->nuid);
    o->size = read_count(L, "size");
    o->chunks = read_count(L, "chunks");
    o->is_direct = option_bool(L, "is_direct");
    char hex[65] = "";
    o->has_sha256 = option_text(L, "sha256", hex, sizeof hex);
    for (int i = 0; o->has_sha256 && i < 32; i++) {
        unsigned byte;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
            luaL_error(L, "sha256 of an object is not 64 hex digits");
        o->sha256[i] = (unsigned char)byte;
    }
}

void ph_httpd_read_stream(lua_State *L, ph_exchange *x) {
    static const struct {
        const char *name;
        void (*read)(lua_State *L, ph_stream_request *r);
    } kinds[] = {{"watch", read_watch}, {"wait", read_wait}, {"events", read_events}, {"object", read_object}};
    lua_getfield(L, -1, "stream");
    const char *name = lua_tostring(L, -1);
    if (!name && !lua_isnil(L, -1))
        luaL_error(L, "the stream of a response must be a name, got %s", luaL_typename(L, -1));
    lua_pop(L, 1); /* the table keeps the name alive */
    char wants[8] = "";
    option_text(L, "wants", wants, sizeof wants);
    x->wants_runs = strcmp(wants, "runs") == 0;
    if (!name)
        return;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, name) == 0) {
            kinds[i].read(L, &x->stream);
            return;
        }
    luaL_error(L, "unknown kind of stream '%s'; there are \"watch\", \"wait\", \"events\" and \"object\"", name);
}

const char *ph_httpd_tenant(const ph_exchange *x) {
    return x->stream.has_tenant ? x->stream.tenant : NULL;
}
