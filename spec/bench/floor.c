/* The floor: what nats-server alone costs for one run. Sends the messages of one run, each step waiting for
 * its reply, a given number of runs in flight: create   publish to $KV.<bucket>.<run> that expects no message
 * (gateway) job      publish to <work>.<tag> with a message id                 (gateway) fetch    pull of one
 * message from the durable consumer             (supervisor) get      last message of the run's key (slot)
 *   running  compare-and-set put, in `--running` percent of the runs   (slot)
 *   terminal compare-and-set put                                       (slot)
 *   ack      publish, no reply                                         (supervisor)
 *
 * Two ways of sending, since neither alone is "the" floor:
 *   threads  one thread per run in flight, blocking calls, one connection shared: what a plain program would
 * do events   one connection, one thread that answers each reply with the next step: the fastest nats.c
 * allows
 *
 * usage: floor --url URL --mode threads|events --in-flight N --runs N [--running PERCENT] [--get direct|api]
 *              [--initial BYTES] [--job BYTES] [--running-size BYTES] [--terminal BYTES]
 * prints one line of name=value. Makes streams of its own, configured as ours (CONTRACT 3), and removes them.
 */
#include "common.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORK_STREAM "FLOOR_WORK"
#define WORK_SUBJECT "floor.work.default"
#define CONSUMER "floor_default"
#define BUCKET "floor_runs"
#define RUN_LEN 36 /* as long as a UUID */

enum step { CREATE, JOB, FETCH, GET, RUNNING, TERMINAL };

/* One run in flight: one thread of it, or one state machine. */
typedef struct flight {
    enum step step;        /* the step whose reply is awaited */
    char run[RUN_LEN + 1]; /* the run it is at: its own up to FETCH, then that of the job it got */
    uint64_t revision;     /* last sequence of the run's key */
    char ack[256];         /* where the job in hand is acked */
    char inbox[128];       /* where replies to this flight go (events) */
} flight;

static struct {
    long runs, running_percent;
    long size[TERMINAL + 1]; /* payload bytes of the steps that carry one */
    bool is_direct;
    char prefix[9]; /* random; keeps ids of two floor runs apart */
    natsConnection *nc;
    atomic_long created, done;
    double *started, *took; /* by the run's number, seconds */
    pthread_mutex_t mutex;  /* events: guards `finished` */
    pthread_cond_t finished;
} bench;

/* --- the messages --- */

/* Takes the next run for the flight; false when all have been taken. */
static bool next_run(flight *f) {
    long n = atomic_fetch_add(&bench.created, 1);
    if (n >= bench.runs)
        return false;
    snprintf(f->run, sizeof f->run, "%s-0000-4000-8000-%012x", bench.prefix, (unsigned)n);
    f->run[RUN_LEN] = '\0';
    bench.started[n] = bench_now();
    f->step = CREATE;
    return true;
}

static long number_of(const char *run) {
    return strtol(run + strlen("00000000-0000-4000-8000-"), NULL, 16);
}

/* Some runs write RUNNING, spread evenly over the numbers. */
static bool writes_running(const char *run) {
    long n = number_of(run);
    return (n + 1) * bench.running_percent / 100 > n * bench.running_percent / 100;
}

/* A payload of the step's size that begins with the run's id, as ours do. The caller frees it. */
static char *payload(const flight *f, enum step step, int *len) {
    char head[80];
    int used = snprintf(head, sizeof head, "{\"run_id\":\"%s\",\"pad\":\"", f->run);
    int size = bench.size[step] > used + 2 ? (int)bench.size[step] : used + 2;
    char *text = malloc((size_t)size + 1);
    if (!text)
        bench_die("out of memory");
    memset(text, 'x', (size_t)size);
    memcpy(text, head, (size_t)used);
    memcpy(text + size - 2, "\"}", 3);
    *len = size;
    return text;
}

