/* See tail.h. The thread makes a consumer, pulls from it until something is wrong, and makes the next one. */
#include "tail.h"
#include "jsapi.h"
#include "nats.h"
#include "clocks.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH 4096
#define PULL "{\"batch\":4096,\"expires\":20000000000,\"idle_heartbeat\":2000000000,\"max_bytes\":16777216}"
#define SLICE_MS 200      /* how long a stop or a reconnect may go unnoticed */
#define SILENCE_MS 5000   /* two heartbeats and a half */
#define REQUEST_MS 2000
#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 250
#define CLOCK_EVERY_MS 300000
#define WARY_MS 15000     /* after PH_TAIL_PURGE_KEY */

struct ph_tail {
    ph_nats_conn *conn; /* counted reference */
    natsConnection *nc; /* its */
    char stream[80], prefix[96];
    ph_tail_handlers on;
    void *ctx;
    pthread_t thread;
    pthread_mutex_t lock; /* over the next four */
    pthread_cond_t wake;
    natsSubscription *sub;
    bool stopping, resting;
    /* the thread's own */
    uint64_t next;         /* the revision to go on with; 0 = whatever comes new */
    int64_t last_ns;       /* time of the revision before it, when that was delivered; 0 = it was not */
    uint64_t newest;       /* revision in the stream when this consumer was made: what it delivers from there on is live */
    uint64_t consumer_seq; /* of the last message of this consumer */
    uint64_t pending;      /* what the server said with it */
    int64_t wary_until_ms; /* subjects of the bucket are being purged */
    char created[40];      /* when the stream was made: its identity */
    bool has_started, is_live;
    ph_nats_asker asker;
    char inbox[64], consumer[64];
    int64_t clock_at_ms;
    _Atomic int64_t seen_ms; /* the last sign of life while live; 0 = not live */
};

static _Atomic double server_minus_monotonic;
static atomic_bool clock_known;

bool ph_clock_offset(double *seconds) {
    *seconds = ph_monotonic() + atomic_load(&server_minus_monotonic) - ph_wall();
    return atomic_load(&clock_known);
}

int64_t ph_tail_age_ms(ph_tail *tail) {
    int64_t seen = atomic_load(&tail->seen_ms);
    return seen ? ph_monotonic_ms() - seen : INT64_MAX;
}

bool ph_tail_is_cut(const ph_tail *tail) {
    return natsConnection_IsClosed(tail->nc);
}

static bool is_stopping(ph_tail *tail) {
    pthread_mutex_lock(&tail->lock);
    bool stopping = tail->stopping;
    pthread_mutex_unlock(&tail->lock);
    return stopping;
}

static bool must_follow(ph_tail *tail) {
    pthread_mutex_lock(&tail->lock);
    bool follows = !tail->stopping && !tail->resting;
    pthread_mutex_unlock(&tail->lock);
    return follows;
}

void ph_tail_rest(ph_tail *tail, bool is_resting) {
    pthread_mutex_lock(&tail->lock);
    tail->resting = is_resting;
    pthread_cond_broadcast(&tail->wake);
    pthread_mutex_unlock(&tail->lock);
}

/* While it is to rest. Afterwards it is as at its start. */
static void wait_until_needed(ph_tail *tail) {
    pthread_mutex_lock(&tail->lock);
    bool has_rested = tail->resting;
    while (tail->resting && !tail->stopping)
        pthread_cond_wait(&tail->wake, &tail->lock);
    pthread_mutex_unlock(&tail->lock);
    if (has_rested) {
        tail->next = 0;
        tail->last_ns = 0;
        tail->has_started = tail->is_live = false;
    }
}

/* Waits, or until the tail is stopped or rests. */
static void pause_for(ph_tail *tail, int64_t ms) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&tail->lock);
    while (!tail->stopping && !tail->resting && pthread_cond_timedwait(&tail->wake, &tail->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&tail->lock);
}

