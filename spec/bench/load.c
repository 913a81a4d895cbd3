/* Drives a real gateway over HTTP and times it. Lines of name=value on stdout; any wrong answer ends it
 * with 1.
 *
 *   load latency     runs one after the other: POST /runs/yaml on a kept connection, then the watch with
 *                    until=terminal on a new one. Time from before the POST to the frame with the terminal
 * status. load throughput  --connections threads post --runs in all, each its next when the last was
 * answered. The end is seen by asking for the state of the work stream every 5 ms once all posts are
 * answered: a job leaves the stream with its ack, and the ack follows the terminal put, so an empty stream
 * means that all runs are terminal. That costs the server nothing while it is loaded (a subscription to
 *                    $KV.pyoco_runs.> would cost it a copy of every snapshot). After the clock has stopped
 * every run is read back and must be COMPLETED. load sizes       one run; prints the payload bytes of its
 * messages, taken from plain subscriptions. load start       starts the program after `--` several times;
 * time from exec until /health answers, or with
 *                    --worker-id until the worker's record is put into the registry.
 *
 * common options: --host 127.0.0.1 --port N --url NATS --file FLOW.yaml --flow-name F --tag T --runs N
 */
#include "common.h"
#include "http.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUN_LEN 36
#define DEADLINE 120.0 /* seconds without which a bench is stuck, not slow */

extern char **environ;

static struct {
    const char *host, *url, *work_stream, *runs_stream;
    int port;
    long runs;
    char *request; /* the whole POST /runs/yaml */
    size_t request_len;
    atomic_long next;
    char (*ids)[RUN_LEN + 1]; /* by the run's number */
    double *took;             /* seconds, by the run's number */
} load;

/* --- requests --- */

static char *read_file(const char *path, size_t *len) {
    FILE *f = fopen(path, "rb");
    char *text = malloc(1 << 20);
    if (!f || !text)
        bench_die("%s: %s", path, strerror(errno));
    *len = fread(text, 1, 1 << 20, f);
    fclose(f);
    return text;
}

/* Builds the POST as the reference's client sends it: fields, then the file. */
static void make_request(const char *file, const char *flow_name, const char *tag) {
    static const char boundary[] = "pyoco-bench-7d1f0c";
    size_t yaml_len = 0, body_len = 0;
    char *yaml = read_file(file, &yaml_len), *body = NULL;
    FILE *out = open_memstream(&body, &body_len);
    fprintf(out, "--%s\r\nContent-Disposition: form-data; name=\"flow_name\"\r\n\r\n%s\r\n", boundary,
            flow_name);
    fprintf(out, "--%s\r\nContent-Disposition: form-data; name=\"tag\"\r\n\r\n%s\r\n", boundary, tag);
    fprintf(out,
            "--%s\r\nContent-Disposition: form-data; name=\"workflow\"; filename=\"flow.yaml\"\r\n"
            "Content-Type: application/x-yaml\r\n\r\n",
            boundary);
    fwrite(yaml, 1, yaml_len, out);
    fprintf(out, "\r\n--%s--\r\n", boundary);
    fclose(out);
    out = open_memstream(&load.request, &load.request_len);
    fprintf(out,
            "POST /runs/yaml HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: multipart/form-data; boundary=%s\r\n"
            "Content-Length: %zu\r\n\r\n",
            load.host, load.port, boundary, body_len);
    fwrite(body, 1, body_len, out);
    fclose(out);
    free(body);
    free(yaml);
}

/* Submits one run; its id is written to `id`. */
static void submit(http_client *c, char id[RUN_LEN + 1]) {
    char *body = NULL;
    http_send(c, load.request, load.request_len);
    int status = http_answer(c, &body);
    char *found = strstr(body, "\"run_id\":\"");
    if (status != 200 || !found)
        bench_die("POST /runs/yaml was answered %d: %.500s", status, body);
    memcpy(id, found + strlen("\"run_id\":\""), RUN_LEN);
    id[RUN_LEN] = '\0';
}

/* The terminal status in a text of snapshots, or NULL. */
static const char *terminal_in(const char *text) {
    static const char *const all[] = {"COMPLETED", "FAILED", "CANCELLED"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char want[32];
        snprintf(want, sizeof want, "\"status\":\"%s\"", all[i]);
        if (strstr(text, want))
            return all[i];
    }
    return NULL;
}

