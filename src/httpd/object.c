/* An answer whose body is an object of the Object Store: read and sent piece by piece, no VM held. Its first piece is
 * at hand before the head is sent, so that what goes wrong early is an answer of its own; later the connection ends
 * short of its content-length, which every client notices. */
#include "httpd.h"
#include "log.h"
#include "nats.h"
#include <string.h>

#define RETRY "retry-after: 1\r\n"

static int fail(ph_exchange *x, const char *code, const ph_error *err) {
    if (strcmp(code, PH_NOT_FOUND) == 0) /* between its metadata and its bytes it was deleted or replaced */
        return ph_httpd_error(x->conn, 409, "it was replaced or deleted meanwhile; ask again", "", false);
    bool is_nats = strcmp(code, PH_TIMEOUT) == 0 || strcmp(code, PH_UNAVAILABLE) == 0;
    ph_log(is_nats ? "WARNING" : "ERROR", "pyoco.http", "GET %s: %s", x->path, err->text);
    if (is_nats)
        return ph_httpd_error(x->conn, 503,
                              strcmp(code, PH_TIMEOUT) == 0 ? "nats unavailable: TimeoutError"
                                                            : "nats unavailable: ConnectionError",
                              RETRY, false);
    return ph_httpd_error(x->conn, 500, "the stored object is damaged", "", false);
}

static int send_pieces(ph_exchange *x, ph_objread *r) {
    ph_error err = {0};
    const char *piece = NULL;
    size_t len = 0;
    const char *code = ph_objread_next(r, &piece, &len, &err);
    if (code)
        return fail(x, code, &err);
    if (!x->keep_alive)
        mg_disable_connection_keep_alive(x->conn);
    bool is_there = mg_write(x->conn, x->out, x->out_len) == (int)x->out_len;
    while (is_there && !code && len > 0) {
        is_there = mg_write(x->conn, piece, len) == (int)len;
        if (is_there)
            code = ph_objread_next(r, &piece, &len, &err);
    }
    if (code)
        ph_log("WARNING", "pyoco.http", "GET %s: ended in the middle: %s", x->path, err.text);
    if (code || !is_there)
        mg_disable_connection_keep_alive(x->conn);
    return 200;
}

static int send_object(ph_exchange *x, natsConnection *nc) {
    ph_error err = {0};
    ph_objread *r = NULL;
    const char *code = ph_objread_open(&r, nc, &x->stream.object, &err);
    int status = code ? fail(x, code, &err) : send_pieces(x, r);
    ph_objread_close(r);
    return status;
}

int ph_httpd_object(ph_exchange *x) {
    if (!ph_httpd_take_place(x->server))
        return ph_httpd_error(x->conn, 503, "too many streams are open, try again", RETRY, false);
    ph_nats_conn *conn = ph_nats_shared();
    int status = conn ? send_object(x, ph_nats_raw(conn))
                      : ph_httpd_error(x->conn, 503, "this server has no connection to NATS", RETRY, false);
    ph_nats_release(conn);
    ph_httpd_leave_place(x->server);
    return status;
}
