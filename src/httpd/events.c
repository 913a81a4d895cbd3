/* GET /events: the changes of all runs that fit a filter, out of the feed (src/feed.h).
 *
 *   id: <revision>-<life of the bucket's stream>       every frame but counts
 *   reset      {"reason": start|too_old|other_stream|rebuilt|too_slow, "revision", "ts"}: list again, what follows
 *              builds on a list read from now on
 *   run        the item as GET /runs lists it: new or changed
 *   left       {"run_id"}: fits the filter no more
 *   deleted    {"run_id"}
 *   counts     {"total", "by_status": {..}, "ts"} of all runs that the caller may see, with `counts`: at the start, then
 *              once a second at most
 *   heartbeat  {"ts"}
 *
 * The feed's thread writes them; the connection's sleeps until a heartbeat is due, or a client does not read. A slow client
 * is told the newest state of each run: what waits for it is the feed's, not its own. */
#include "../feed.h"
#include "sse.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WARMING_SEC 2.0
#define SYNC_SEC 1.0  /* for a revision that another gateway has shown to come here */
#define COUNTS_SEC 1.0
#define WRITE_BYTES 65536
#define STATUSES 64

typedef struct events {
    ph_feed_reader reader; /* first: a ph_feed_reader * is an events * */
    ph_sse sse;
    double counts_at; /* when the counts may be sent again */
    uint64_t counts_version;
    bool is_planned; /* our thread wakes when it is time for them */
} events;

typedef struct tally {
    int n;
    char status[STATUSES][32];
    int64_t runs[STATUSES];
} tally;

static void add_id(events *e, const char *event) {
    ph_sse_addf(&e->sse, "id: %llu-%llx\nevent: %s\ndata: ", (unsigned long long)e->reader.revision,
                (unsigned long long)e->reader.life, event);
}

/* A copy on one line: a text that is no JSON may hold line breaks. */
static void add_line(ph_sse *s, const char *text, size_t len) {
    for (const char *end = text + len; text < end;) {
        size_t n = strcspn(text, "\r\n");
        if (n > (size_t)(end - text))
            n = (size_t)(end - text);
        ph_sse_add(s, text, n);
        text += n;
        if (text < end) {
            ph_sse_add(s, " ", 1);
            text++;
        }
    }
}

static bool take(void *ctx, ph_feed_kind kind, const ph_row *row) {
    events *e = ctx;
    if (kind == PH_FEED_RUN) {
        add_id(e, "run");
        add_line(&e->sse, row->text[PH_ROW_SUMMARY], (size_t)row->len[PH_ROW_SUMMARY]);
        ph_sse_add(&e->sse, "\n\n", 2);
    } else {
        add_id(e, kind == PH_FEED_LEFT ? "left" : "deleted");
        ph_sse_addf(&e->sse, "{\"run_id\":\"%s\"}\n\n", row->key);
    }
    return e->sse.len < WRITE_BYTES;
}

static void tell_reset(events *e, const char *reason) {
    add_id(e, "reset");
    ph_sse_addf(&e->sse, "{\"reason\":\"%s\",\"revision\":%llu,", reason, (unsigned long long)e->reader.revision);
    ph_sse_add_end(&e->sse);
}

static void add_count(void *ctx, const char *status, int64_t runs) {
    tally *t = ctx;
    int i = 0;
    while (i < t->n && strcmp(t->status[i], status) != 0)
        i++;
    if (i == STATUSES || strlen(status) >= sizeof *t->status)
        return;
    if (i == t->n) {
        strcpy(t->status[t->n], status);
        t->runs[t->n++] = 0;
    }
    t->runs[i] += runs;
}

