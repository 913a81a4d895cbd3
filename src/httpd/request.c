/* One request on its connection thread: checks, the body, the VM, the answer. */
#include "httpd.h"
#include "feed.h"
#include "log.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define VM_WAIT_MS 1000           /* then 503: better told than kept waiting */
#define MAX_HEADERS 64            /* CivetWeb drops what is above without a word */
#define BODY_LIMIT_SEC 60.0       /* a body must be here by then, however steadily it trickles */
#define WARMING_SEC 2.0           /* for lists to become complete after a start */
#define DISCARD_SEC 2.0           /* a refused body is read for so long */
#define DERIVE_ROUNDS 8           /* keys that a handler may ask for */
#define RETRY "retry-after: 1\r\n"
/* Storing an upload takes seconds, and clients of the contract wait 5 s for each piece of an answer: an interim answer
 * starts that time anew. 100 is the one that every client skips; some bear only five. */
#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"
#define CONTINUES 4
#define UPLOAD_VM_WAIT_MS 10000 /* the file is here already */
#define UPLOAD_LIMIT_MS 1800000 /* what is stuck ends by itself, NATS having time limits of its own */

static int bad_request(struct mg_connection *conn, const char *detail) {
    return ph_httpd_error(conn, 400, detail, "", true);
}

/* What CivetWeb lets through and we do not. 0 = fine, else the status that was answered. */
static int check_head(struct mg_connection *conn, const struct mg_request_info *info) {
    if (info->num_headers >= MAX_HEADERS)
        return ph_httpd_error(conn, 431, "too many header fields, 63 are allowed", "", true);
    int lengths = 0, hosts = 0;
    const char *coding = NULL;
    for (int i = 0; i < info->num_headers; i++) {
        const char *name = info->http_headers[i].name;
        lengths += strcasecmp(name, "Content-Length") == 0;
        hosts += strcasecmp(name, "Host") == 0;
        if (strcasecmp(name, "Transfer-Encoding") == 0) {
            if (coding)
                return bad_request(conn, "more than one transfer-encoding");
            coding = info->http_headers[i].value;
        }
    }
    if (lengths > 1)
        return bad_request(conn, "more than one content-length");
    if (coding && lengths)
        return bad_request(conn, "both content-length and transfer-encoding");
    if (coding && strcasecmp(coding, "chunked") != 0)
        return bad_request(conn, "transfer-encoding not supported, send chunked or a content-length");
    if (hosts > 1 || (hosts == 0 && strcmp(info->http_version, "1.1") == 0))
        return bad_request(conn, "exactly one host header is needed");
    return 0;
}

static bool expects_continue(const ph_exchange *x) {
    const char *expect = mg_get_header(x->conn, "Expect");
    return expect && strcasecmp(expect, "100-continue") == 0 && strcmp(x->info->http_version, "1.1") == 0;
}

void ph_httpd_continue(ph_exchange *x) {
    if (expects_continue(x) && !x->is_continued)
        mg_write(x->conn, CONTINUE, strlen(CONTINUE));
    x->is_continued = true;
}

void ph_httpd_discard(ph_exchange *x) {
    char buf[4096];
    if (expects_continue(x) && !x->is_continued) /* it has sent nothing, and will not */
        return;
    double last = ph_monotonic() + DISCARD_SEC;
    while (ph_monotonic() < last && mg_read(x->conn, buf, sizeof buf) > 0)
        ;
}

int ph_httpd_refuse(ph_exchange *x, int status, const char *detail, const char *extra_headers) {
    ph_httpd_error(x->conn, status, detail, extra_headers, true);
    ph_httpd_discard(x);
    return status;
}

static int too_large(ph_exchange *x) {
    char detail[120];
    snprintf(detail, sizeof detail, "body too large, the limit is %zu bytes", x->server->options.max_body_bytes);
    return ph_httpd_refuse(x, 413, detail, "");
}