static uint64_t reconnects(natsConnection *nc) {
    natsStatistics *stats = NULL;
    uint64_t count = 0;
    if (natsStatistics_Create(&stats) == NATS_OK && natsConnection_GetStats(nc, stats) == NATS_OK)
        natsStatistics_GetCounts(stats, NULL, NULL, NULL, NULL, &count);
    natsStatistics_Destroy(stats);
    return count;
}

/* --- what the follower is told --- */

static void start_over(ph_tail *tail) {
    tail->next = 1;
    tail->last_ns = 0;
    tail->is_live = false;
    atomic_store(&tail->seen_ms, 0);
    if (tail->on.on_reset)
        tail->on.on_reset(tail->ctx);
}

static void go_live(ph_tail *tail) {
    if (!tail->is_live && tail->on.on_live)
        tail->on.on_live(tail->ctx, ph_js_time(tail->created));
    tail->is_live = true;
}

static void deliver(ph_tail *tail, natsMsg *msg, const ph_js_meta *meta) {
    const char *operation = NULL;
    bool deleted = natsMsgHeader_Get(msg, "KV-Operation", &operation) == NATS_OK && strcmp(operation, "PUT") != 0;
    const char *subject = natsMsg_GetSubject(msg);
    ph_entry entry = {.key = subject + strlen(tail->prefix),
                      .value = natsMsg_GetData(msg) ? natsMsg_GetData(msg) : "",
                      .len = (size_t)natsMsg_GetDataLength(msg),
                      .revision = meta->stream_seq,
                      .created_ns = meta->time_ns,
                      .deleted = deleted};
    if (deleted && strcmp(entry.key, PH_TAIL_PURGE_KEY) == 0) {
        double age = ph_monotonic() + atomic_load(&server_minus_monotonic) - (double)entry.created_ns / 1e9;
        tail->wary_until_ms = ph_monotonic_ms() + WARY_MS - (int64_t)(age * 1e3);
    }
    if (tail->on.on_entry && strncmp(subject, tail->prefix, strlen(tail->prefix)) == 0)
        tail->on.on_entry(tail->ctx, &entry);
    tail->next = meta->stream_seq + 1;
    tail->last_ns = meta->time_ns;
}

/* --- one consumer --- */

/* The server stamps a new consumer with its own time: half the round trip earlier is when it did so. */
static void take_clock(ph_tail *tail, const cJSON *consumer, double sent) {
    int64_t created_ns = ph_js_time(ph_js_string(consumer, "created"));
    if (created_ns == 0)
        return;
    atomic_store(&server_minus_monotonic, (double)created_ns / 1e9 - (sent + ph_monotonic()) / 2);
    atomic_store(&clock_known, true);
    tail->clock_at_ms = ph_monotonic_ms();
}

/* Whether the last revision that was delivered is another message now: a server that was killed may have lost its newest
 * ones, and new ones have got their revisions since. One that is there no more tells nothing, a newer one of its key has
 * replaced it. False in *ok when that cannot be asked. */
static bool is_rewritten(ph_tail *tail, bool *ok, ph_error *err) {
    char subject[120], body[60];
    cJSON *answer = NULL;
    if (!tail->last_ns)
        return false;
    snprintf(subject, sizeof subject, "STREAM.MSG.GET.%s", tail->stream);
    snprintf(body, sizeof body, "{\"seq\":%llu}", (unsigned long long)tail->next - 1);
    const char *code = ph_js_call(&tail->asker, tail->nc, subject, body, REQUEST_MS, &answer, err);
    *ok = !code || (strcmp(code, PH_TIMEOUT) != 0 && strcmp(code, PH_UNAVAILABLE) != 0);
    bool is_other = !code && ph_js_time(ph_js_string(cJSON_GetObjectItemCaseSensitive(answer, "message"), "time")) !=
                                 tail->last_ns;
    cJSON_Delete(answer);
    return is_other;
}

