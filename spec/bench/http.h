/* The least HTTP/1.1 client that can drive a gateway: one blocking socket, keep-alive, one request at a time.
 * A client belongs to one thread. Every failure ends the process: a bench that lost an answer has no figure.
 */
#ifndef BENCH_HTTP_H
#define BENCH_HTTP_H

#include <stdbool.h>
#include <stddef.h>

typedef struct http_client {
    const char *host; /* IPv4 address; borrowed */
    int port;
    int fd;          /* -1: not connected */
    size_t len;      /* bytes in buf */
    char buf[65536]; /* what was received and not yet dropped; always terminated */
} http_client;

void http_init(http_client *c, const char *host, int port);
void http_close(http_client *c);

/* Connects unless it is connected; false when refused (a server that is starting). */
bool http_connect(http_client *c);

/* Sends a whole request text. Reconnects once if the server had closed the idle connection. */
void http_send(http_client *c, const char *text, size_t len);

/* Reads one answer with Content-Length. Returns its status; *body points into buf until the next call. */
int http_answer(http_client *c, char **body);

/* Reads more of a stream into buf. Returns false at its end. */
bool http_more(http_client *c);

#endif