/* Reads the body whole. 0 = fine, else the status that was answered. */
static int read_body(ph_exchange *x) {
    long long declared = x->info->content_length;
    bool chunked = mg_get_header(x->conn, "Transfer-Encoding") != NULL;
    size_t limit = x->server->options.max_body_bytes;
    if (declared <= 0 && !chunked)
        return 0;
    if (declared > 0 && (unsigned long long)declared > limit)
        return too_large(x);
    ph_httpd_continue(x);
    size_t room = declared > 0 ? (size_t)declared : 8192;
    double last = ph_monotonic() + BODY_LIMIT_SEC;
    if (!(x->body = malloc(room + 1)))
        return ph_httpd_error(x->conn, 503, "out of memory", RETRY, true);
    while (chunked || x->body_len < (size_t)declared) {
        if (x->body_len == room) { /* chunked only; room for one byte more tells too large */
            if (room > limit)
                return too_large(x);
            room = room * 2 > limit ? limit + 1 : room * 2;
            char *grown = realloc(x->body, room + 1);
            if (!grown)
                return ph_httpd_error(x->conn, 503, "out of memory", RETRY, true);
            x->body = grown;
        }
        int n = mg_read(x->conn, x->body + x->body_len, room - x->body_len);
        if (n < 0)
            return bad_request(x->conn, "broken body");
        if (n == 0)
            break;
        x->body_len += (size_t)n;
        if (ph_monotonic() > last)
            return ph_httpd_error(x->conn, 408, "body took too long", "", true);
    }
    if (x->body_len > limit)
        return too_large(x);
    if (!chunked && x->body_len < (size_t)declared)
        return ph_httpd_error(x->conn, 408, "body incomplete: nothing came for too long", "", true);
    return 0;
}

static bool wants_keep_alive(const ph_exchange *x) {
    const char *connection = mg_get_header(x->conn, "Connection");
    if (connection && strcasecmp(connection, "close") == 0)
        return false;
    return strcmp(x->info->http_version, "1.1") == 0 || (connection && strcasecmp(connection, "keep-alive") == 0);
}

/* Waits until lists can be answered, or for a while, holding no VM. True: the handler is to be called again. */
static bool wait_for_runs(ph_exchange *x) {
    if (!x->wants_runs || !ph_httpd_take_place(x->server))
        return false;
    ph_feed_wait_started(ph_monotonic() + WARMING_SEC, &x->server->stopping);
    ph_httpd_leave_place(x->server);
    return true;
}

/* Writes what the handler has made, or goes on as it asks. */
static int write_answer(ph_exchange *x) {
    switch (x->stream.kind) {
    case PH_STREAM_WATCH:
        return ph_httpd_watch(x);
    case PH_STREAM_WAIT:
        return ph_httpd_wait(x);
    case PH_STREAM_EVENTS:
        return ph_httpd_events(x);
    case PH_STREAM_OBJECT:
        return ph_httpd_object(x);
    case PH_STREAM_NONE:
        break;
    }
    if (!x->keep_alive)
        mg_disable_connection_keep_alive(x->conn);
    mg_write(x->conn, x->out, x->out_len);
    return 200;
}

/* Tells a client that waits for the end of a handler that somebody is there. */
typedef struct patience {
    ph_exchange *x;
    int left;
} patience;

static void say_continue(void *ctx) {
    patience *p = ctx;
    if (p->left-- > 0 && strcmp(p->x->info->http_version, "1.1") == 0)
        mg_write(p->x->conn, CONTINUE, strlen(CONTINUE));
}