/* The message of the flight's step, `reply` as its reply subject (NULL: a request sets its own). */
static natsMsg *message(const flight *f, const char *reply) {
    natsMsg *m = NULL;
    char subject[256], number[32], *data = NULL, get[160];
    int len = 0;
    const char *body = NULL;
    switch (f->step) {
    case JOB:
        snprintf(subject, sizeof subject, WORK_SUBJECT);
        body = data = payload(f, JOB, &len);
        break;
    case FETCH:
        snprintf(subject, sizeof subject, "$JS.API.CONSUMER.MSG.NEXT." WORK_STREAM "." CONSUMER);
        body = "{\"batch\":1,\"expires\":30000000000}";
        break;
    case GET:
        snprintf(get, sizeof get, "{\"last_by_subj\":\"$KV." BUCKET ".%s\"}", f->run);
        body = bench.is_direct ? "" : get;
        snprintf(subject, sizeof subject,
                 bench.is_direct ? "$JS.API.DIRECT.GET.KV_" BUCKET ".$KV." BUCKET ".%s"
                                 : "$JS.API.STREAM.MSG.GET.KV_" BUCKET,
                 f->run);
        break;
    default:
        snprintf(subject, sizeof subject, "$KV." BUCKET ".%s", f->run);
        body = data = payload(f, f->step, &len);
    }
    bench_check(natsMsg_Create(&m, subject, reply, body, data ? len : (int)strlen(body)), "message");
    if (f->step == JOB) {
        natsMsgHeader_Set(m, "Nats-Msg-Id", f->run);
        natsMsgHeader_Set(m, "Nats-Expected-Stream", WORK_STREAM);
    } else if (f->step != FETCH && f->step != GET) {
        snprintf(number, sizeof number, "%lu", f->step == CREATE ? 0UL : (unsigned long)f->revision);
        natsMsgHeader_Set(m, "Nats-Expected-Last-Subject-Sequence", number);
    }
    free(data);
    return m;
}

/* Reads the number after "seq": in a JSON answer, or ends the process with the server's error. */
static uint64_t sequence_of(const flight *f, natsMsg *m) {
    char text[512];
    int len = natsMsg_GetDataLength(m);
    if (len >= (int)sizeof text)
        len = sizeof text - 1;
    memcpy(text, natsMsg_GetData(m), (size_t)len);
    text[len] = '\0';
    const char *seq = strstr(text, "\"seq\":");
    if (!seq || strstr(text, "\"error\":"))
        bench_die("step %d of %s was answered: %s", f->step, f->run, text);
    return strtoull(seq + 6, NULL, 10);
}

/* Takes the job that a fetch brought: the flight goes on with that job's run. */
static void take_job(flight *f, natsMsg *m) {
    const char *run = natsMsg_GetData(m), *status = NULL;
    if (natsMsg_GetDataLength(m) < RUN_LEN + 11) {
        natsMsgHeader_Get(m, "Status", &status);
        bench_die("fetch brought no job (status %s)", status ? status : "none");
    }
    memcpy(f->run, run + strlen("{\"run_id\":\""), RUN_LEN);
    snprintf(f->ack, sizeof f->ack, "%s", natsMsg_GetReply(m));
}

/* Digests the reply to the flight's step and moves it to the next one; false when the run has ended. */
static bool advance(flight *f, natsMsg *m) {
    switch (f->step) {
    case CREATE:
        f->revision = sequence_of(f, m);
        f->step = JOB;
        return true;
    case JOB:
        sequence_of(f, m);
        f->step = FETCH;
        return true;
    case FETCH:
        take_job(f, m);
        f->step = GET;
        return true;
    case GET:
        if (bench.is_direct) {
            const char *seq = NULL;
            bench_check(natsMsgHeader_Get(m, "Nats-Sequence", &seq), "direct get");
            f->revision = strtoull(seq, NULL, 10);
        } else {
            f->revision = sequence_of(f, m);
        }
        f->step = writes_running(f->run) ? RUNNING : TERMINAL;
        return true;
    case RUNNING:
        f->revision = sequence_of(f, m);
        f->step = TERMINAL;
        return true;
    case TERMINAL:
        sequence_of(f, m);
        bench_check(natsConnection_PublishString(bench.nc, f->ack, "+ACK"), "ack");
        bench.took[number_of(f->run)] = bench_now() - bench.started[number_of(f->run)];
        atomic_fetch_add(&bench.done, 1);
        return false;
    }
    return false;
}

