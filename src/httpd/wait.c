/* An answer that is held back until a run has ended: `?wait=` of a submit. The connection's thread sleeps in the hub.
 * In time the answer is the run's snapshot, with 200; otherwise what the handler has answered. The run is submitted
 * by now, so whatever goes wrong here is no failure of the request: it only ends the waiting. */
#include "../hub.h"
#include "httpd.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_TIMEOUT_MS 1500 /* of the first value */

static int answer_as_it_was(ph_exchange *x) {
    if (!x->keep_alive)
        mg_disable_connection_keep_alive(x->conn);
    mg_write(x->conn, x->out, x->out_len);
    return 202;
}

/* The snapshot, with the header fields of the handler's answer. */
static int answer_snapshot(ph_exchange *x, const ph_change *c) {
    const char *body = x->stream.brief ? c->brief : c->full;
    size_t len = x->stream.brief ? c->brief_len : c->full_len;
    char *out = malloc(x->fields_len + len + 160);
    if (!out)
        return answer_as_it_was(x);
    size_t n = (size_t)sprintf(out, "HTTP/1.1 200 OK\r\nconnection: %s\r\ncontent-length: %zu\r\n",
                               x->keep_alive ? "keep-alive" : "close", len);
    memcpy(out + n, x->out + x->fields_at, x->fields_len);
    n += x->fields_len;
    memcpy(out + n, "\r\n", 2);
    memcpy(out + n + 2, body, len);
    if (!x->keep_alive)
        mg_disable_connection_keep_alive(x->conn);
    mg_write(x->conn, out, n + 2 + len);
    free(out);
    return 200;
}

static bool has_ended(const ph_exchange *x, const ph_change *c) {
    return c && !c->deleted && c->terminal && ph_change_is_of(c, ph_httpd_tenant(x));
}

/* Waits for the run's end; true with the terminal change in *last (released by the caller in any case). Sets *is_gone
 * when the client is. */
static bool wait_for_end(ph_exchange *x, ph_watcher *watcher, ph_change **last, bool *is_gone) {
    double end = ph_monotonic() + x->stream.timeout_sec, beat = x->server->options.heartbeat_ms / 1000.0;
    int socket = -1;
    for (double look = ph_monotonic() + beat; !has_ended(x, *last);) {
        ph_change *change = NULL;
        ph_hub_result result = ph_watcher_next(watcher, look < end ? look : end, &change);
        if (result == PH_HUB_CLOSED || (change && change->deleted)) {
            ph_change_release(change);
            return false;
        }
        if (change) {
            ph_change_release(*last);
            *last = change;
            continue;
        }
        if (ph_monotonic() >= end)
            return false;
        if (socket < 0)
            socket = ph_httpd_socket(x);
        if ((*is_gone = ph_httpd_has_hung_up(socket)))
            return false;
        look = ph_monotonic() + beat;
    }
    return true;
}

int ph_httpd_wait(ph_exchange *x) {
    ph_httpd *server = x->server;
    if (x->stream.timeout_sec <= 0 || !server->hub || !ph_httpd_is_key(x->stream.run_id) ||
        !ph_httpd_take_place(server))
        return answer_as_it_was(x);
    int status = 202;
    ph_change *last = NULL;
    ph_error err = {0};
    bool is_gone = false;
    ph_watcher *watcher = ph_hub_watch(server->hub, x->stream.run_id);
    if (watcher)
        ph_watcher_read(watcher, READ_TIMEOUT_MS, &last, &err); /* what it misses, the hub brings */
    if (watcher && wait_for_end(x, watcher, &last, &is_gone))
        status = answer_snapshot(x, last);
    else if (is_gone)
        mg_disable_connection_keep_alive(x->conn);
    else
        answer_as_it_was(x);
    ph_change_release(last);
    ph_watcher_close(watcher);
    ph_httpd_leave_place(server);
    return status;
}
