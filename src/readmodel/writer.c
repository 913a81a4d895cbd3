/* The database and its only writer. Indexes and counters are made when the loading is done: that is several times
 * faster than to keep them from the first row on. */
#include "readmodel.h"
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOADING_CACHE "PRAGMA cache_size=-65536"
#define PAST_MAX 100000 /* older versions of rows that are remembered for cursors; store/readmodel.lua knows it too */
#define PRUNE_EVERY 256

static const char set_up[] =
    /* no journal while it is filled for the first time, nobody reads then: each page is written once */
    "PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=MEMORY;"
    "PRAGMA wal_autocheckpoint=1000;"
    /* one row: walk names this filling of the model, seq counts its writes */
    "CREATE TABLE meta(walk TEXT NOT NULL, seq INTEGER NOT NULL);"
    "INSERT INTO meta VALUES('', 0);"
    "CREATE TABLE runs(id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, updated_at REAL NOT NULL,"
    " seq INTEGER NOT NULL, rev INTEGER NOT NULL, day INTEGER NOT NULL, status TEXT NOT NULL, flow TEXT NOT NULL,"
    " tag TEXT NOT NULL,"
    " tenant TEXT NOT NULL, schedule TEXT NOT NULL, sha256 TEXT NOT NULL, worker TEXT NOT NULL, error TEXT NOT NULL,"
    " summary TEXT NOT NULL);"
    "CREATE TABLE counters(status TEXT, flow TEXT, tag TEXT, tenant TEXT, day INTEGER, n INTEGER NOT NULL,"
    " PRIMARY KEY(status, flow, tag, tenant, day)) WITHOUT ROWID;"
    /* where a row stood from write prev on, until write seq moved it */
    "CREATE TABLE past(seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL, updated_at REAL NOT NULL,"
    " prev INTEGER NOT NULL);"
    /* what was deleted ahead of the tail */
    "CREATE TABLE gone(run_id TEXT PRIMARY KEY, rev INTEGER NOT NULL) WITHOUT ROWID;";

static const char forget[] =
    "DROP INDEX IF EXISTS runs_key; DROP INDEX IF EXISTS by_time; DROP INDEX IF EXISTS by_status;"
    "DROP INDEX IF EXISTS by_flow; DROP INDEX IF EXISTS by_flow_status; DROP INDEX IF EXISTS by_tag;"
    "DROP INDEX IF EXISTS by_tenant; DROP INDEX IF EXISTS by_sha256; DROP INDEX IF EXISTS by_schedule;"
    "DELETE FROM runs; DELETE FROM counters; DELETE FROM past; DELETE FROM gone;"
    "UPDATE meta SET walk=lower(hex(randomblob(6))), seq=0;";

static const char make_key[] = "CREATE UNIQUE INDEX runs_key ON runs(run_id)";

/* While loading, each change is a row, a deletion one without summary: of each run the newest stays. */
static const char keep_newest[] =
    "CREATE INDEX versions ON runs(run_id, rev);"
    "DELETE FROM runs WHERE EXISTS(SELECT 1 FROM runs n WHERE n.run_id=runs.run_id"
    " AND (n.rev>runs.rev OR (n.rev=runs.rev AND n.id>runs.id)));"
    "DROP INDEX versions;"
    "DELETE FROM runs WHERE summary='';";

static const char complete[] =
    "CREATE INDEX by_time ON runs(updated_at, run_id);"
    /* the columns behind run_id: what else a list may filter by is decided in the index */
    "CREATE INDEX by_status ON runs(status, updated_at, run_id, flow, tag);"
    "CREATE INDEX by_flow ON runs(flow, updated_at, run_id, status, tag);"
    "CREATE INDEX by_tag ON runs(tag, updated_at, run_id, status, flow);"
    "CREATE INDEX by_flow_status ON runs(flow, status, updated_at, run_id, tag);"
    "CREATE INDEX by_tenant ON runs(tenant, updated_at, run_id) WHERE tenant<>'';"
    "CREATE INDEX by_sha256 ON runs(sha256, updated_at, run_id) WHERE sha256<>'';"
    "CREATE INDEX by_schedule ON runs(schedule, updated_at, run_id) WHERE schedule<>'';"
    "INSERT INTO counters SELECT status, flow, tag, tenant, day, count(*) FROM runs GROUP BY 1, 2, 3, 4, 5;";