/* True when the stream still is the one that was followed; tells the follower otherwise. */
static bool check_stream(ph_tail *tail, ph_error *err) {
    char subject[120];
    snprintf(subject, sizeof subject, "STREAM.INFO.%s", tail->stream);
    cJSON *info = NULL;
    if (ph_js_call(&tail->asker, tail->nc, subject, NULL, REQUEST_MS, &info, err))
        return false;
    const cJSON *state = cJSON_GetObjectItemCaseSensitive(info, "state");
    const char *created = ph_js_string(info, "created");
    uint64_t first = ph_js_number(state, "first_seq"), last = ph_js_number(state, "last_seq");
    bool is_other = strcmp(created, tail->created) != 0 || last + 1 < tail->next || first > tail->next;
    bool ok = true;
    is_other = is_other || is_rewritten(tail, &ok, err);
    if (!ok) {
        cJSON_Delete(info);
        return false;
    }
    if (tail->has_started && is_other)
        start_over(tail);
    else if (!tail->has_started && tail->next == 0)
        tail->next = last + 1; /* so that a consumer made anew misses nothing */
    tail->has_started = true;
    tail->newest = last;
    snprintf(tail->created, sizeof tail->created, "%s", created);
    cJSON_Delete(info);
    return true;
}

static bool make_consumer(ph_tail *tail, const char *more, bool is_kept, ph_error *err) {
    char subject[120], body[400];
    snprintf(subject, sizeof subject, "CONSUMER.CREATE.%s", tail->stream);
    snprintf(body, sizeof body,
             "{\"stream_name\":\"%s\",\"config\":{%s,\"ack_policy\":\"none\",\"replay_policy\":\"instant\","
             "\"mem_storage\":true,\"num_replicas\":1,\"inactive_threshold\":%lld}}",
             tail->stream, more, is_kept ? 30000000000LL : 1000000000LL);
    double sent = ph_monotonic();
    cJSON *answer = NULL;
    if (ph_js_call(&tail->asker, tail->nc, subject, body, REQUEST_MS, &answer, err))
        return false;
    take_clock(tail, answer, sent);
    if (is_kept) {
        snprintf(tail->consumer, sizeof tail->consumer, "%s", ph_js_string(answer, "name"));
        tail->consumer_seq = 0;
        if (ph_js_number(answer, "num_pending") == 0)
            go_live(tail);
    }
    cJSON_Delete(answer);
    return true;
}

static bool open_consumer(ph_tail *tail, ph_error *err) {
    if (!check_stream(tail, err))
        return false;
    char more[80];
    snprintf(more, sizeof more, "\"deliver_policy\":\"by_start_sequence\",\"opt_start_seq\":%llu",
             (unsigned long long)(tail->next ? tail->next : 1));
    return make_consumer(tail, more, true, err);
}

/* The first revision from tail->next on that the stream has; 0 = none. False when that cannot be asked. */
static bool next_stored(ph_tail *tail, uint64_t *revision) {
    char subject[120], body[80];
    cJSON *answer = NULL;
    ph_error err;
    snprintf(subject, sizeof subject, "STREAM.MSG.GET.%s", tail->stream);
    snprintf(body, sizeof body, "{\"seq\":%llu,\"next_by_subj\":\">\"}", (unsigned long long)tail->next);
    const char *code = ph_js_call(&tail->asker, tail->nc, subject, body, REQUEST_MS, &answer, &err);
    *revision = code ? 0 : ph_js_number(cJSON_GetObjectItemCaseSensitive(answer, "message"), "seq");
    cJSON_Delete(answer);
    return !code || strcmp(code, PH_NOT_FOUND) == 0;
}

/* nats-server 2.9 moves every consumer of a stream on when a subject of it is purged, past what it has not delivered.
 * That shows in a count that falls by more than the message that came. It does not when nothing was pending yet: so
 * while subjects are purged each gap is looked at. */
static bool has_skipped(ph_tail *tail, const ph_js_meta *meta) {
    uint64_t stored;
    bool is_suspect = tail->consumer_seq > 0 && meta->pending + 1 < tail->pending;
    bool is_gap = meta->stream_seq > tail->next && ph_monotonic_ms() < tail->wary_until_ms;
    return (is_suspect || is_gap) && next_stored(tail, &stored) && stored > 0 && stored < meta->stream_seq;
}

