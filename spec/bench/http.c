/* The least HTTP/1.1 client that can drive a gateway; see http.h. */
#include "http.h"
#include "common.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

void http_init(http_client *c, const char *host, int port) {
    c->host = host;
    c->port = port;
    c->fd = -1;
    c->len = 0;
    c->buf[0] = '\0';
}

void http_close(http_client *c) {
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->len = 0;
    c->buf[0] = '\0';
}

bool http_connect(http_client *c) {
    if (c->fd >= 0)
        return true;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)c->port)};
    if (inet_pton(AF_INET, c->host, &to.sin_addr) != 1)
        bench_die("not an IPv4 address: %s", c->host);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        bench_die("socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct timeval limit = {.tv_sec = 30};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return false;
    }
    c->fd = fd;
    return true;
}

static bool send_all(http_client *c, const char *text, size_t len) {
    while (len > 0) {
        ssize_t n = send(c->fd, text, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

/* Has the peer closed the idle connection? Nothing may arrive between two requests but its end. */
static bool is_stale(http_client *c) {
    char byte;
    ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

void http_send(http_client *c, const char *text, size_t len) {
    if (c->fd >= 0 && is_stale(c))
        http_close(c);
    if (!http_connect(c))
        bench_die("no gateway at %s:%d: %s", c->host, c->port, strerror(errno));
    c->len = 0;
    c->buf[0] = '\0';
    if (!send_all(c, text, len))
        bench_die("the gateway closed the connection during a request");
}

bool http_more(http_client *c) {
    if (c->len + 1 >= sizeof c->buf)
        bench_die("an answer is larger than %zu bytes", sizeof c->buf);
    ssize_t n = recv(c->fd, c->buf + c->len, sizeof c->buf - 1 - c->len, 0);
    if (n < 0)
        bench_die("no answer: %s; got so far: %.300s", strerror(errno), c->buf);
    c->len += (size_t)n;
    c->buf[c->len] = '\0';
    return n > 0;
}

int http_answer(http_client *c, char **body) {
    char *head_end;
    while (!(head_end = strstr(c->buf, "\r\n\r\n")))
        if (!http_more(c))
            bench_die("the gateway closed the connection without an answer");
    *body = head_end + 4;
    char *length = strcasestr(c->buf, "\r\ncontent-length:");
    if (!length || length > head_end)
        bench_die("an answer without Content-Length: %.300s", c->buf);
    size_t want = (size_t)(*body - c->buf) + strtoul(length + strlen("\r\ncontent-length:"), NULL, 10);
    while (c->len < want)
        if (!http_more(c))
            bench_die("the gateway closed the connection inside an answer");
    char *closes = strcasestr(c->buf, "\r\nconnection: close");
    if (closes && closes < head_end) {
        close(c->fd);
        c->fd = -1;
    }
    return atoi(c->buf + strlen("HTTP/1.1 "));
}
