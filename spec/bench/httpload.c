/* A small HTTP load driver: one thread, epoll, keep-alive connections, one request in flight on each.
 * usage: httpload HOST PORT CONNECTIONS SECONDS PATH [BODY]  (with BODY: POST as JSON) -> one line of figures
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

struct conn {
    int fd;
    double sent_at;
    size_t got;
    char buf[65536];
};

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}

/* The length of the whole response in buf, or 0 while it is incomplete. */
static size_t response_length(const char *buf, size_t n) {
    const char *end = memmem(buf, n, "\r\n\r\n", 4);
    const char *cl = end ? strcasestr(buf, "content-length:") : NULL;
    if (!end || !cl || cl > end)
        return 0;
    size_t total = (size_t)(end - buf) + 4 + strtoul(cl + 15, NULL, 10);
    return n >= total ? total : 0;
}

int main(int argc, char **argv) {
    if (argc < 6) {
        fprintf(stderr, "usage: httpload HOST PORT CONNECTIONS SECONDS PATH [BODY]\n");
        return 1;
    }
    int n = atoi(argv[3]), ep = epoll_create1(0);
    double seconds = atof(argv[4]);
    char request[8192];
    const char *body = argc > 6 ? argv[6] : NULL;
    int len = body ? snprintf(request, sizeof request,
                              "POST %s HTTP/1.1\r\nHost: load\r\nContent-Type: "
                              "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                              argv[5], strlen(body), body)
                   : snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: load\r\n\r\n", argv[5]);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &sa.sin_addr);
    struct conn *conns = calloc((size_t)n, sizeof *conns);
    size_t done = 0, errors = 0, room = 1 << 20;
    double *times = malloc(room * sizeof *times), start = now(), t = start;
    for (int i = 0; i < n; i++) {
        struct conn *c = &conns[i];
        int yes = 1;
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->fd, (struct sockaddr *)&sa, sizeof sa) != 0) {
            perror("connect");
            return 1;
        }
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = c});
        c->sent_at = now();
        if (write(c->fd, request, (size_t)len) != len)
            return 1;
    }
    while (t - start < seconds) {
        struct epoll_event ev[64];
        int k = epoll_wait(ep, ev, 64, 1000);
        t = now();
        for (int i = 0; i < k; i++) {
            struct conn *c = ev[i].data.ptr;
            ssize_t r = read(c->fd, c->buf + c->got, sizeof c->buf - 1 - c->got);
            if (r <= 0) {
                fprintf(stderr, "connection closed by the server after %zu requests\n", done);
                return 1;
            }
            c->got += (size_t)r;
            c->buf[c->got] = '\0';
            if (!response_length(c->buf, c->got))
                continue;
            errors += strncmp(c->buf + 9, "200", 3) != 0;
            if (done == room)
                times = realloc(times, (room *= 2) * sizeof *times);
            times[done++] = t - c->sent_at;
            c->got = 0;
            c->sent_at = now();
            if (write(c->fd, request, (size_t)len) != len)
                return 1;
        }
    }
    qsort(times, done, sizeof *times, compare);
    printf("%.0f requests/s, p50 %.0f us, p99 %.0f us, %zu requests, %zu not 200, %d connections\n",
           (double)done / (t - start), times[done / 2] * 1e6, times[done * 99 / 100] * 1e6, done, errors, n);
    return 0;
}
