/* host.readmodel: the gateway's indexed copy of the runs (src/readmodel/; a loadable module with SQLite).
 *   start{ bucket = , dir = } -> model | nil, message, code
 *        One for the process. Follows the bucket on the process's NATS connection. dir: where its temporary folder is
 *        made, default TMPDIR or /tmp.
 *   model:stats() -> { warming, writes, batches, loaded_sec }
 *   model:stop()       after the VMs that read; closing or collecting the model stops it too
 *   wrote(revision) -> boolean   notes a write of this process, seen by every select from now on; false when there is
 *        no model
 *   reader() -> reader | nil, message, "unavailable"    this VM's connection, read only, opened with the first select
 *   reader:select(timeout_ms, sql, ...) -> { {column, ...}, ... } | nil, "warming", "unavailable"
 *        Waits up to timeout_ms for what this process has written before; "warming" at once when the model is not
 *        complete. Parameters: strings, numbers, booleans. NULL is nil.
 *        Raises for SQL that is wrong. Statements are kept by their text: build few different ones.
 *        Beside SQLite's functions: has_text(part, text, ...) whether one of the texts has that part, in any case of
 *        ASCII letters; a third of what LIKE takes, and nothing in the part has a meaning of its own.
 * Threads: a reader belongs to its VM. Ownership: a reader keeps the model's memory, not its files, alive. */
#include "../readmodel/readmodel.h"
#include <string.h>

#define MODEL "host.readmodel.model"
#define READER "host.readmodel.reader"
#define STATEMENTS_MAX 64

int luaopen_host_readmodel(lua_State *L);

typedef struct reader {
    rm_model *model; /* a reference; NULL once closed */
    bool is_of_duties; /* the service VM's */
    sqlite3 *db;
    int count;
    sqlite3_stmt *statements[STATEMENTS_MAX];
} reader;

static int l_start(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_getfield(L, 1, "bucket");
    lua_getfield(L, 1, "dir");
    rm_options options = {.bucket = luaL_checkstring(L, 2), .dir = luaL_optstring(L, 3, NULL)};
    rm_model **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    luaL_setmetatable(L, MODEL);
    ph_error err = {0};
    *box = rm_start(&options, &err);
    return *box ? 1 : ph_fail(L, PH_UNAVAILABLE, "%s", err.text);
}

static int l_model_stop(lua_State *L) {
    rm_model **box = luaL_checkudata(L, 1, MODEL), *m = *box;
    *box = NULL;
    if (m)
        rm_stop(m);
    return 0;
}

static int l_model_stats(lua_State *L) {
    rm_model **box = luaL_checkudata(L, 1, MODEL);
    luaL_argcheck(L, *box, 1, "the read model is stopped");
    rm_stats s = rm_get_stats(*box);
    lua_createtable(L, 0, 4);
    lua_pushboolean(L, s.is_warming);
    lua_setfield(L, -2, "warming");
    lua_pushinteger(L, (lua_Integer)s.writes);
    lua_setfield(L, -2, "writes");
    lua_pushinteger(L, (lua_Integer)s.batches);
    lua_setfield(L, -2, "batches");
    lua_pushnumber(L, s.loaded_sec);
    lua_setfield(L, -2, "loaded_sec");
    return 1;
}

static int l_wrote(lua_State *L) {
    lua_Integer revision = luaL_checkinteger(L, 1);
    rm_model *m = rm_current();
    if (m)
        rm_wrote(m, (uint64_t)revision);
    rm_release(m);
    lua_pushboolean(L, m != NULL);
    return 1;
}

/* --- readers --- */

static int l_reader_close(lua_State *L) {
    reader *r = luaL_checkudata(L, 1, READER);
    for (int i = 0; i < r->count; i++)
        sqlite3_finalize(r->statements[i]);
    r->count = 0;
    sqlite3_close(r->db);
    r->db = NULL;
    rm_release(r->model);
    r->model = NULL;
    return 0;
}

static int l_reader(lua_State *L) {
    reader *r = lua_newuserdatauv(L, sizeof *r, 0);
    memset(r, 0, sizeof *r);
    luaL_setmetatable(L, READER);
    if (!(r->model = rm_current()))
        return ph_fail(L, PH_UNAVAILABLE, "this process has no read model");
    lua_getfield(L, LUA_REGISTRYINDEX, "host.role");
    r->is_of_duties = strcmp(lua_tostring(L, -1), "service") == 0;
    lua_pop(L, 1);
    return 1;
}

static void has_text(sqlite3_context *context, int count, sqlite3_value **values) {
    const char *part = (const char *)sqlite3_value_text(values[0]);
    bool has = false;
    /* one with a NUL is in no text: texts end there */
    if (part && strlen(part) == (size_t)sqlite3_value_bytes(values[0]))
        for (int i = 1; i < count && !has; i++) {
            const char *text = (const char *)sqlite3_value_text(values[i]);
            has = text && strcasestr(text, part);
        }
    sqlite3_result_int(context, has);
}

