/* See sse.h. A vanished client is noticed by a failing write: the second after it went. */
#include "sse.h"
#include "clocks.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD 20 /* room before what is collected, for the size of a chunk */
#define TAIL 2

void ph_sse_start(ph_sse *s, ph_exchange *x) {
    *s = (ph_sse){.x = x, .chunked = strcmp(x->info->http_version, "1.1") == 0, .sent_at = ph_monotonic()};
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

bool ph_sse_flush(ph_sse *s) {
    if (s->failed || s->len == 0)
        return !s->failed;
    char *from = s->buf + HEAD;
    size_t n = s->len;
    if (s->chunked) {
        char head[HEAD + 1];
        size_t head_len = (size_t)snprintf(head, sizeof head, "%zx\r\n", s->len);
        from -= head_len;
        memcpy(from, head, head_len);
        memcpy(s->buf + HEAD + s->len, "\r\n", TAIL);
        n += head_len + TAIL;
    }
    s->failed = mg_write(s->x->conn, from, n) != (int)n;
    s->len = 0;
    s->sent_at = ph_monotonic();
    return !s->failed;
}

void ph_sse_end(ph_sse *s) {
    if (s->chunked && !s->failed)
        mg_write(s->x->conn, "0\r\n\r\n", 5);
    free(s->buf);
    s->buf = NULL;
}
