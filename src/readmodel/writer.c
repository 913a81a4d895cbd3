/* The database and its only writer. Indexes and counters are made when the loading is done: that is several times
 * faster than to keep them from the first row on. */
#include "readmodel.h"
#include "metrics.h"
#include "feed.h"
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOADING_CACHE "PRAGMA cache_size=-65536"
#define PAST_MAX 100000 /* older versions of rows that are remembered for cursors; store/readmodel.lua knows it too */
#define PRUNE_EVERY 256
#define FILLING 10000 /* rows to index: more than comes in steady work */

static const char set_up[] =
    /* no journal while it is filled for the first time, nobody reads then: each page is written once */
    "PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=MEMORY;"
    "PRAGMA wal_autocheckpoint=1000;"
    /* one row: walk names this filling of the model, seq counts its writes, indexed: search.c */
    "CREATE TABLE meta(walk TEXT NOT NULL, seq INTEGER NOT NULL, indexed INTEGER NOT NULL);"
    "INSERT INTO meta VALUES('', 0, 0);"
    "CREATE TABLE runs(id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, updated_at REAL NOT NULL,"
    " seq INTEGER NOT NULL, rev INTEGER NOT NULL, day INTEGER NOT NULL, status TEXT NOT NULL, flow TEXT NOT NULL,"
    " tag TEXT NOT NULL,"
    " tenant TEXT NOT NULL, schedule TEXT NOT NULL, sha256 TEXT NOT NULL, worker TEXT NOT NULL, error TEXT NOT NULL,"
    " summary TEXT NOT NULL);"
    "CREATE TABLE counters(status TEXT, flow TEXT, tag TEXT, tenant TEXT, day INTEGER, n INTEGER NOT NULL,"
    " PRIMARY KEY(status, flow, tag, tenant, day)) WITHOUT ROWID;"
    /* where a row stood from write prev on, until write seq moved it */
    "CREATE TABLE past(seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL, updated_at REAL NOT NULL,"
    " prev INTEGER NOT NULL);";

static const char forget[] =
    "DROP INDEX IF EXISTS runs_key; DROP INDEX IF EXISTS by_time; DROP INDEX IF EXISTS by_status;"
    "DROP INDEX IF EXISTS by_flow; DROP INDEX IF EXISTS by_flow_status; DROP INDEX IF EXISTS by_tag;"
    "DROP INDEX IF EXISTS by_tenant; DROP INDEX IF EXISTS by_sha256; DROP INDEX IF EXISTS by_schedule;"
    "DELETE FROM runs; DELETE FROM counters; DELETE FROM past;"
    "UPDATE meta SET walk=lower(hex(randomblob(6))), seq=0;";

/* Not UNIQUE: while it is filled the database has no journal, and a statement that fails half done leaves it broken. */
static const char make_key[] = "CREATE INDEX runs_key ON runs(run_id)";

static const char find_versions[] = "SELECT 1 FROM runs GROUP BY run_id HAVING count(*) > 1 LIMIT 1";

/* While loading, each change is a row, a deletion one without summary: of each run the newest stays. */
static const char keep_newest[] =
    "DELETE FROM runs WHERE EXISTS(SELECT 1 FROM runs n WHERE n.run_id=runs.run_id"
    " AND (n.rev>runs.rev OR (n.rev=runs.rev AND n.id>runs.id)));"
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

enum { FIND, INSERT, UPDATE, REMOVE, COUNT, UNCOUNT, TIDY, PAST, PRUNE, SEQ, STATEMENTS };

/* Columns of FIND. Those of counters stand in the order of its key: status, flow, tag, tenant, day. */
enum { OLD_ID, OLD_SEQ, OLD_AT, OLD_STATUS, OLD_FLOW, OLD_TAG, OLD_TENANT, OLD_DAY, OLD_SCHEDULE, OLD_SHA256,
       OLD_WORKER, OLD_ERROR };

