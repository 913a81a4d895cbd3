/* Event streams: GET /runs/{id}/watch (contract 8a and Part A). The connection's thread sleeps in the hub; no VM is
 * held. A vanished client is noticed by a failing write, within two heartbeats. */
#include "../hub.h"
#include "httpd.h"
#include "log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define READ_TIMEOUT_MS 1500 /* of the first value */
#define RETRY "retry-after: 1\r\n"
#define LOGGER "pyoco_server.http_api"

typedef struct stream {
    ph_exchange *x;
    bool chunked;
    char *buf; /* of one frame; owned */
    size_t room;
} stream;

static bool reserve(stream *s, size_t n) {
    if (n <= s->room)
        return true;
    char *grown = realloc(s->buf, n * 2);
    if (!grown)
        return false;
    s->buf = grown;
    s->room = n * 2;
    return true;
}

/* Sends one frame in one write: head and tail around body. False when the client is gone. */
static bool send_frame(stream *s, const char *head, const char *body, size_t len, const char *tail) {
    size_t head_len = strlen(head), tail_len = strlen(tail), total = head_len + len + tail_len;
    if (!reserve(s, total + 32))
        return false;
    size_t n = s->chunked ? (size_t)sprintf(s->buf, "%zx\r\n", total) : 0;
    memcpy(s->buf + n, head, head_len);
    memcpy(s->buf + n + head_len, body, len);
    memcpy(s->buf + n + head_len + len, tail, tail_len);
    n += total;
    if (s->chunked) {
        memcpy(s->buf + n, "\r\n", 2);
        n += 2;
    }
    return mg_write(s->x->conn, s->buf, n) == (int)n;
}

static void end_of_json(char *out, size_t n) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    snprintf(out, n, "\"ts\":%.6f}\n\n", (double)ts.tv_sec + (double)ts.tv_nsec / 1e9);
}

static bool send_snapshot(stream *s, const ph_change *c) {
    const ph_stream_request *w = &s->x->stream;
    char head[400], tail[48];
    snprintf(head, sizeof head, "id: %llu\nevent: snapshot\ndata: {\"run_id\":\"%s\",\"snapshot\":",
             (unsigned long long)c->revision, w->run_id);
    tail[0] = ',';
    end_of_json(tail + 1, sizeof tail - 1);
    return send_frame(s, head, w->brief ? c->brief : c->full, w->brief ? c->brief_len : c->full_len, tail);
}

static bool send_heartbeat(stream *s) {
    char head[400], tail[48];
    snprintf(head, sizeof head, "event: heartbeat\ndata: {\"run_id\":\"%s\",", s->x->stream.run_id);
    end_of_json(tail, sizeof tail);
    return send_frame(s, head, "", 0, tail);
}

/* Sends a change unless it is older than `since`. False ends the stream: the client or the key is gone, or is another
 * tenant's now, or the run has ended and that is what was waited for. */
static bool pass_on(stream *s, const ph_change *c, double *last_sent) {
    const ph_stream_request *w = &s->x->stream;
    if (c->deleted || !ph_change_is_of(c, ph_httpd_tenant(s->x)))
        return false;
    if (!(w->has_since && c->updated_at < w->since)) {
        if (!send_snapshot(s, c))
            return false;
        *last_sent = ph_httpd_now();
    }
    return !(w->until_terminal && c->terminal);
}

static void follow(stream *s, ph_watcher *watcher, ph_change *first) {
    const ph_stream_request *w = &s->x->stream;
    double last_sent = ph_httpd_now(), end = last_sent + w->timeout_sec;
    double heartbeat = s->x->server->options.heartbeat_ms / 1000.0;
    bool seen = w->last_revision && w->last_revision == first->revision;
    if (seen ? w->until_terminal && first->terminal : !pass_on(s, first, &last_sent))
        return;
    for (;;) {
        double due = last_sent + heartbeat, now;
        ph_change *change = NULL;
        switch (ph_watcher_next(watcher, due < end ? due : end, &change)) {
        case PH_HUB_CLOSED:
            return;
        case PH_HUB_CHANGE: {
            bool go_on = pass_on(s, change, &last_sent);
            ph_change_release(change);
            if (!go_on)
                return;
            break;
        }
        case PH_HUB_TIMEOUT:
            break;
        }
        now = ph_httpd_now();
        if (now >= end)
            return;
        if (now >= last_sent + heartbeat) {
            if (!send_heartbeat(s))
                return;
            last_sent = now;
        }
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
    if ((code && strcmp(code, PH_NOT_FOUND) == 0) || (!code && !ph_change_is_of(first, ph_httpd_tenant(x)))) {
        ph_change_release(first);
        return not_found(x);
    }
    if (code)
        return no_nats(x, strcmp(code, PH_TIMEOUT) == 0, err.text);
    stream s = {.x = x, .chunked = strcmp(x->info->http_version, "1.1") == 0};
    if (!s.chunked || !x->keep_alive)
        mg_disable_connection_keep_alive(x->conn);
    mg_printf(x->conn,
              "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
              "x-accel-buffering: no\r\nconnection: %s\r\n%s\r\n",
              s.chunked && x->keep_alive ? "keep-alive" : "close", s.chunked ? "transfer-encoding: chunked\r\n" : "");
    follow(&s, watcher, first);
    if (s.chunked)
        mg_write(x->conn, "0\r\n\r\n", 5);
    ph_change_release(first);
    free(s.buf);
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
