/* Opens many event streams of a gateway, changes a run, and times how long the change takes to each of them.
 *
 *   watchers --port N --url NATS --path PATH --watchers 1000 --key RUN --rounds 50
 *
 * Prints a line "open_seconds=..." when all streams are open, rests for a second and a half (so that the caller can look
 * at the gateway's memory), then puts the run --rounds times, each when the last has come to all. Prints, from before
 * the put: first_... the first stream that got it, each_... every stream, all_... the last of them.
 */
#include "common.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

typedef struct stream {
    int fd;
    size_t len;
    char buf[4096];
} stream;

static struct {
    int port, ep;
    long count;
    const char *path;
    stream *streams;
} w;

static void open_stream(stream *s) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)w.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    char request[400];
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n", w.path);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&to, sizeof to) != 0 || write(s->fd, request, (size_t)n) != n)
        bench_die("cannot open a stream: %s", strerror(errno));
    epoll_ctl(w.ep, EPOLL_CTL_ADD, s->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = s});
}

/* Reads what has come; true when `text` is in it. What is behind the last line is kept. */
static bool has_come(stream *s, const char *text) {
    ssize_t n = read(s->fd, s->buf + s->len, sizeof s->buf - 1 - s->len);
    if (n <= 0)
        bench_die("a stream has ended: %.300s", s->buf);
    s->len += (size_t)n;
    s->buf[s->len] = '\0';
    bool found = strstr(s->buf, text) != NULL;
    char *line = strrchr(s->buf, '\n');
    if (!found && line) { /* a text may be cut in two */
        s->len -= (size_t)(line + 1 - s->buf);
        memmove(s->buf, line + 1, s->len + 1);
    }
    if (found)
        s->len = 0;
    return found;
}

/* Waits until `text` has come on every stream; took: seconds since `from`, by the order of coming. */
static void wait_for_all(const char *text, double from, double *took) {
    struct epoll_event events[256];
    for (long done = 0; done < w.count;) {
        int n = epoll_wait(w.ep, events, 256, 20000);
        if (n <= 0)
            bench_die("nothing has come for 20 s; %ld of %ld have '%s'", done, w.count, text);
        double now = bench_now();
        for (int i = 0; i < n; i++)
            if (has_come(events[i].data.ptr, text))
                took[done++] = now - from;
    }
}

static void put(jsCtx *js, const char *key, long round) {
    char subject[200], value[1800];
    int n = snprintf(value, sizeof value,
                     "{\"run_id\":\"%s\",\"flow_name\":\"bench\",\"tag\":\"default\",\"status\":\"RUNNING\","
                     "\"updated_at\":%ld.5,\"error\":\"round %ld.\",\"params\":{\"text\":\"",
                     key, 1000 + round, round);
    memset(value + n, 'x', 1200);
    strcpy(value + n + 1200, "\"}}");
    snprintf(subject, sizeof subject, "$KV.pyoco_runs.%s", key);
    bench_check(js_Publish(NULL, js, subject, value, (int)strlen(value), NULL, NULL), "put");
}

int main(int argc, char **argv) {
    const char *key = bench_option(argc, argv, "key", "bench-watched");
    long rounds = bench_number(argc, argv, "rounds", 50);
    w.port = (int)bench_number(argc, argv, "port", 8000);
    w.count = bench_number(argc, argv, "watchers", 1000);
    w.path = bench_option(argc, argv, "path", "/runs/bench-watched/watch?timeout_sec=600");
    w.ep = epoll_create1(EPOLL_CLOEXEC);
    w.streams = calloc((size_t)w.count, sizeof *w.streams);
    double *each = calloc((size_t)(w.count * rounds), sizeof *each);
    double *first = calloc((size_t)rounds, sizeof *first), *all = calloc((size_t)rounds, sizeof *all);
    if (!w.streams || !each || !first || !all)
        bench_die("out of memory");
    natsConnection *nc = bench_connect(bench_option(argc, argv, "url", "nats://127.0.0.1:4222"), "pyoco-bench-watchers");
    jsCtx *js = NULL;
    bench_check(natsConnection_JetStream(&js, nc, NULL), "JetStream");
    put(js, key, -1);
    double from = bench_now();
    for (long i = 0; i < w.count; i++)
        open_stream(&w.streams[i]);
    wait_for_all("\nid: ", from, each);
    printf("open_seconds=%.3f\n", bench_now() - from);
    fflush(stdout);
    usleep(1500000);
    for (long r = 0; r < rounds; r++) {
        char text[40];
        snprintf(text, sizeof text, "round %ld.", r);
        from = bench_now();
        put(js, key, r);
        wait_for_all(text, from, each + r * w.count);
        first[r] = each[r * w.count];
        all[r] = each[(r + 1) * w.count - 1];
        usleep(30000); /* a change now and then: the next finds all at rest */
    }
    printf("rounds=%ld", rounds);
    bench_print_times("first", first, (size_t)rounds);
    bench_print_times("each", each, (size_t)(w.count * rounds));
    bench_print_times("all", all, (size_t)rounds);
    putchar('\n');
    free(each);
    free(first);
    free(all);
    free(w.streams);
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
    nats_Close();
    return 0;
}