enum { FIND, INSERT, UPDATE, REMOVE, COUNT, UNCOUNT, TIDY, PAST, PRUNE, GONE, IS_GONE, FORGET_GONE, SEQ, STATEMENTS };

/* In FIND and below the columns of counters stand in the order status, flow, tag, tenant, day. */
static const char *const statements[STATEMENTS] = {
    [FIND] = "SELECT id, rev, seq, updated_at, status, flow, tag, tenant, day FROM runs WHERE run_id=?1",
    [INSERT] = "INSERT INTO runs(run_id, updated_at, seq, rev, day, status, flow, tag, tenant, schedule, sha256,"
               " worker, error, summary) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
    [UPDATE] = "UPDATE runs SET updated_at=?2, seq=?3, rev=?4, day=?5, status=?6, flow=?7, tag=?8, tenant=?9,"
               " schedule=?10, sha256=?11, worker=?12, error=?13, summary=?14 WHERE id=?15",
    [REMOVE] = "DELETE FROM runs WHERE id=?1",
    [COUNT] = "INSERT INTO counters VALUES(?1,?2,?3,?4,?5,1) ON CONFLICT DO UPDATE SET n=n+1",
    [UNCOUNT] = "UPDATE counters SET n=n-1 WHERE status=?1 AND flow=?2 AND tag=?3 AND tenant=?4 AND day=?5",
    [TIDY] = "DELETE FROM counters WHERE status=?1 AND flow=?2 AND tag=?3 AND tenant=?4 AND day=?5 AND n<=0",
    [PAST] = "INSERT INTO past VALUES(?1,?2,?3,?4)",
    [PRUNE] = "DELETE FROM past WHERE seq<=?1",
    [GONE] = "INSERT INTO gone VALUES(?1,?2) ON CONFLICT DO UPDATE SET rev=max(rev, excluded.rev)",
    [IS_GONE] = "SELECT 1 FROM gone WHERE run_id=?1 AND rev>?2",
    [FORGET_GONE] = "DELETE FROM gone WHERE rev<=?1",
    [SEQ] = "UPDATE meta SET seq=?1",
};

struct rm_writer {
    sqlite3 *db;
    sqlite3_stmt *st[STATEMENTS];
    bool is_warming, in_transaction, failed;
    bool has_deleted;  /* a row without summary was written while warming */
    bool has_gone;     /* the table gone may have rows */
    uint64_t tail_rev; /* up to here the tail has delivered everything */
    int64_t seq, pruned_at;
    uint64_t count;
};

static bool fail(rm_writer *w, ph_error *err) {
    w->failed = true;
    snprintf(err->text, sizeof err->text, "read model: %s", sqlite3_errmsg(w->db));
    return false;
}

static bool run_sql(rm_writer *w, const char *sql, ph_error *err) {
    return sqlite3_exec(w->db, sql, NULL, NULL, NULL) == SQLITE_OK || fail(w, err);
}

/* Runs a statement whose parameters are bound; true when it gave a row (reset it then). */
static bool step(rm_writer *w, int which) {
    int rc = sqlite3_step(w->st[which]);
    if (rc == SQLITE_ROW)
        return true;
    if (rc != SQLITE_DONE)
        w->failed = true;
    sqlite3_reset(w->st[which]);
    return false;
}

static void bind_text(sqlite3_stmt *st, int at, const char *text, int len) {
    sqlite3_bind_text(st, at, text, len, SQLITE_STATIC);
}

static void run_int(rm_writer *w, int which, int64_t value) {
    sqlite3_bind_int64(w->st[which], 1, value);
    step(w, which);
}