static const char *const statements[STATEMENTS] = {
    [FIND] = "SELECT id, seq, updated_at, status, flow, tag, tenant, day, schedule, sha256, worker, error FROM runs"
             " WHERE run_id=?1",
    [INSERT] = "INSERT INTO runs(run_id, updated_at, seq, rev, day, status, flow, tag, tenant, schedule, sha256,"
               " worker, error, summary, id) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15)",
    [UPDATE] = "UPDATE runs SET updated_at=?2, seq=?3, rev=?4, day=?5, status=?6, flow=?7, tag=?8, tenant=?9,"
               " schedule=?10, sha256=?11, worker=?12, error=?13, summary=?14 WHERE id=?15",
    [REMOVE] = "DELETE FROM runs WHERE id=?1",
    [COUNT] = "INSERT INTO counters VALUES(?1,?2,?3,?4,?5,1) ON CONFLICT DO UPDATE SET n=n+1",
    [UNCOUNT] = "UPDATE counters SET n=n-1 WHERE status=?1 AND flow=?2 AND tag=?3 AND tenant=?4 AND day=?5",
    [TIDY] = "DELETE FROM counters WHERE status=?1 AND flow=?2 AND tag=?3 AND tenant=?4 AND day=?5 AND n<=0",
    [PAST] = "INSERT INTO past VALUES(?1,?2,?3,?4)",
    [PRUNE] = "DELETE FROM past WHERE seq<=?1",
    [SEQ] = "UPDATE meta SET seq=?1",
};