/* Opens the database: not before the model is complete, since a reader's first look would hold up its writer. */
static bool open_database(reader *r) {
    if (r->db)
        return true;
    if (sqlite3_open_v2(rm_path(r->model), &r->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK) {
        sqlite3_busy_timeout(r->db, 1000); /* only while the log of the database is restarted */
        if (sqlite3_exec(r->db, "PRAGMA query_only=1; PRAGMA cache_size=-512; PRAGMA temp_store=MEMORY", NULL, NULL,
                         NULL) == SQLITE_OK &&
            sqlite3_create_function(r->db, "has_text", -1, SQLITE_UTF8 | SQLITE_DETERMINISTIC, NULL, has_text, NULL,
                                    NULL) == SQLITE_OK)
            return true;
    }
    sqlite3_close(r->db);
    r->db = NULL;
    return false;
}

/* The statement of that text, ready to be bound. The oldest goes when there are too many. */
static sqlite3_stmt *prepared(lua_State *L, reader *r, const char *sql) {
    for (int i = 0; i < r->count; i++)
        if (strcmp(sqlite3_sql(r->statements[i]), sql) == 0)
            return r->statements[i];
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v3(r->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL) != SQLITE_OK)
        luaL_error(L, "read model: %s in: %s", sqlite3_errmsg(r->db), sql);
    if (r->count == STATEMENTS_MAX) {
        sqlite3_finalize(r->statements[0]);
        memmove(r->statements, r->statements + 1, (STATEMENTS_MAX - 1) * sizeof *r->statements);
        r->count--;
    }
    return r->statements[r->count++] = st;
}

static void bind(lua_State *L, sqlite3_stmt *st, int first) {
    int n = lua_gettop(L) - first + 1;
    if (n != sqlite3_bind_parameter_count(st))
        luaL_error(L, "read model: %d parameters for %d in: %s", n, sqlite3_bind_parameter_count(st), sqlite3_sql(st));
    for (int i = 1; i <= n; i++) {
        int at = first + i - 1;
        size_t len;
        const char *text;
        switch (lua_type(L, at)) {
        case LUA_TNUMBER:
            if (lua_isinteger(L, at))
                sqlite3_bind_int64(st, i, lua_tointeger(L, at));
            else
                sqlite3_bind_double(st, i, lua_tonumber(L, at));
            break;
        case LUA_TBOOLEAN:
            sqlite3_bind_int(st, i, lua_toboolean(L, at));
            break;
        default: /* on the stack until the end of the call */
            text = luaL_checklstring(L, at, &len);
            sqlite3_bind_text(st, i, text, (int)len, SQLITE_STATIC);
        }
    }
}

static void push_row(lua_State *L, sqlite3_stmt *st) {
    int n = sqlite3_column_count(st);
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        switch (sqlite3_column_type(st, i)) {
        case SQLITE_INTEGER:
            lua_pushinteger(L, sqlite3_column_int64(st, i));
            break;
        case SQLITE_FLOAT:
            lua_pushnumber(L, sqlite3_column_double(st, i));
            break;
        case SQLITE_NULL:
            continue;
        default:
            lua_pushlstring(L, (const char *)sqlite3_column_text(st, i), (size_t)sqlite3_column_bytes(st, i));
        }
        lua_rawseti(L, -2, i + 1);
    }
}

/* Steps the statement (upvalue-free, under a protected call): the table of rows. */
static int collect(lua_State *L) {
    sqlite3_stmt *st = lua_touserdata(L, 1);
    lua_newtable(L);
    int rc;
    for (lua_Integer i = 1; (rc = sqlite3_step(st)) == SQLITE_ROW; i++) {
        push_row(L, st);
        lua_rawseti(L, -2, i);
    }
    if (rc != SQLITE_DONE)
        return luaL_error(L, "read model: %s", sqlite3_errmsg(sqlite3_db_handle(st)));
    return 1;
}

static int l_reader_select(lua_State *L) {
    reader *r = luaL_checkudata(L, 1, READER);
    luaL_argcheck(L, r->model, 1, "the reader is closed");
    lua_Integer timeout_ms = luaL_checkinteger(L, 2);
    const char *sql = luaL_checkstring(L, 3);
    int top = lua_gettop(L);
    for (int tries = 0; tries < 3; tries++) {
        uint64_t generation = rm_wait(r->model, (int)timeout_ms, !r->is_of_duties);
        if (generation == 0)
            break;
        if (!open_database(r))
            continue;
        lua_settop(L, top);
        sqlite3_stmt *st = prepared(L, r, sql);
        bind(L, st, 4);
        lua_pushcfunction(L, collect);
        lua_pushlightuserdata(L, st);
        int rc = lua_pcall(L, 1, 1, 0);
        sqlite3_reset(st); /* ends the read: else the log of the database could not be restarted */
        sqlite3_clear_bindings(st);
        if (rm_generation(r->model) != generation)
            continue; /* the model has started over under our hands: what was read may be a part only */
        return rc == LUA_OK ? 1 : lua_error(L);
    }
    return ph_fail(L, PH_UNAVAILABLE, "warming");
}

static const luaL_Reg model_methods[] = {{"stats", l_model_stats}, {"stop", l_model_stop}, {NULL, NULL}};
static const luaL_Reg model_meta[] = {{"__gc", l_model_stop}, {"__close", l_model_stop}, {NULL, NULL}};
static const luaL_Reg reader_methods[] = {{"select", l_reader_select}, {"close", l_reader_close}, {NULL, NULL}};
static const luaL_Reg reader_meta[] = {{"__gc", l_reader_close}, {"__close", l_reader_close}, {NULL, NULL}};
static const luaL_Reg functions[] = {{"start", l_start}, {"wrote", l_wrote}, {"reader", l_reader}, {NULL, NULL}};

int luaopen_host_readmodel(lua_State *L) {
    ph_class(L, MODEL, model_methods, model_meta);
    ph_class(L, READER, reader_methods, reader_meta);
    luaL_newlib(L, functions);
    return 1;
}