/* --- one row --- */

static void count_new(rm_writer *w, const rm_row *r) {
    sqlite3_stmt *st = w->st[COUNT];
    for (int i = RM_STATUS; i <= RM_TENANT; i++)
        bind_text(st, i + 1, r->text[i], r->len[i]);
    sqlite3_bind_int(st, 5, r->day);
    step(w, COUNT);
}

/* Takes the row that FIND stands on out of its counter. */
static void uncount_old(rm_writer *w) {
    for (int which = UNCOUNT; which <= TIDY; which++) {
        for (int i = 0; i < 5; i++)
            sqlite3_bind_value(w->st[which], i + 1, sqlite3_column_value(w->st[FIND], i + 4));
        step(w, which);
    }
}

/* Remembers where the row that FIND stands on was. */
static void keep_past(rm_writer *w, const char *key) {
    sqlite3_stmt *st = w->st[PAST];
    sqlite3_bind_int64(st, 1, w->seq);
    bind_text(st, 2, key, -1);
    sqlite3_bind_double(st, 3, sqlite3_column_double(w->st[FIND], 3));
    sqlite3_bind_int64(st, 4, sqlite3_column_int64(w->st[FIND], 2));
    step(w, PAST);
}

static void write_row(rm_writer *w, int which, const rm_row *r, int64_t id) {
    sqlite3_stmt *st = w->st[which];
    bind_text(st, 1, r->key, -1);
    sqlite3_bind_double(st, 2, r->updated_at);
    sqlite3_bind_int64(st, 3, w->seq);
    sqlite3_bind_int64(st, 4, (int64_t)r->revision);
    sqlite3_bind_int(st, 5, r->day);
    for (int i = 0; i < RM_COLUMNS; i++)
        bind_text(st, 6 + i, r->text[i] ? r->text[i] : "", r->len[i]);
    if (which == UPDATE)
        sqlite3_bind_int64(st, 15, id);
    step(w, which);
}

static bool was_deleted_later(rm_writer *w, const rm_row *r) {
    if (!w->has_gone)
        return false;
    bind_text(w->st[IS_GONE], 1, r->key, -1);
    sqlite3_bind_int64(w->st[IS_GONE], 2, (int64_t)r->revision);
    bool found = step(w, IS_GONE);
    sqlite3_reset(w->st[IS_GONE]);
    return found;
}

static void remember_gone(rm_writer *w, const rm_row *r) {
    bind_text(w->st[GONE], 1, r->key, -1);
    sqlite3_bind_int64(w->st[GONE], 2, (int64_t)r->revision);
    step(w, GONE);
    w->has_gone = true;
}

static void take_row(rm_writer *w, const rm_row *r) {
    if (r->is_ours && r->revision <= w->tail_rev)
        return; /* the tail has been there: this, or what came after it */
    if (!r->is_ours)
        w->tail_rev = r->revision;
    if (r->kind == RM_DELETE && r->is_ours)
        remember_gone(w, r);
    w->count++;
    if (w->is_warming) {
        w->seq++;
        w->has_deleted = w->has_deleted || r->kind == RM_DELETE;
        write_row(w, INSERT, r, 0);
        return;
    }
    bind_text(w->st[FIND], 1, r->key, -1);
    bool is_known = step(w, FIND);
    bool is_newer = !is_known || (uint64_t)sqlite3_column_int64(w->st[FIND], 1) < r->revision;
    if (is_newer && (is_known || r->kind == RM_PUT) && !(r->kind == RM_PUT && was_deleted_later(w, r))) {
        int64_t id = is_known ? sqlite3_column_int64(w->st[FIND], 0) : 0;
        w->seq++;
        if (is_known) {
            uncount_old(w);
            if (r->kind == RM_PUT)
                keep_past(w, r->key);
        }
        sqlite3_reset(w->st[FIND]);
        if (r->kind == RM_DELETE) {
            run_int(w, REMOVE, id);
        } else {
            write_row(w, is_known ? UPDATE : INSERT, r, id);
            count_new(w, r);
        }
    }
    sqlite3_reset(w->st[FIND]);
}