struct rm_writer {
    sqlite3 *db;
    sqlite3_stmt *st[STATEMENTS];
    rm_search *search;
    bool is_warming, in_transaction, failed;
    bool is_filling;   /* the index of texts, after a start */
    bool has_deleted;  /* a row without summary was written while warming */
    uint64_t revision; /* of the last row */
    int64_t seq, pruned_at;
    int64_t last_id;   /* ids are never used again: search.c counts on it */
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

static const char *old_text(const rm_writer *w, int column) {
    const char *text = (const char *)sqlite3_column_text(w->st[FIND], column);
    return text ? text : "";
}

static void count_new(rm_writer *w, const ph_row *r) {
    sqlite3_stmt *st = w->st[COUNT];
    for (int i = PH_ROW_STATUS; i <= PH_ROW_TENANT; i++)
        bind_text(st, i + 1, r->text[i], r->len[i]);
    sqlite3_bind_int(st, 5, r->day);
    step(w, COUNT);
    ph_feed_count(r->text[PH_ROW_TENANT], r->text[PH_ROW_STATUS], 1);
}

/* Takes the row that FIND stands on out of its counter. */
static void uncount_old(rm_writer *w) {
    for (int which = UNCOUNT; which <= TIDY; which++) {
        for (int i = 0; i < 5; i++)
            sqlite3_bind_value(w->st[which], i + 1, sqlite3_column_value(w->st[FIND], i + OLD_STATUS));
        step(w, which);
    }
    ph_feed_count(old_text(w, OLD_TENANT), old_text(w, OLD_STATUS), -1);
}

/* Remembers where the row that FIND stands on was. */
static void keep_past(rm_writer *w, const char *key) {
    sqlite3_stmt *st = w->st[PAST];
    sqlite3_bind_int64(st, 1, w->seq);
    bind_text(st, 2, key, -1);
    sqlite3_bind_double(st, 3, sqlite3_column_double(w->st[FIND], OLD_AT));
    sqlite3_bind_int64(st, 4, sqlite3_column_int64(w->st[FIND], OLD_SEQ));
    step(w, PAST);
}

static void write_row(rm_writer *w, int which, const ph_row *r, int64_t id) {
    sqlite3_stmt *st = w->st[which];
    bind_text(st, 1, r->key, -1);
    sqlite3_bind_double(st, 2, r->updated_at);
    sqlite3_bind_int64(st, 3, w->seq);
    sqlite3_bind_int64(st, 4, (int64_t)r->revision);
    sqlite3_bind_int(st, 5, r->day);
    for (int i = 0; i < PH_ROW_COLUMNS; i++)
        bind_text(st, 6 + i, r->text[i], r->len[i]);
    sqlite3_bind_int64(st, 15, id);
    step(w, which);
}

/* Gives a deletion the texts of the row that FIND stands on: an event stream shows it to those who saw the run. */
static void keep_texts(const rm_writer *w, ph_row *r) {
    static const int columns[][2] = {{PH_ROW_FLOW, OLD_FLOW}, {PH_ROW_TAG, OLD_TAG}, {PH_ROW_TENANT, OLD_TENANT},
                                     {PH_ROW_SCHEDULE, OLD_SCHEDULE}, {PH_ROW_SHA256, OLD_SHA256}};
    size_t room = 0, n = sizeof columns / sizeof *columns;
    for (size_t i = 0; i < n; i++)
        room += strlen(old_text(w, columns[i][1])) + 1;
    char *out = r->gone = malloc(room);
    for (size_t i = 0; out && i < n; i++) {
        r->text[columns[i][0]] = out;
        out = stpcpy(out, old_text(w, columns[i][1])) + 1;
    }
}

static bool is_terminal(const char *status) {
    return strcmp(status, "COMPLETED") == 0 || strcmp(status, "FAILED") == 0 || strcmp(status, "CANCELLED") == 0;
}

static void observe(const char *name, const ph_row *r, double seconds) {
    char labels[256];
    size_t len = ph_metrics_label(labels, sizeof labels, "flow", r->text[PH_ROW_FLOW]);
    ph_metrics_observe(name, labels, len, "flow=\"other\"", seconds);
}

/* Counts how long a run waited and ran, when it starts and ends before our eyes: FIND stands on what it was, if it
 * is_known. PENDING is written once, so that the time of that write is when the run began to wait. */
static void observe_times(const rm_writer *w, const ph_row *r, bool is_known) {
    const char *was = is_known ? old_text(w, OLD_STATUS) : "", *is = r->text[PH_ROW_STATUS];
    if (r->kind != PH_ROW_PUT || r->started_at <= 0 || is_terminal(was) || !(is_known || r->has_begun))
        return;
    double pending_at = strcmp(was, "PENDING") == 0 ? sqlite3_column_double(w->st[FIND], OLD_AT) : r->pending_at;
    if (pending_at > 0 && strcmp(is, "PENDING") != 0)
        observe("pyoco_run_dispatch_seconds", r, r->started_at - pending_at);
    if (is_terminal(is) && r->ended_at > 0)
        observe("pyoco_run_duration_seconds", r, r->ended_at - r->started_at);
}

/* Notes what the row that FIND stands on was. */
static void compare(const rm_writer *w, ph_row *r) {
    static const int columns[][2] = {{PH_ROW_WORKER, OLD_WORKER}, {PH_ROW_ERROR, OLD_ERROR}};
    r->past_status = ph_row_status_bit(old_text(w, OLD_STATUS));
    for (int i = 0; i < 2; i++) {
        const char *was = old_text(w, columns[i][1]);
        r->has_other_texts = r->has_other_texts || (*was && strcmp(was, r->text[columns[i][0]]) != 0);
    }
    if (r->kind == PH_ROW_DELETE)
        keep_texts(w, r);
}

/* Replaces or removes the row that FIND stands on. */
static void change_row(rm_writer *w, ph_row *r) {
    int64_t id = sqlite3_column_int64(w->st[FIND], OLD_ID);
    const char *const was[3] = {old_text(w, OLD_FLOW), old_text(w, OLD_WORKER), old_text(w, OLD_ERROR)};
    bool is_put = r->kind == PH_ROW_PUT;
    compare(w, r);
    uncount_old(w);
    if (is_put)
        keep_past(w, r->key);
    if (!rm_search_change(w->search, id, r->key, was, is_put ? r : NULL))
        w->failed = true;
    sqlite3_reset(w->st[FIND]);
    if (is_put)
        write_row(w, UPDATE, r, id);
    else
        run_int(w, REMOVE, id);
}

static void take_row(rm_writer *w, ph_row *r) {
    w->revision = r->revision;
    w->count++;
    if (w->is_warming) {
        w->seq++;
        w->has_deleted = w->has_deleted || r->kind == PH_ROW_DELETE;
        write_row(w, INSERT, r, ++w->last_id);
        return;
    }
    bind_text(w->st[FIND], 1, r->key, -1);
    bool is_known = step(w, FIND);
    r->is_news = is_known || r->kind == PH_ROW_PUT;
    observe_times(w, r, is_known);
    if (r->is_news)
        w->seq++;
    if (is_known)
        change_row(w, r);
    else if (r->is_news)
        write_row(w, INSERT, r, ++w->last_id);
    if (r->kind == PH_ROW_PUT)
        count_new(w, r);
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
    if (w->seq - w->pruned_at > PRUNE_EVERY) {
        w->pruned_at = w->seq;
        run_int(w, PRUNE, w->seq - PAST_MAX);
    }
    w->in_transaction = false;
    return run_sql(w, "COMMIT", err);
}

static bool start_over(rm_writer *w, ph_error *err) {
    w->is_warming = true;
    w->has_deleted = false;
    w->revision = w->count = 0;
    w->seq = w->pruned_at = w->last_id = 0;
    return run_sql(w, forget, err) && (rm_search_forget(w->search) || fail(w, err));
}

/* What the loading took is a multiple of what is needed from now on. */
static bool give_back(rm_writer *w, ph_error *err) {
    bool ok = run_sql(w, "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA shrink_memory", err);
    malloc_trim(0);
    return ok;
}

/* Whether a query has a row. */
static bool find_any(rm_writer *w, const char *sql, bool *found, ph_error *err) {
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(w->db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    *found = rc == SQLITE_ROW;
    sqlite3_finalize(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE || fail(w, err);
}

static bool go_live(rm_writer *w, ph_error *err) {
    if (!w->is_warming)
        return true;
    w->is_warming = false;
    bool has_versions = false;
    bool ok = run_sql(w, make_key, err) && find_any(w, find_versions, &has_versions, err);
    if (has_versions || w->has_deleted)
        ok = ok && run_sql(w, keep_newest, err);
    ok = ok && run_sql(w, complete, err) && commit(w, err) &&
              run_sql(w, "PRAGMA journal_mode=WAL; PRAGMA cache_size=-2048", err) && give_back(w, err);
    return ok;
}

bool rm_writer_apply(rm_writer *w, ph_row *rows, ph_error *err) {
    for (ph_row *r = rows; r; r = r->next) {
        if (!begin(w, err))
            return false;
        if (r->kind == PH_ROW_RESET) {
            if (!run_sql(w, LOADING_CACHE, err) || !start_over(w, err))
                return false;
        } else if (r->kind == PH_ROW_LIVE) {
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

uint64_t rm_writer_revision(const rm_writer *w) {
    return w->revision;
}

int64_t rm_writer_lag(const rm_writer *w) {
    return w->is_warming ? 0 : rm_search_lag(w->search, w->last_id);
}

bool rm_writer_index(rm_writer *w, ph_error *err) {
    if (!begin(w, err) || !(rm_search_step(w->search, w->last_id) || fail(w, err)) || !commit(w, err))
        return false;
    w->is_filling = w->is_filling || rm_writer_lag(w) > FILLING;
    if (!w->is_filling || rm_writer_lag(w) > 0)
        return true;
    w->is_filling = false;
    return give_back(w, err);
}

bool rm_writer_each_count(rm_writer *w, void (*fn)(const char *tenant, const char *status, int64_t n), ph_error *err) {
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(w->db, "SELECT tenant, status, sum(n) FROM counters GROUP BY 1, 2", -1, &st, NULL);
    while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        fn((const char *)sqlite3_column_text(st, 0), (const char *)sqlite3_column_text(st, 1),
           sqlite3_column_int64(st, 2));
        rc = SQLITE_OK;
    }
    sqlite3_finalize(st);
    return rc == SQLITE_DONE || fail(w, err);
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
    ok = ok && (w->search = rm_search_open(w->db, err));
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
    rm_search_close(w->search);
    sqlite3_close(w->db);
    free(w);
}