/* Statuses as they are known; one of another program that would need escapes is not shown. */
static void tell_counts(events *e) {
    tally t = {0};
    e->counts_version = ph_feed_counts(ph_httpd_tenant(e->sse.x), add_count, &t);
    int64_t total = 0;
    const char *comma = "";
    ph_sse_addf(&e->sse, "event: counts\ndata: {\"by_status\":{");
    for (int i = 0; i < t.n; i++) {
        total += t.runs[i];
        const char *name = *t.status[i] ? t.status[i] : "UNKNOWN";
        if (strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-. ") != strlen(name))
            continue;
        ph_sse_addf(&e->sse, "%s\"%s\":%lld", comma, name, (long long)t.runs[i]);
        comma = ",";
    }
    ph_sse_addf(&e->sse, "},\"total\":%lld,", (long long)total);
    ph_sse_add_end(&e->sse);
    e->counts_at = ph_monotonic() + COUNTS_SEC;
}

static bool has_other_counts(const events *e) {
    return e->sse.x->stream.counts && ph_feed_counts_version() != e->counts_version;
}

static bool counts_are_due(const events *e) {
    return ph_monotonic() >= e->counts_at && has_other_counts(e);
}

/* Goes on where the client has left off, or tells it to start over. */
static void begin(events *e) {
    const ph_stream_request *r = &e->sse.x->stream;
    uint64_t life = !r->last_revision ? 0 : r->last_life ? r->last_life : ph_feed_life();
    bool connects = ph_feed_open(&e->reader, life, r->last_revision, ph_monotonic() + SYNC_SEC,
                                 &e->sse.x->server->stopping);
    ph_sse_addf(&e->sse, "retry: 1000\n\n");
    if (!r->last_revision)
        tell_reset(e, "start");
    else if (!connects)
        tell_reset(e, life == e->reader.life ? "too_old" : "other_stream");
}

/* After the feed has lost the reader: waits for it to start again, and begins at the present. */
static void begin_anew(events *e, double until) {
    const atomic_bool *stopping = &e->sse.x->server->stopping;
    uint64_t epoch = e->reader.epoch;
    if (!ph_feed_wait_started(until, stopping))
        return;
    ph_feed_close(&e->reader);
    ph_feed_open(&e->reader, 0, 0, 0, stopping);
    tell_reset(e, e->reader.epoch == epoch ? "too_slow" : "rebuilt");
    e->counts_version = 0;
}

/* On the feed's thread, while ours sleeps. */
static bool push(ph_feed_reader *reader) {
    events *e = (events *)reader;
    if (e->sse.socket < 0)
        return false;
    ph_feed_take(&e->reader, take, e);
    if (counts_are_due(e))
        tell_counts(e);
    return ph_sse_push(&e->sse) && (e->is_planned || !has_other_counts(e));
}

static double least(double a, double b) {
    return a < b ? a : b;
}

static void follow(events *e) {
    ph_httpd *server = e->sse.x->server;
    double end = ph_monotonic() + e->sse.x->stream.timeout_sec, beat = server->options.heartbeat_ms / 1000.0;
    while (!atomic_load(&server->stopping)) {
        if (counts_are_due(e))
            tell_counts(e);
        if (!ph_sse_flush(&e->sse) || ph_monotonic() >= end)
            return;
        double due = least(e->sse.sent_at + beat, end);
        e->is_planned = has_other_counts(e);
        if (e->is_planned)
            due = least(due, e->counts_at);
        switch (ph_feed_wait(&e->reader, due, &server->stopping)) {
        case PH_FEED_CHANGED:
            ph_feed_take(&e->reader, take, e);
            break;
        case PH_FEED_LOST:
            begin_anew(e, due);
            break;
        case PH_FEED_TIMEOUT:
            break;
        }
        if (e->sse.len == 0 && ph_monotonic() >= e->sse.sent_at + beat) {
            add_id(e, "heartbeat");
            ph_sse_add(&e->sse, "{", 1);
            ph_sse_add_end(&e->sse);
        }
    }
}

int ph_httpd_events(ph_exchange *x) {
    ph_httpd *server = x->server;
    if (!ph_httpd_take_place(server))
        return ph_httpd_error(x->conn, 503, "too many event streams are open, try again", "retry-after: 1\r\n", false);
    int status = 200;
    if (ph_feed_wait_started(ph_monotonic() + WARMING_SEC, &server->stopping)) {
        events e = {.reader = {.filter = {.q = x->stream.q}, .push = push}};
        for (int i = PH_ROW_STATUS; i <= PH_ROW_SHA256; i++)
            e.reader.filter.equal[i] = x->stream.equal[i];
        e.reader.filter.equal[PH_ROW_TENANT] = ph_httpd_tenant(x);
        ph_sse_start(&e.sse, x);
        begin(&e);
        follow(&e);
        ph_feed_close(&e.reader);
        ph_sse_end(&e.sse);
    } else {
        status = ph_httpd_error(x->conn, 503, "warming", "retry-after: 1\r\n", false);
    }
    ph_httpd_leave_place(server);
    return status;
}