static void close_consumer(ph_tail *tail) {
    char subject[200];
    if (!*tail->consumer)
        return;
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.DELETE.%s.%s", tail->stream, tail->consumer);
    natsConnection_PublishString(tail->nc, subject, ""); /* else it ends by itself, unused, in 30 s */
    *tail->consumer = '\0';
}

static bool pull(ph_tail *tail) {
    char subject[200];
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.MSG.NEXT.%s.%s", tail->stream, tail->consumer);
    return natsConnection_PublishRequestString(tail->nc, subject, tail->inbox, PULL) == NATS_OK;
}

typedef enum verdict { GO_ON, PULL_AGAIN, MAKE_ANEW } verdict;

/* A heartbeat: nothing was sent for a while. If the stream has more, the consumer was moved past it (see above). If not,
 * all that there is was delivered, whatever the server's count says: what is overwritten or deleted before it was
 * delivered counts as pending for ever. */
static verdict on_silence(ph_tail *tail) {
    uint64_t stored;
    if (!next_stored(tail, &stored))
        return GO_ON;
    if (stored > 0)
        return MAKE_ANEW;
    tail->pending = 0;
    go_live(tail);
    return GO_ON;
}

static verdict take_message(ph_tail *tail, natsMsg *msg) {
    ph_js_meta meta;
    const char *status = NULL;
    const char *reply = natsMsg_GetReply(msg);
    if (reply && ph_js_parse_reply(reply, &meta)) {
        if (meta.consumer_seq != tail->consumer_seq + 1)
            return MAKE_ANEW; /* something was lost on the way */
        if (has_skipped(tail, &meta))
            return MAKE_ANEW;
        tail->consumer_seq = meta.consumer_seq;
        tail->pending = meta.pending;
        deliver(tail, msg, &meta);
        if (meta.pending == 0 || meta.stream_seq >= tail->newest)
            go_live(tail);
        return GO_ON;
    }
    if (natsMsg_GetDataLength(msg) > 0 || natsMsgHeader_Get(msg, "Status", &status) != NATS_OK)
        return GO_ON;
    if (strcmp(status, "100") == 0)
        return on_silence(tail);
    if (strcmp(status, "408") == 0 || strcmp(status, "404") == 0)
        return PULL_AGAIN;
    const char *why = "";
    natsMsgHeader_Get(msg, "Description", &why);
    return strcmp(status, "409") == 0 && strstr(why, "MaxBytes") ? PULL_AGAIN : MAKE_ANEW;
}

/* Pulls until the consumer is of no more use. */
static void follow(ph_tail *tail) {
    uint64_t connection = reconnects(tail->nc);
    int left = 0;
    int64_t heard_ms = ph_monotonic_ms();
    while (must_follow(tail)) {
        if (left == 0) {
            if (!pull(tail))
                return;
            left = BATCH;
        }
        natsMsg *msg = NULL;
        natsStatus s = natsSubscription_NextMsg(&msg, tail->sub, SLICE_MS);
        int64_t now = ph_monotonic_ms();
        if (s == NATS_TIMEOUT) {
            if (now - heard_ms > SILENCE_MS || reconnects(tail->nc) != connection ||
                natsConnection_Status(tail->nc) != NATS_CONN_STATUS_CONNECTED)
                return;
            ph_error err;
            if (now - tail->clock_at_ms > CLOCK_EVERY_MS)
                make_consumer(tail, "\"deliver_policy\":\"new\"", false, &err);
            continue;
        }
        if (s != NATS_OK)
            return;
        verdict v = take_message(tail, msg);
        left = v == PULL_AGAIN ? 0 : natsMsg_GetReply(msg) ? left - 1 : left;
        ph_nats_free(msg);
        if (v == MAKE_ANEW)
            return;
        heard_ms = now;
        atomic_store(&tail->seen_ms, tail->is_live ? now : 0);
    }
}