/* --- threads --- */

static void *thread_main(void *arg) {
    flight *f = arg;
    natsSubscription *jobs = NULL;
    /* the job keeps its own subject, so a pull's answer cannot come through the request inbox */
    bench_check(natsConnection_SubscribeSync(&jobs, bench.nc, f->inbox), "subscribe");
    while (next_run(f)) {
        do {
            natsMsg *reply = NULL, *m = message(f, f->step == FETCH ? f->inbox : NULL);
            if (f->step == FETCH) {
                bench_check(natsConnection_PublishMsg(bench.nc, m), "pull");
                bench_check(natsSubscription_NextMsg(&reply, jobs, 30000), "fetch");
            } else {
                bench_check(natsConnection_RequestMsg(&reply, bench.nc, m, 10000), "request");
            }
            natsMsg_Destroy(m);
            bool goes_on = advance(f, reply);
            natsMsg_Destroy(reply);
            if (!goes_on)
                break;
        } while (true);
    }
    natsSubscription_Destroy(jobs);
    return NULL;
}

static void run_threads(flight *flights, long n) {
    pthread_t *threads = calloc((size_t)n, sizeof *threads);
    if (!threads)
        bench_die("out of memory");
    for (long i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, thread_main, &flights[i]) != 0)
            bench_die("no more threads");
    for (long i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    free(threads);
}

/* --- events: every reply arrives in one callback, which sends the next step --- */

static void send_step(flight *f) {
    natsMsg *m = message(f, f->inbox);
    bench_check(natsConnection_PublishMsg(bench.nc, m), "publish");
    natsMsg_Destroy(m);
}

static void on_reply(natsConnection *nc, natsSubscription *sub, natsMsg *m, void *closure) {
    (void)nc, (void)sub;
    flight *flights = closure, *f = NULL;
    const char *subject = natsMsg_GetSubject(m);
    if (strcmp(subject, WORK_SUBJECT) == 0) { /* a job: for any flight that waits for one */
        for (f = flights; f->step != FETCH; f++)
            continue;
    } else if (strncmp(subject, "_INBOX", 6) == 0) {
        f = &flights[atol(strrchr(subject, '.') + 1)];
    } else { /* a direct get answers with the key as its subject */
        const char *run = strrchr(subject, '.') + 1;
        for (f = flights; f->step != GET || strcmp(f->run, run) != 0; f++)
            continue;
    }
    bool goes_on = advance(f, m);
    natsMsg_Destroy(m);
    if (goes_on || next_run(f)) {
        send_step(f);
    } else if (atomic_load(&bench.done) >= bench.runs) {
        pthread_mutex_lock(&bench.mutex);
        pthread_cond_signal(&bench.finished);
        pthread_mutex_unlock(&bench.mutex);
    }
}

static void run_events(flight *flights, long n, const char *inbox) {
    natsSubscription *sub = NULL;
    char subject[160];
    snprintf(subject, sizeof subject, "%s.*", inbox);
    pthread_mutex_lock(&bench.mutex);
    bench_check(natsConnection_Subscribe(&sub, bench.nc, subject, on_reply, flights), "subscribe");
    natsSubscription_SetPendingLimits(sub, -1, -1);
    /* all flights get their run before the first reply can arrive and take one from them */
    for (long i = 0; i < n; i++)
        if (!next_run(&flights[i]))
            bench_die("fewer runs than in flight");
    for (long i = 0; i < n; i++)
        send_step(&flights[i]);
    while (atomic_load(&bench.done) < bench.runs)
        pthread_cond_wait(&bench.finished, &bench.mutex);
    pthread_mutex_unlock(&bench.mutex);
    natsSubscription_Destroy(sub);
}

/* --- streams of its own --- */

static void remove_streams(jsCtx *js) {
    js_DeleteStream(js, WORK_STREAM, NULL, NULL);
    js_DeleteStream(js, "KV_" BUCKET, NULL, NULL);
}