/* Lends a VM for fn. 0 = it has ended well, else the status that was answered. */
static int call_vm(ph_exchange *x, lua_CFunction fn) {
    ph_httpd *server = x->server;
    char *error = NULL;
    patience p = {.x = x, .left = CONTINUES};
    ph_pool_long o = {.limit_ms = UPLOAD_LIMIT_MS, .tick_ms = server->options.continue_ms, .tick = say_continue, .tick_ctx = &p};
    switch (x->upload ? ph_pool_call_long(server->pool, fn, x, UPLOAD_VM_WAIT_MS, &o, &error)
                      : ph_pool_call(server->pool, fn, x, VM_WAIT_MS, &error)) {
    case PH_POOL_OK:
        break;
    case PH_POOL_BUSY:
        atomic_fetch_add(&server->refused, 1);
        return ph_httpd_error(x->conn, 503, "busy: no handler was free within 1 s, try again", RETRY, false);
    case PH_POOL_STOPPED:
        return ph_httpd_error(x->conn, 503, "shutting down", RETRY, true);
    case PH_POOL_RAISED:
        ph_log_error("pyoco.http", error, "request failed: %s %s", x->info->request_method, x->path);
        free(error);
        mg_disable_connection_keep_alive(x->conn);
        mg_printf(x->conn, "HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain; charset=utf-8\r\n"
                           "content-length: 21\r\nconnection: close\r\n\r\nInternal Server Error");
        return 500;
    }
    return 0;
}

int ph_httpd_call(ph_exchange *x, lua_CFunction fn) {
    int status = call_vm(x, fn);
    for (int round = 1; !status && x->derive.is_wanted; round++) {
        if (round > DERIVE_ROUNDS || !ph_httpd_derive(x)) {
            atomic_fetch_add(&x->server->refused, 1);
            return ph_httpd_error(x->conn, 503, "busy: too many new keys at once, try again", RETRY, false);
        }
        status = call_vm(x, fn);
        ph_httpd_derive_end(x);
    }
    return status;
}

/* Calls the handler, and once more when it has come too early for lists; answers. */
static int call_app(ph_exchange *x) {
    int status = ph_httpd_call(x, ph_httpd_handle);
    if (status)
        return status;
    if (!wait_for_runs(x))
        return write_answer(x);
    x->out_len = 0;
    ph_httpd_free_stream(&x->stream);
    status = ph_httpd_call(x, ph_httpd_handle);
    return status ? status : write_answer(x);
}

static bool starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static int answer(ph_exchange *x) {
    ph_httpd *server = x->server;
    bool reads = strcmp(x->info->request_method, "GET") == 0 || strcmp(x->info->request_method, "HEAD") == 0;
    int status = check_head(x->conn, x->info);
    if (status)
        return status;
    if (!x->path)
        return bad_request(x->conn, "bad request target");
    if (strcmp(x->path, "/health/") == 0)
        return ph_httpd_json(x->conn, 307, "location: /health\r\n", "", 0, true);
    if (strcmp(x->path, "/health") == 0)
        return reads ? ph_httpd_health(server, x->conn)
                     : ph_httpd_error(x->conn, 405, "Method Not Allowed", "allow: GET\r\n", true);
    if (atomic_load(&server->stopping))
        return ph_httpd_error(x->conn, 503, "shutting down", RETRY, true);
    if (server->options.static_dir && starts_with(x->path, "/static/"))
        return ph_httpd_static(server, x->conn, x->path + strlen("/static/"));
    status = ph_httpd_receive(x);
    if (status == 0)
        status = read_body(x);
    return status > 0 ? status : call_app(x);
}

int ph_httpd_serve(struct mg_connection *conn) {
    const struct mg_request_info *info = mg_get_request_info(conn);
    ph_httpd *server = info->user_data;
    ph_exchange x = {.server = server, .conn = conn, .info = info, .path = info->local_uri_raw, .derive.place = -1};
    x.keep_alive = wants_keep_alive(&x) && !atomic_load(&server->stopping);
    atomic_fetch_add(&server->in_flight, 1);
    atomic_fetch_add(&server->requests, 1);
    int status = answer(&x);
    free(x.body);
    free(x.out);
    ph_httpd_free_stream(&x.stream);
    ph_httpd_upload_free(&x);
    atomic_fetch_sub(&server->in_flight, 1);
    return status;
}