static bool subscribe(ph_tail *tail) {
    natsInbox *inbox = NULL;
    if (natsInbox_Create(&inbox) != NATS_OK)
        return false;
    snprintf(tail->inbox, sizeof tail->inbox, "%s", inbox);
    natsInbox_Destroy(inbox);
    natsSubscription *sub = NULL;
    if (natsConnection_SubscribeSync(&sub, tail->nc, tail->inbox) != NATS_OK)
        return false;
    natsSubscription_SetPendingLimits(sub, -1, -1); /* a pull's max_bytes bounds it */
    pthread_mutex_lock(&tail->lock);
    tail->sub = sub;
    if (tail->stopping)
        natsSubscription_Unsubscribe(sub);
    pthread_mutex_unlock(&tail->lock);
    return true;
}

static void unsubscribe(ph_tail *tail) {
    pthread_mutex_lock(&tail->lock);
    natsSubscription *sub = tail->sub;
    tail->sub = NULL;
    pthread_mutex_unlock(&tail->lock);
    ph_nats_unsubscribe(tail->nc, sub);
}

static void *run(void *arg) {
    ph_tail *tail = arg;
    int64_t wait_ms = RETRY_MIN_MS;
    for (wait_until_needed(tail); !is_stopping(tail); wait_until_needed(tail)) {
        ph_error err = {0};
        /* a fresh inbox each time, so that nothing of an older pull gets in between */
        bool is_open = natsConnection_Status(tail->nc) == NATS_CONN_STATUS_CONNECTED && subscribe(tail) &&
                       open_consumer(tail, &err);
        if (is_open) {
            wait_ms = RETRY_MIN_MS;
            atomic_store(&tail->seen_ms, tail->is_live ? ph_monotonic_ms() : 0);
            follow(tail);
        }
        atomic_store(&tail->seen_ms, 0);
        unsubscribe(tail);
        close_consumer(tail);
        pause_for(tail, wait_ms);
        wait_ms = wait_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : wait_ms * 2;
    }
    ph_nats_asker_close(&tail->asker);
    nats_ReleaseThreadMemory();
    return NULL;
}

static bool is_bucket_name(const char *bucket) {
    size_t len = strspn(bucket, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return len > 0 && len <= 64 && bucket[len] == '\0';
}

static void free_tail(ph_tail *tail) {
    pthread_cond_destroy(&tail->wake);
    pthread_mutex_destroy(&tail->lock);
    ph_nats_release(tail->conn);
    free(tail);
}

ph_tail *ph_tail_start(ph_nats_conn *conn, const char *bucket, uint64_t from, ph_tail_handlers handlers, void *ctx,
                       ph_error *err) {
    if (!is_bucket_name(bucket)) {
        snprintf(err->text, sizeof err->text,
                 "bucket name '%s' is not 1 to 64 letters, digits, underscores and hyphens", bucket);
        return NULL;
    }
    ph_tail *tail = calloc(1, sizeof *tail);
    if (!tail) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return NULL;
    }
    tail->conn = ph_nats_retain(conn);
    tail->nc = ph_nats_raw(conn);
    tail->on = handlers;
    tail->ctx = ctx;
    tail->next = from;
    snprintf(tail->stream, sizeof tail->stream, "KV_%s", bucket);
    snprintf(tail->prefix, sizeof tail->prefix, "$KV.%s.", bucket);
    pthread_mutex_init(&tail->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&tail->wake, &attr);
    pthread_condattr_destroy(&attr);
    int rc = pthread_create(&tail->thread, NULL, run, tail);
    if (rc == 0) {
        pthread_setname_np(tail->thread, "tail");
        return tail;
    }
    snprintf(err->text, sizeof err->text, "cannot start a thread: %s", strerror(rc));
    free_tail(tail);
    return NULL;
}

void ph_tail_stop(ph_tail *tail) {
    if (!tail)
        return;
    pthread_mutex_lock(&tail->lock);
    tail->stopping = true;
    pthread_cond_broadcast(&tail->wake);
    if (tail->sub)
        natsSubscription_Unsubscribe(tail->sub); /* ends the wait for a message */
    pthread_mutex_unlock(&tail->lock);
    pthread_join(tail->thread, NULL);
    free_tail(tail);
}
