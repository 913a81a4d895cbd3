/* Event streams: GET /runs/{id}/watch (contract 8a and Part A). The connection's thread sleeps in the hub, whose thread
 * writes the frames; no VM is held. A vanished client is noticed by a failing write, within two heartbeats. */
#include "../hub.h"
#include "log.h"
#include "sse.h"
#include <stdio.h>
#include <string.h>

#define READ_TIMEOUT_MS 1500 /* of the first value */
#define RETRY "retry-after: 1\r\n"
#define LOGGER "pyoco_server.http_api"

static void add_snapshot(ph_sse *s, const ph_change *c) {
    const ph_stream_request *w = &s->x->stream;
    ph_sse_addf(s, "id: %llu\nevent: snapshot\ndata: {\"run_id\":\"%s\",\"snapshot\":",
                (unsigned long long)c->revision, w->run_id);
    ph_sse_add(s, w->brief ? c->brief : c->full, w->brief ? c->brief_len : c->full_len);
    ph_sse_add(s, ",", 1);
    ph_sse_add_end(s);
}

static bool send_heartbeat(ph_sse *s) {
    ph_sse_addf(s, "event: heartbeat\ndata: {\"run_id\":\"%s\",", s->x->stream.run_id);
    ph_sse_add_end(s);
    return ph_sse_flush(s);
}

/* Whether a change ends the stream: the key is gone, or is another tenant's now. */
static bool is_gone(const ph_sse *s, const ph_change *c) {
    return c->deleted || !ph_change_is_of(c, ph_httpd_tenant(s->x));
}

/* Whether it does after it was sent: the run has ended, and that is what was waited for. */
static bool is_last(const ph_sse *s, const ph_change *c) {
    return s->x->stream.until_terminal && c->terminal;
}

static bool is_too_old(const ph_sse *s, const ph_change *c) {
    return s->x->stream.has_since && c->updated_at < s->x->stream.since;
}

/* Sends a change. False ends the stream, also when the client is gone. */
static bool pass_on(ph_sse *s, const ph_change *c) {
    if (is_gone(s, c))
        return false;
    if (!is_too_old(s, c))
        add_snapshot(s, c);
    return ph_sse_flush(s) && !is_last(s, c);
}

/* On the hub's thread, while ours sleeps. */
static ph_hub_push push(void *ctx, const ph_change *c) {
    ph_sse *s = ctx;
    if (s->socket < 0 || is_gone(s, c) || is_last(s, c))
        return PH_HUB_LEFT;
    if (!is_too_old(s, c))
        add_snapshot(s, c);
    return ph_sse_push(s) ? PH_HUB_TAKEN : PH_HUB_UNFINISHED;
}

static void follow(ph_sse *s, ph_watcher *watcher, ph_change *first) {
    const ph_stream_request *w = &s->x->stream;
    double end = ph_monotonic() + w->timeout_sec;
    double heartbeat = s->x->server->options.heartbeat_ms / 1000.0;
    bool seen = w->last_revision && w->last_revision == first->revision;
    if (seen ? w->until_terminal && first->terminal : !pass_on(s, first))
        return;
    ph_watcher_on_change(watcher, push, s);
    while (ph_sse_flush(s)) { /* what a push has left */
        double due = s->sent_at + heartbeat, now;
        ph_change *change = NULL;
        switch (ph_watcher_next(watcher, due < end ? due : end, &change)) {
        case PH_HUB_CLOSED:
            return;
        case PH_HUB_CHANGE: {
            bool go_on = pass_on(s, change);
            ph_change_release(change);
            if (!go_on)
                return;
            break;
        }
        case PH_HUB_TIMEOUT:
            break;
        }
        now = ph_monotonic();
        if (now >= end)
            return;
        if (now >= s->sent_at + heartbeat && !send_heartbeat(s))
            return;
    }
}

static int not_found(ph_exchange *x) {
    ph_log_write(&(ph_log_line){.level = "INFO", .logger = LOGGER, .id = 5, .run_id = x->stream.run_id, PH_LOG_HERE},
                 "run not found (watch)");
    return ph_httpd_error(x->conn, 404, "run not found", "", false);
}

static int no_nats(ph_exchange *x, bool is_timeout, const char *text) {
    ph_log_write(&(ph_log_line){.level = "ERROR", .logger = LOGGER, .id = 3, .run_id = x->stream.run_id, .error = text,
                                PH_LOG_HERE},
                 "watch failed: nats unavailable");
    return ph_httpd_error(
        x->conn, 503, is_timeout ? "nats unavailable: TimeoutError" : "nats unavailable: ConnectionError", RETRY, false);
}

static int run(ph_exchange *x, ph_watcher *watcher) {
    ph_change *first = NULL;
    ph_error err = {0};
    const char *code = ph_watcher_read(watcher, READ_TIMEOUT_MS, &first, &err);
    if (code ? strcmp(code, PH_NOT_FOUND) == 0 : first->deleted || !ph_change_is_of(first, ph_httpd_tenant(x))) {
        ph_change_release(first);
        return not_found(x);
    }
    if (code)
        return no_nats(x, strcmp(code, PH_TIMEOUT) == 0, err.text);
    ph_sse s;
    ph_sse_start(&s, x);
    follow(&s, watcher, first);
    ph_sse_end(&s);
    ph_change_release(first);
    return 200;
}

bool ph_httpd_is_key(const char *id) {
    size_t n = strlen(id);
    return n && strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-/_=.") == n &&
           id[0] != '.' && id[n - 1] != '.' && !strstr(id, "..");
}

int ph_httpd_watch(ph_exchange *x) {
    ph_httpd *server = x->server;
    if (!server->hub)
        return ph_httpd_error(x->conn, 503, "this server follows no bucket, so it has no event streams", "", false);
    if (!ph_httpd_is_key(x->stream.run_id))
        return not_found(x);
    if (!ph_httpd_take_place(server))
        return ph_httpd_error(x->conn, 503, "too many event streams are open, try again", RETRY, false);
    ph_watcher *watcher = ph_hub_watch(server->hub, x->stream.run_id);
    int status = watcher ? run(x, watcher) : ph_httpd_error(x->conn, 503, "out of memory", RETRY, false);
    ph_watcher_close(watcher);
    ph_httpd_leave_place(server);
    return status;
}