/* Watches a run to its end on a connection of its own. */
static void watch(http_client *c, const char *id) {
    char request[256];
    int len = snprintf(request, sizeof request,
                       "GET /runs/%s/watch?until=terminal&timeout_sec=30 HTTP/1.1\r\nHost: %s:%d\r\n"
                       "Accept: text/event-stream\r\n\r\n",
                       id, load.host, load.port);
    http_send(c, request, (size_t)len);
    const char *status;
    while (!(status = terminal_in(c->buf)))
        if (!http_more(c))
            bench_die("the watch of %s ended before the run: %.800s", id, c->buf);
    if (strcmp(status, "COMPLETED") != 0)
        bench_die("run %s ended %s: %.2000s", id, status, c->buf);
}

/* Reads a run back: it must be COMPLETED. */
static void check_completed(http_client *c, const char *id) {
    char request[160], *body = NULL;
    int len = snprintf(request, sizeof request, "GET /runs/%s HTTP/1.1\r\nHost: %s:%d\r\n\r\n", id, load.host,
                       load.port);
    http_send(c, request, (size_t)len);
    int status = http_answer(c, &body);
    const char *ended = terminal_in(body);
    if (status != 200 || !ended || strcmp(ended, "COMPLETED") != 0)
        bench_die("run %s is not COMPLETED; GET was answered %d: %.1000s", id, status, body);
}

/* --- latency --- */

static void run_latency(void) {
    static http_client post, stream;
    double *posted = calloc((size_t)load.runs, sizeof *posted);
    if (!posted)
        bench_die("out of memory");
    http_init(&post, load.host, load.port);
    http_init(&stream, load.host, load.port);
    double start = bench_now(), cpu = bench_cpu();
    for (long i = 0; i < load.runs; i++) {
        double before = bench_now();
        submit(&post, load.ids[i]);
        posted[i] = bench_now() - before;
        watch(&stream, load.ids[i]);
        load.took[i] = bench_now() - before;
        http_close(&stream);
    }
    double seconds = bench_now() - start;
    printf("runs=%ld seconds=%.3f runs_per_sec=%.0f cpu=%.3f", load.runs, seconds,
           (double)load.runs / seconds, bench_cpu() - cpu);
    bench_print_times("post", posted, (size_t)load.runs);
    bench_print_times("run", load.took, (size_t)load.runs);
    putchar('\n');
    http_close(&post);
    free(posted);
}

/* --- throughput --- */

static void *post_main(void *arg) {
    http_client *c = arg;
    for (long i; (i = atomic_fetch_add(&load.next, 1)) < load.runs;) {
        double before = bench_now();
        submit(c, load.ids[i]);
        load.took[i] = bench_now() - before;
    }
    return NULL;
}

/* A count of a stream's state; ends the process when the stream cannot be read. */
static uint64_t stream_state(jsCtx *js, const char *stream, bool is_messages) {
    jsStreamInfo *info = NULL;
    bench_check(js_GetStreamInfo(&info, js, stream, NULL, NULL), stream);
    uint64_t n = is_messages ? info->State.Msgs : info->State.LastSeq;
    jsStreamInfo_Destroy(info);
    return n;
}

/* Waits until the work stream is empty. */
static void wait_drained(jsCtx *js) {
    double deadline = bench_now() + DEADLINE;
    uint64_t left;
    while ((left = stream_state(js, load.work_stream, true)) > 0) {
        if (bench_now() > deadline)
            bench_die("%lu jobs are still in %s after %.0f s", (unsigned long)left, load.work_stream,
                      DEADLINE);
        nats_Sleep(5);
    }
}