/* --- batches --- */

static bool begin(rm_writer *w, ph_error *err) {
    if (w->in_transaction)
        return true;
    w->in_transaction = true;
    return run_sql(w, "BEGIN IMMEDIATE", err);
}

static bool commit(rm_writer *w, ph_error *err) {
    run_int(w, SEQ, w->seq);
    if (w->has_gone) {
        run_int(w, FORGET_GONE, (int64_t)w->tail_rev);
        sqlite3_stmt *st = NULL;
        sqlite3_prepare_v2(w->db, "SELECT 1 FROM gone LIMIT 1", -1, &st, NULL);
        w->has_gone = sqlite3_step(st) == SQLITE_ROW;
        sqlite3_finalize(st);
    }
    if (w->seq - w->pruned_at > PRUNE_EVERY) {
        w->pruned_at = w->seq;
        run_int(w, PRUNE, w->seq - PAST_MAX);
    }
    w->in_transaction = false;
    return run_sql(w, "COMMIT", err);
}

static bool start_over(rm_writer *w, ph_error *err) {
    w->is_warming = true;
    w->has_gone = w->has_deleted = false;
    w->tail_rev = w->count = 0;
    w->seq = w->pruned_at = 0;
    return run_sql(w, forget, err);
}

static bool go_live(rm_writer *w, ph_error *err) {
    if (!w->is_warming)
        return true;
    w->is_warming = false;
    bool is_unique = !w->has_deleted && sqlite3_exec(w->db, make_key, NULL, NULL, NULL) == SQLITE_OK;
    if (!is_unique && (!run_sql(w, keep_newest, err) || !run_sql(w, make_key, err)))
        return false;
    bool ok = run_sql(w, complete, err) && commit(w, err) &&
              run_sql(w, "PRAGMA journal_mode=WAL; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA cache_size=-4096;"
                         "PRAGMA shrink_memory", err);
    malloc_trim(0); /* what the loading took is a multiple of what is needed from now on */
    return ok;
}

bool rm_writer_apply(rm_writer *w, const rm_row *rows, ph_error *err) {
    for (const rm_row *r = rows; r; r = r->next) {
        if (!begin(w, err))
            return false;
        if (r->kind == RM_RESET) {
            if (!run_sql(w, LOADING_CACHE, err) || !start_over(w, err))
                return false;
        } else if (r->kind == RM_LIVE) {
            if (!go_live(w, err))
                return false;
        } else {
            take_row(w, r);
        }
        if (w->failed)
            return fail(w, err);
    }
    return w->is_warming || !w->in_transaction || commit(w, err);
}

bool rm_writer_is_warming(const rm_writer *w) {
    return w->is_warming;
}

uint64_t rm_writer_count(const rm_writer *w) {
    return w->count;
}

rm_writer *rm_writer_open(const char *path, ph_error *err) {
    rm_writer *w = calloc(1, sizeof *w);
    if (!w) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return NULL;
    }
    w->is_warming = true;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    bool ok = sqlite3_open_v2(path, &w->db, flags, NULL) == SQLITE_OK;
    sqlite3_busy_timeout(w->db, 10000); /* readers open it once it is complete, and never hold it for long */
    ok = (ok || fail(w, err)) && run_sql(w, set_up, err) && run_sql(w, LOADING_CACHE, err);
    for (int i = 0; ok && i < STATEMENTS; i++)
        ok = sqlite3_prepare_v3(w->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &w->st[i], NULL) == SQLITE_OK ||
             fail(w, err);
    ok = ok && run_sql(w, forget, err); /* names this filling */
    if (ok)
        return w;
    rm_writer_close(w);
    return NULL;
}

void rm_writer_close(rm_writer *w) {
    if (!w)
        return;
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(w->st[i]);
    sqlite3_close(w->db);
    free(w);
}