static void make_streams(jsCtx *js) {
    jsStreamConfig work, kv;
    jsConsumerConfig consumer;
    remove_streams(js); /* of a floor run that was interrupted */
    jsStreamConfig_Init(&work);
    work.Name = WORK_STREAM;
    work.Subjects = (const char *[]){"floor.work.>"};
    work.SubjectsLen = 1;
    work.Retention = js_WorkQueuePolicy;
    bench_check(js_AddStream(NULL, js, &work, NULL, NULL), "work stream");
    jsStreamConfig_Init(&kv);
    kv.Name = "KV_" BUCKET;
    kv.Subjects = (const char *[]){"$KV." BUCKET ".>"};
    kv.SubjectsLen = 1;
    kv.MaxMsgsPerSubject = 1;
    kv.Discard = js_DiscardNew;
    kv.DenyDelete = true;
    kv.AllowRollup = true;
    kv.AllowDirect = bench.is_direct;
    bench_check(js_AddStream(NULL, js, &kv, NULL, NULL), "bucket");
    jsConsumerConfig_Init(&consumer);
    consumer.Durable = CONSUMER;
    consumer.FilterSubject = WORK_SUBJECT;
    consumer.AckPolicy = js_AckExplicit;
    consumer.AckWait = 30000000000;
    consumer.MaxDeliver = 20;
    consumer.MaxAckPending = 200;
    bench_check(js_AddConsumer(NULL, js, WORK_STREAM, &consumer, NULL, NULL), "consumer");
}

int main(int argc, char **argv) {
    const char *mode = bench_option(argc, argv, "mode", "events");
    long n = bench_number(argc, argv, "in-flight", 1);
    bool is_events = strcmp(mode, "events") == 0;
    bench.runs = bench_number(argc, argv, "runs", 1000);
    bench.running_percent = bench_number(argc, argv, "running", 0);
    bench.size[CREATE] = bench_number(argc, argv, "initial", 480);
    bench.size[JOB] = bench_number(argc, argv, "job", 680);
    bench.size[RUNNING] = bench_number(argc, argv, "running-size", 1200);
    bench.size[TERMINAL] = bench_number(argc, argv, "terminal", 1500);
    bench.is_direct = strcmp(bench_option(argc, argv, "get", "api"), "direct") == 0;
    bench_random(bench.prefix);
    bench.nc = bench_connect(bench_option(argc, argv, "url", "nats://127.0.0.1:4222"), "pyoco-bench-floor");
    bench.started = calloc((size_t)bench.runs, sizeof(double));
    bench.took = calloc((size_t)bench.runs, sizeof(double));
    flight *flights = calloc((size_t)n, sizeof *flights);
    if (!bench.started || !bench.took || !flights || n < 1 || bench.runs < n)
        bench_die("nothing to do: --in-flight %ld --runs %ld", n, bench.runs);
    pthread_mutex_init(&bench.mutex, NULL);
    pthread_cond_init(&bench.finished, NULL);

    jsCtx *js = NULL;
    natsInbox *inbox = NULL;
    bench_check(natsConnection_JetStream(&js, bench.nc, NULL), "JetStream");
    make_streams(js);
    bench_check(natsInbox_Create(&inbox), "inbox");
    for (long i = 0; i < n; i++)
        snprintf(flights[i].inbox, sizeof flights[i].inbox, "%s.%ld", (const char *)inbox, i);

    double start = bench_now(), cpu = bench_cpu();
    if (is_events)
        run_events(flights, n, (const char *)inbox);
    else
        run_threads(flights, n);
    bench_check(natsConnection_FlushTimeout(bench.nc, 5000), "flush"); /* the last acks count */
    double seconds = bench_now() - start;
    printf("mode=%s in_flight=%ld runs=%ld running_percent=%ld seconds=%.3f runs_per_sec=%.0f cpu=%.3f", mode,
           n, bench.runs, bench.running_percent, seconds, (double)bench.runs / seconds, bench_cpu() - cpu);
    bench_print_times("run", bench.took, (size_t)bench.runs);
    putchar('\n');
    fflush(stdout);

    remove_streams(js);
    natsInbox_Destroy(inbox);
    jsCtx_Destroy(js);
    natsConnection_Destroy(bench.nc);
    free(flights);
    free(bench.started);
    free(bench.took);
    nats_Close();
    return 0;
}