static void run_throughput(long connections, bool is_drained) {
    natsConnection *nc = bench_connect(load.url, "pyoco-bench-load");
    jsCtx *js = NULL;
    bench_check(natsConnection_JetStream(&js, nc, NULL), "JetStream");
    http_client *clients = calloc((size_t)connections, sizeof *clients);
    pthread_t *threads = calloc((size_t)connections, sizeof *threads);
    if (!clients || !threads || connections < 1)
        bench_die("cannot open %ld connections", connections);
    uint64_t puts = stream_state(js, load.runs_stream, false);
    double start = bench_now(), cpu = bench_cpu();
    for (long i = 0; i < connections; i++) {
        http_init(&clients[i], load.host, load.port);
        if (pthread_create(&threads[i], NULL, post_main, &clients[i]) != 0)
            bench_die("no more threads");
    }
    for (long i = 0; i < connections; i++)
        pthread_join(threads[i], NULL);
    double posted = bench_now() - start;
    if (is_drained)
        wait_drained(js);
    double seconds = bench_now() - start;
    cpu = bench_cpu() - cpu;
    puts = stream_state(js, load.runs_stream, false) - puts;
    printf("runs=%ld connections=%ld seconds=%.3f runs_per_sec=%.0f posts_seconds=%.3f cpu=%.3f "
           "puts_per_run=%.3f",
           load.runs, connections, seconds, (double)load.runs / seconds, posted, cpu,
           (double)puts / (double)load.runs);
    bench_print_times("post", load.took, (size_t)load.runs);
    putchar('\n');
    fflush(stdout); /* the bench takes its figures of CPU when it sees the line: reading back is not part of
                       them */
    for (long i = 0; is_drained && i < load.runs; i++)
        check_completed(&clients[0], load.ids[i]);
    if (is_drained)
        printf("completed=all\n");
    for (long i = 0; i < connections; i++)
        http_close(&clients[i]);
    free(clients);
    free(threads);
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
}

/* --- sizes --- */

static bool next_message(natsSubscription *sub, natsMsg **m, int64_t ms) {
    natsStatus s = natsSubscription_NextMsg(m, sub, ms);
    if (s != NATS_OK && s != NATS_TIMEOUT)
        bench_check(s, "next message");
    return s == NATS_OK;
}

/* Does the bucket of runs allow direct gets? */
static bool is_direct(natsConnection *nc) {
    jsCtx *js = NULL;
    jsStreamInfo *info = NULL;
    bench_check(natsConnection_JetStream(&js, nc, NULL), "JetStream");
    bench_check(js_GetStreamInfo(&info, js, load.runs_stream, NULL, NULL), load.runs_stream);
    bool allowed = info->Config->AllowDirect;
    jsStreamInfo_Destroy(info);
    jsCtx_Destroy(js);
    return allowed;
}

/* Payload bytes of one run's messages. The last subscription answers when the run is terminal. */
static void run_sizes(const char *work_subject, const char *runs_subject) {
    static http_client post;
    natsConnection *nc = bench_connect(load.url, "pyoco-bench-load");
    natsSubscription *snapshots = NULL, *jobs = NULL;
    natsMsg *m = NULL;
    bench_check(natsConnection_SubscribeSync(&snapshots, nc, runs_subject), "subscribe");
    bench_check(natsConnection_SubscribeSync(&jobs, nc, work_subject), "subscribe");
    bench_check(natsConnection_FlushTimeout(nc, 5000), "flush");
    http_init(&post, load.host, load.port);
    submit(&post, load.ids[0]);
    if (!next_message(jobs, &m, 5000))
        bench_die("no job was published on %s", work_subject);
    printf("get=%s job=%d", is_direct(nc) ? "direct" : "api", natsMsg_GetDataLength(m));
    natsMsg_Destroy(m);
    const char *name = "initial";
    for (bool is_terminal = false; !is_terminal; name = "running") {
        if (!next_message(snapshots, &m, 30000))
            bench_die("run %s did not end", load.ids[0]);
        char *text = strndup(natsMsg_GetData(m), (size_t)natsMsg_GetDataLength(m));
        is_terminal = text && terminal_in(text);
        printf(" %s=%d", is_terminal ? "terminal" : name, natsMsg_GetDataLength(m));
        free(text);
        natsMsg_Destroy(m);
    }
    putchar('\n');
    http_close(&post);
    natsSubscription_Destroy(snapshots);
    natsSubscription_Destroy(jobs);
    natsConnection_Destroy(nc);
}

/* --- start --- */

static bool is_healthy(http_client *c) {
    char *body = NULL, request[] = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if (!http_connect(c))
        return false;
    http_send(c, request, sizeof request - 1);
    return http_answer(c, &body) == 200;
}

