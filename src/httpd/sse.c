/* See sse.h. A vanished client is noticed by a failing write: the second after it went. */
#include "sse.h"
#include "clocks.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define HEAD 20 /* room before what is collected, for the size of a chunk */
#define TAIL 2

void ph_sse_start(ph_sse *s, ph_exchange *x) {
    *s = (ph_sse){.x = x, .chunked = strcmp(x->info->http_version, "1.1") == 0, .sent_at = ph_monotonic(),
                  .socket = x->info->is_ssl ? -1 : ph_httpd_socket(x)};
    if (!s->chunked || !x->keep_alive)
        mg_disable_connection_keep_alive(x->conn);
    mg_printf(x->conn,
              "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
              "x-accel-buffering: no\r\nconnection: %s\r\n%s\r\n",
              s->chunked && x->keep_alive ? "keep-alive" : "close", s->chunked ? "transfer-encoding: chunked\r\n" : "");
}

void ph_sse_add(ph_sse *s, const char *data, size_t len) {
    size_t wanted = HEAD + s->len + len + TAIL;
    if (wanted > s->room) {
        char *grown = realloc(s->buf, wanted * 2);
        if (!grown) {
            s->failed = true;
            return;
        }
        s->buf = grown;
        s->room = wanted * 2;
    }
    memcpy(s->buf + HEAD + s->len, data, len);
    s->len += len;
}

void ph_sse_addf(ph_sse *s, const char *format, ...) {
    char text[800];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ph_sse_add(s, text, n < (int)sizeof text ? (size_t)n : sizeof text - 1);
}

void ph_sse_add_end(ph_sse *s) {
    ph_sse_addf(s, "\"ts\":%.6f}\n\n", ph_wall());
}

/* What is collected, as it goes over the wire; nothing is collected then. */
static char *take_framed(ph_sse *s, size_t *n) {
    char *from = s->buf + HEAD;
    *n = s->len;
    if (s->chunked) {
        char head[HEAD + 1];
        size_t head_len = (size_t)snprintf(head, sizeof head, "%zx\r\n", s->len);
        from -= head_len;
        memcpy(from, head, head_len);
        memcpy(s->buf + HEAD + s->len, "\r\n", TAIL);
        *n += head_len + TAIL;
    }
    s->len = 0;
    s->sent_at = ph_monotonic();
    return from;
}

static void write_all(ph_sse *s, const char *from, size_t n) {
    if (!s->failed)
        s->failed = mg_write(s->x->conn, from, n) != (int)n;
    s->sent_at = ph_monotonic();
}

bool ph_sse_flush(ph_sse *s) {
    if (s->rest) {
        write_all(s, s->rest, s->rest_len);
        free(s->rest);
        s->rest = NULL;
    }
    if (!s->failed && s->len > 0) {
        size_t n;
        const char *from = take_framed(s, &n);
        write_all(s, from, n);
    }
    return !s->failed;
}

bool ph_sse_push(ph_sse *s) {
    if (s->failed || s->rest || s->len == 0)
        return !s->failed && !s->rest;
    size_t n;
    const char *from = take_framed(s, &n);
    ssize_t sent = send(s->socket, from, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == (ssize_t)n)
        return true;
    if (sent < 0) /* no room at all; or the client is gone, which the thread will find */
        sent = 0;
    s->rest_len = n - (size_t)sent;
    s->rest = malloc(s->rest_len);
    s->failed = s->rest == NULL;
    if (s->rest)
        memcpy(s->rest, from + sent, s->rest_len);
    return false;
}

void ph_sse_end(ph_sse *s) {
    if (s->chunked && !s->failed)
        mg_write(s->x->conn, "0\r\n\r\n", 5);
    free(s->buf);
    free(s->rest);
    s->buf = s->rest = NULL;
}
