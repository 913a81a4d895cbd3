/* The index behind `q`: one FTS5 document a run, its texts one below the other. */
#include "readmodel.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEP_ROWS 1024 /* ten milliseconds; many rows at once cost half of what they cost in small steps */

enum { ADD, REMOVE, NEXT, MARK, STATEMENTS };

/* A document is made of the same columns, in the same way, wherever it is made: FTS5 is told the old text of what it
 * shall forget. */
#define TEXTS(run_id, flow, worker, error) run_id "||char(10)||" flow "||char(10)||" worker "||char(10)||" error

static const char *const statements[STATEMENTS] = {
    [ADD] = "INSERT INTO texts(rowid, t) VALUES(?1, " TEXTS("?2", "?3", "?4", "?5") ")",
    [REMOVE] = "INSERT INTO texts(texts, rowid, t) VALUES('delete', ?1, " TEXTS("?2", "?3", "?4", "?5") ")",
    [NEXT] = "SELECT id, run_id, flow, worker, error FROM runs WHERE id>?1 ORDER BY id LIMIT ?2",
    [MARK] = "UPDATE meta SET indexed=?1",
};

struct rm_search {
    sqlite3 *db;
    sqlite3_stmt *st[STATEMENTS];
    int64_t indexed; /* as in meta */
};

rm_search *rm_search_open(sqlite3 *db, ph_error *err) {
    rm_search *s = calloc(1, sizeof *s);
    if (!s) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return NULL;
    }
    s->db = db;
    bool ok = sqlite3_exec(db, "CREATE VIRTUAL TABLE texts USING fts5(t, content='', columnsize=0, tokenize='trigram')", NULL, NULL,
                           NULL) == SQLITE_OK;
    for (int i = 0; ok && i < STATEMENTS; i++)
        ok = sqlite3_prepare_v3(db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &s->st[i], NULL) == SQLITE_OK;
    if (ok)
        return s;
    snprintf(err->text, sizeof err->text, "read model: %s", sqlite3_errmsg(db));
    rm_search_close(s);
    return NULL;
}

void rm_search_close(rm_search *s) {
    if (!s)
        return;
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(s->st[i]);
    free(s);
}

static bool run(sqlite3_stmt *st) {
    bool ok = sqlite3_step(st) == SQLITE_DONE;
    sqlite3_reset(st);
    return ok;
}

static bool mark(rm_search *s, int64_t id) {
    s->indexed = id;
    sqlite3_bind_int64(s->st[MARK], 1, id);
    return run(s->st[MARK]);
}

bool rm_search_forget(rm_search *s) {
    return sqlite3_exec(s->db, "INSERT INTO texts(texts) VALUES('delete-all')", NULL, NULL, NULL) == SQLITE_OK &&
           mark(s, 0);
}

int64_t rm_search_lag(const rm_search *s, int64_t id) {
    return id - s->indexed;
}

static bool document(rm_search *s, int which, int64_t id, const char *run_id, const char *const texts[3]) {
    sqlite3_bind_int64(s->st[which], 1, id);
    sqlite3_bind_text(s->st[which], 2, run_id, -1, SQLITE_STATIC);
    for (int i = 0; i < 3; i++)
        sqlite3_bind_text(s->st[which], 3 + i, texts[i], -1, SQLITE_STATIC);
    return run(s->st[which]);
}

bool rm_search_change(rm_search *s, int64_t id, const char *run_id, const char *const was[3], const ph_row *now) {
    if (id > s->indexed)
        return true;
    const char *const is[3] = {now ? now->text[PH_ROW_FLOW] : "", now ? now->text[PH_ROW_WORKER] : "",
                               now ? now->text[PH_ROW_ERROR] : ""};
    bool is_same = now != NULL;
    for (int i = 0; i < 3; i++)
        is_same = is_same && strcmp(was[i], is[i]) == 0;
    return is_same || (document(s, REMOVE, id, run_id, was) && (!now || document(s, ADD, id, run_id, is)));
}

bool rm_search_step(rm_search *s, int64_t newest) {
    sqlite3_stmt *st = s->st[NEXT];
    int64_t id = s->indexed;
    int rc = SQLITE_DONE, n = 0;
    sqlite3_bind_int64(st, 1, id);
    sqlite3_bind_int(st, 2, STEP_ROWS);
    bool ok = true;
    for (; ok && (rc = sqlite3_step(st)) == SQLITE_ROW; n++) {
        const char *texts[3];
        id = sqlite3_column_int64(st, 0);
        for (int i = 0; i < 3; i++)
            texts[i] = (const char *)sqlite3_column_text(st, 2 + i);
        ok = document(s, ADD, id, (const char *)sqlite3_column_text(st, 1), texts);
    }
    ok = ok && rc == SQLITE_DONE;
    sqlite3_reset(st);
    return ok && mark(s, n < STEP_ROWS ? newest : id);
}