static void run_ready(void) {
    static http_client c;
    http_init(&c, load.host, load.port);
    for (double deadline = bench_now() + 30; !is_healthy(&c); usleep(1000))
        if (bench_now() > deadline)
            bench_die("no gateway answers on port %d", load.port);
    http_close(&c);
}

static void run_start(char **command, const char *worker_id) {
    static http_client c;
    natsConnection *nc = worker_id ? bench_connect(load.url, "pyoco-bench-load") : NULL;
    natsSubscription *record = NULL;
    char subject[128];
    for (long i = 0; i < load.runs; i++) {
        if (worker_id) {
            snprintf(subject, sizeof subject, "$KV.pyoco_workers.%s", worker_id);
            bench_check(natsConnection_SubscribeSync(&record, nc, subject), "subscribe");
            bench_check(natsConnection_FlushTimeout(nc, 5000), "flush");
        }
        http_init(&c, load.host, load.port);
        pid_t pid;
        double before = bench_now();
        if (posix_spawnp(&pid, command[0], NULL, NULL, command, environ) != 0)
            bench_die("cannot start %s: %s", command[0], strerror(errno));
        natsMsg *m = NULL;
        for (bool is_up = false; !is_up;) {
            is_up = worker_id ? next_message(record, &m, 100) : is_healthy(&c);
            if (!is_up && (waitpid(pid, NULL, WNOHANG) != 0 || bench_now() > before + 30))
                bench_die("%s did not get ready", command[0]);
            if (!is_up && !worker_id)
                usleep(200); /* the port is not open yet: the next try decides */
        }
        load.took[i] = bench_now() - before;
        natsMsg_Destroy(m);
        natsSubscription_Destroy(record);
        record = NULL;
        http_close(&c);
        kill(pid, SIGTERM);
        waitpid(pid, NULL, 0);
    }
    printf("starts=%ld", load.runs);
    bench_print_times("start", load.took, (size_t)load.runs);
    putchar('\n');
    natsConnection_Destroy(nc);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "", *file = bench_option(argc, argv, "file", NULL);
    load.host = bench_option(argc, argv, "host", "127.0.0.1");
    load.port = (int)bench_number(argc, argv, "port", 8000);
    load.url = bench_option(argc, argv, "url", "nats://127.0.0.1:4222");
    load.work_stream = bench_option(argc, argv, "work-stream", "PYOCO_WORK");
    load.runs_stream = bench_option(argc, argv, "runs-stream", "KV_pyoco_runs");
    load.runs = bench_number(argc, argv, "runs", 100);
    load.ids = calloc((size_t)load.runs + 1, sizeof *load.ids);
    load.took = calloc((size_t)load.runs + 1, sizeof *load.took);
    if (!load.ids || !load.took)
        bench_die("out of memory");
    if (file)
        make_request(file, bench_option(argc, argv, "flow-name", "bench"),
                     bench_option(argc, argv, "tag", "default"));
    if (strcmp(mode, "start") == 0) {
        char **command = argv;
        while (*command && strcmp(*command, "--") != 0)
            command++;
        if (!*command || !command[1])
            bench_die("what to start goes after --");
        run_start(command + 1, bench_option(argc, argv, "worker-id", NULL));
    } else if (strcmp(mode, "ready") == 0) {
        run_ready();
    } else if (!file) {
        bench_die("usage: load latency|throughput|posts|sizes|ready|start --file FLOW.yaml ... (see the head "
                  "of load.c)");
    } else if (strcmp(mode, "latency") == 0) {
        run_latency();
    } else if (strcmp(mode, "throughput") == 0) {
        run_throughput(bench_number(argc, argv, "connections", 16), true);
    } else if (strcmp(mode, "posts") == 0) {
        run_throughput(bench_number(argc, argv, "connections", 16), false);
    } else if (strcmp(mode, "sizes") == 0) {
        run_sizes(bench_option(argc, argv, "work-subject", "pyoco.work.>"),
                  bench_option(argc, argv, "runs-subject", "$KV.pyoco_runs.>"));
    } else {
        bench_die("unknown mode '%s'", mode);
    }
    free(load.request);
    free(load.ids);
    free(load.took);
    nats_Close();
    return 0;
}
