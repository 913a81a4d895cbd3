/* Loop mode; see nats.h.
 *
 * Each request in flight has a slot with a subscription of its own, kept for the next request: the public way to
 * read a subscription turns a "no responders" message into a status without a subject, so the subscription is
 * what tells whose it is. The reply subject's last token is the slot's generation, against answers that come
 * twice; after a timeout the slot gets a new subscription.
 * Callbacks may call anything here, ph_nats_loop_close included, and may run a nested turn of the loop; so places
 * are looked up anew after each call and nothing is freed while `depth` > 0. */
#include "nats.h"
#include "natslink.h"
#include "foreign.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WRITE_NOW_BYTES 65536 /* buffered beyond this, we do not wait for the end of the turn */
#define RETRY_MIN_MS 20
#define RETRY_MAX_MS 1000

struct ph_nats_sub {
    struct ph_nats_sub *next;
    ph_nats_loop *pl;
    char *subject, *queue;
    natsSubscription *sub; /* NULL while not connected */
    ph_nats_msg_fn fn; /* NULL once closed; freed by sweep() */
    void *ctx;
    intptr_t tag;
};

typedef struct request {
    natsSubscription *sub; /* on <inbox>.<id>.*; NULL until needed */
    uint32_t id;
    uint32_t generation; /* counts the slot's requests; the reply subject's last token */
    int next_free;
    uint64_t deadline_ns;
    ph_nats_reply_fn fn; /* NULL when the slot is free */
    void *ctx;
    intptr_t tag;
    char subject[64]; /* for messages; may be cut */
} request;

typedef struct watcher {
    ph_nats_status_fn fn; /* NULL when the place is free */
    void *ctx;
} watcher;

struct ph_nats_loop {
    ph_link_owner base; /* first: the link hands it back */
    natsOptions *opts;
    char url[512];
    ph_link *link;      /* NULL while not connected */
    natsConnection *nc; /* the link's */
    const char *status;
    uint64_t reconnects;
    uint64_t retry_ms;
    bool closing, connecting;
    int open_handles;
    int depth; /* of callbacks under way */
    bool dirty; /* closed subscriptions wait for sweep() */
    ph_nats_sub *subs;
    char inbox[64];
    uint32_t next_id; /* of a slot's subscription */
    request *requests;
    int capacity, first_free, in_flight;
    uint64_t armed_ns; /* when the deadline timer fires; 0 = not armed */
    watcher *watchers;
    int watcher_count;
    uv_async_t wake;
    uv_prepare_t prepare;
    uv_timer_t deadline, retry;
    uv_work_t work;
    natsConnection *new_nc; /* what the worker thread brought back */
};

static void go_down(ph_nats_loop *pl);
static void finish_close(ph_nats_loop *pl);

static const char *out_of_memory(ph_error *err) {
    snprintf(err->text, sizeof err->text, "out of memory");
    return PH_INTERNAL;
}

/* --- delivery --- */

static void free_sub(ph_nats_sub *sub) {
    natsSubscription_Destroy(sub->sub);
    free(sub->subject);
    free(sub->queue);
    free(sub);
}

static void sweep(ph_nats_loop *pl) {
    if (pl->depth > 0 || !pl->dirty)
        return;
    pl->dirty = false;
    for (ph_nats_sub **p = &pl->subs; *p;) {
        ph_nats_sub *sub = *p;
        if (sub->fn) {
            p = &sub->next;
            continue;
        }
        *p = sub->next;
        free_sub(sub);
    }
}

static void leave(ph_nats_loop *pl) {
    pl->depth--;
    sweep(pl);
    if (pl->closing && pl->depth == 0)
        finish_close(pl);
}

/* "No responders" reaches a subscriber as the message that it was, with Status 503. */
static natsMsg *no_responders(const char *subject) {
    natsMsg *msg = NULL;
    if (natsMsg_Create(&msg, subject, NULL, NULL, 0) == NATS_OK)
        natsMsgHeader_Set(msg, "Status", "503");
    return msg;
}

/* Hands over what one subscription has received. */
static void drain(ph_nats_sub *sub) {
    uint64_t queued = 0;
    while (sub->fn && sub->sub && natsSubscription_QueuedMsgs(sub->sub, &queued) == NATS_OK && queued > 0) {
        natsMsg *msg = NULL;
        natsStatus s = natsSubscription_NextMsg(&msg, sub->sub, 0);
        if (s == NATS_NO_RESPONDERS)
            msg = no_responders(sub->subject);
        if (!msg)
            return;
        sub->fn(sub->ctx, sub->tag, msg);
        ph_nats_free(msg);
    }
}

static void drain_request(ph_nats_loop *pl, int i);

static void pump(ph_nats_loop *pl) {
    pl->depth++;
    for (int i = 0; i < pl->capacity && !pl->closing; i++)
        drain_request(pl, i);
    for (ph_nats_sub *sub = pl->subs; sub && !pl->closing; sub = sub->next)
        drain(sub);
    if (pl->nc && natsConnection_IsClosed(pl->nc))
        go_down(pl);
    leave(pl);
}

static void on_read(ph_link_owner *owner) {
    pump((ph_nats_loop *)owner);
}

static void on_prepare(uv_prepare_t *handle) {
    ph_nats_loop *pl = PH_CONTAINER(handle, ph_nats_loop, prepare);
    uv_prepare_stop(handle);
    if (!pl->link)
        return;
    ph_link_write(pl->link);
    if (natsConnection_IsClosed(pl->nc))
        pump(pl);
}

static void on_wake(uv_async_t *handle) {
    ph_nats_loop *pl = PH_CONTAINER(handle, ph_nats_loop, wake);
    if (!pl->link)
        return;
    ph_link_apply(pl->link);
    pump(pl);
}

/* --- requests --- */

static bool grow(ph_nats_loop *pl) {
    int capacity = pl->capacity ? pl->capacity * 2 : 16;
    request *bigger = realloc(pl->requests, (size_t)capacity * sizeof *bigger);
    if (!bigger)
        return false;
    for (int i = pl->capacity; i < capacity; i++)
        bigger[i] = (request){.next_free = i + 1 < capacity ? i + 1 : -1};
    pl->first_free = pl->capacity;
    pl->requests = bigger;
    pl->capacity = capacity;
    return true;
}

/* Frees slot i and returns what it held. */
static request take(ph_nats_loop *pl, int i) {
    request held = pl->requests[i];
    pl->requests[i].fn = NULL;
    pl->requests[i].generation++;
    pl->requests[i].next_free = pl->first_free;
    pl->first_free = i;
    pl->in_flight--;
    return held;
}

static void answer_no_responders(ph_nats_loop *pl, int i) {
    request r = take(pl, i);
    char text[128];
    snprintf(text, sizeof text, "nobody answers on %s", r.subject);
    r.fn(r.ctx, r.tag, NULL, text, PH_UNAVAILABLE);
}

static void answer(ph_nats_loop *pl, int i, natsMsg *msg) {
    const char *dot = strrchr(natsMsg_GetSubject(msg), '.');
    if (dot && strtoul(dot + 1, NULL, 10) == pl->requests[i].generation) {
        request r = take(pl, i);
        r.fn(r.ctx, r.tag, msg, NULL, NULL);
    }
    ph_nats_free(msg);
}

static void drain_request(ph_nats_loop *pl, int i) {
    uint64_t queued = 0;
    while (pl->requests[i].fn && pl->requests[i].sub &&
           natsSubscription_QueuedMsgs(pl->requests[i].sub, &queued) == NATS_OK && queued > 0) {
        natsMsg *msg = NULL;
        natsStatus s = natsSubscription_NextMsg(&msg, pl->requests[i].sub, 0);
        if (s == NATS_OK)
            answer(pl, i, msg);
        else if (s == NATS_NO_RESPONDERS)
            answer_no_responders(pl, i);
        else
            return;
    }
}

/* Gives slot i a subscription when it has none. */
static natsStatus open_slot(ph_nats_loop *pl, int i) {
    request *r = &pl->requests[i];
    if (r->sub)
        return NATS_OK;
    r->id = pl->next_id++;
    char subject[96];
    snprintf(subject, sizeof subject, "%s.%" PRIu32 ".*", pl->inbox, r->id);
    return natsConnection_SubscribeSync(&r->sub, pl->nc, subject);
}

static void close_slot(ph_nats_loop *pl, int i) {
    natsSubscription_Destroy(pl->requests[i].sub);
    pl->requests[i].sub = NULL;
}

static void fail_all(ph_nats_loop *pl, const char *why) {
    pl->depth++;
    for (int i = 0; i < pl->capacity; i++) {
        if (!pl->requests[i].fn)
            continue;
        request r = take(pl, i);
        char text[640];
        snprintf(text, sizeof text, "%s before a reply on %s came", why, r.subject);
        r.fn(r.ctx, r.tag, NULL, text, PH_UNAVAILABLE);
    }
    leave(pl);
}

static void on_deadline(uv_timer_t *timer);

static void arm(ph_nats_loop *pl, uint64_t at_ns) {
    if (pl->armed_ns && pl->armed_ns <= at_ns)
        return;
    uint64_t now = uv_hrtime();
    pl->armed_ns = at_ns;
    uv_update_time(pl->base.loop);
    uv_timer_start(&pl->deadline, on_deadline, at_ns > now ? (at_ns - now) / 1000000 + 1 : 0, 0);
}

static void on_deadline(uv_timer_t *timer) {
    ph_nats_loop *pl = PH_CONTAINER(timer, ph_nats_loop, deadline);
    uint64_t now = uv_hrtime(), next = 0;
    pl->armed_ns = 0;
    pl->depth++;
    for (int i = 0; i < pl->capacity; i++) {
        request *waiting = &pl->requests[i];
        if (!waiting->fn)
            continue;
        if (waiting->deadline_ns > now) {
            next = !next || waiting->deadline_ns < next ? waiting->deadline_ns : next;
            continue;
        }
        close_slot(pl, i);
        request r = take(pl, i);
        char text[128];
        snprintf(text, sizeof text, "no reply on %s in time", r.subject);
        r.fn(r.ctx, r.tag, NULL, text, PH_TIMEOUT);
    }
    if (next && !pl->closing)
        arm(pl, next);
    leave(pl);
}

/* --- connection --- */

static void set_status(ph_nats_loop *pl, const char *status) {
    pl->status = status;
    pl->depth++;
    for (int i = 0; i < pl->watcher_count; i++)
        if (pl->watchers[i].fn)
            pl->watchers[i].fn(pl->watchers[i].ctx, status);
    leave(pl);
}

static natsStatus attach_sub(ph_nats_loop *pl, ph_nats_sub *sub) {
    natsStatus s = sub->queue ? natsConnection_QueueSubscribeSync(&sub->sub, pl->nc, sub->subject, sub->queue)
                              : natsConnection_SubscribeSync(&sub->sub, pl->nc, sub->subject);
    if (s == NATS_OK) /* drained after every read, so these bounds only guard against a callback that loops */
        natsSubscription_SetPendingLimits(sub->sub, -1, -1);
    return s;
}

static bool come_up(ph_nats_loop *pl, natsConnection *nc) {
    ph_link *link = pl->base.attached;
    pl->base.attached = NULL;
    if (!ph_link_start(link, nc))
        return false;
    pl->link = link;
    pl->nc = nc;
    pl->retry_ms = RETRY_MIN_MS;
    for (ph_nats_sub *sub = pl->subs; sub; sub = sub->next)
        if (sub->fn)
            attach_sub(pl, sub);
    return true;
}

static void drop_link(ph_nats_loop *pl) {
    for (ph_nats_sub *sub = pl->subs; sub; sub = sub->next) {
        natsSubscription_Destroy(sub->sub);
        sub->sub = NULL;
    }
    for (int i = 0; i < pl->capacity; i++)
        close_slot(pl, i);
    if (pl->link)
        ph_link_close(pl->link);
    pl->link = NULL;
    pl->nc = NULL;
}

static void connect_in_thread(uv_work_t *work) {
    ph_nats_loop *pl = PH_CONTAINER(work, ph_nats_loop, work);
    pl->new_nc = NULL;
    natsConnection_Connect(&pl->new_nc, pl->opts);
    nats_ReleaseThreadMemory();
}

static void on_retry(uv_timer_t *timer);

static void retry_later(ph_nats_loop *pl) {
    uint64_t jitter = uv_hrtime() % (pl->retry_ms / 4 + 1);
    uv_timer_start(&pl->retry, on_retry, pl->retry_ms + jitter, 0);
    pl->retry_ms = pl->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : pl->retry_ms * 2;
}

static void on_connected(uv_work_t *work, int cancelled) {
    ph_nats_loop *pl = PH_CONTAINER(work, ph_nats_loop, work);
    natsConnection *nc = cancelled ? NULL : pl->new_nc;
    pl->connecting = false;
    ph_foreign_request(-1);
    if (nc && !come_up(pl, nc))
        nc = NULL;
    if (pl->closing) {
        drop_link(pl);
        finish_close(pl);
    } else if (nc) {
        pl->reconnects++;
        set_status(pl, "connected");
    } else {
        retry_later(pl);
    }
}

static void on_retry(uv_timer_t *timer) {
    ph_nats_loop *pl = PH_CONTAINER(timer, ph_nats_loop, retry);
    pl->connecting = uv_queue_work(pl->base.loop, &pl->work, connect_in_thread, on_connected) == 0;
    if (pl->connecting)
        ph_foreign_request(1);
    else
        retry_later(pl);
}

static void go_down(ph_nats_loop *pl) {
    drop_link(pl);
    pl->status = "reconnecting";
    retry_later(pl);
    pl->depth++;
    fail_all(pl, "the connection to NATS broke");
    if (!pl->closing)
        set_status(pl, "reconnecting");
    leave(pl);
}

static void init_handles(ph_nats_loop *pl, uv_loop_t *loop) {
    uv_async_init(loop, &pl->wake, on_wake);
    uv_prepare_init(loop, &pl->prepare);
    uv_timer_init(loop, &pl->deadline);
    uv_timer_init(loop, &pl->retry);
    uv_handle_t *handles[] = {(uv_handle_t *)&pl->wake, (uv_handle_t *)&pl->prepare, (uv_handle_t *)&pl->deadline,
                              (uv_handle_t *)&pl->retry};
    for (int i = 0; i < 4; i++)
        ph_foreign_mark(handles[i]);
    /* the socket and the retry timer keep the loop alive; these do not */
    for (int i = 0; i < 3; i++)
        uv_unref(handles[i]);
    pl->open_handles = 4;
    pl->base = (ph_link_owner){.loop = loop,
                               .thread = pthread_self(),
                               .wake = &pl->wake,
                               .prepare = &pl->prepare,
                               .on_prepare = on_prepare,
                               .on_read = on_read};
}

static void free_loop(ph_nats_loop *pl) {
    natsOptions_Destroy(pl->opts);
    free(pl->requests);
    free(pl->watchers);
    free(pl);
}

static void on_handle_closed(uv_handle_t *handle, ph_nats_loop *pl) {
    (void)handle;
    if (--pl->open_handles == 0)
        free_loop(pl);
}

static void closed_wake(uv_handle_t *h) {
    on_handle_closed(h, PH_CONTAINER(h, ph_nats_loop, wake));
}

static void closed_prepare(uv_handle_t *h) {
    on_handle_closed(h, PH_CONTAINER(h, ph_nats_loop, prepare));
}

static void closed_deadline(uv_handle_t *h) {
    on_handle_closed(h, PH_CONTAINER(h, ph_nats_loop, deadline));
}

static void closed_retry(uv_handle_t *h) {
    on_handle_closed(h, PH_CONTAINER(h, ph_nats_loop, retry));
}

/* The end of ph_nats_loop_close, once no callback and no connection attempt is under way. */
static void finish_close(ph_nats_loop *pl) {
    if (pl->connecting || uv_is_closing((uv_handle_t *)&pl->wake))
        return;
    pl->dirty = true;
    for (ph_nats_sub *sub = pl->subs; sub; sub = sub->next)
        sub->fn = NULL;
    sweep(pl);
    uv_close((uv_handle_t *)&pl->wake, closed_wake);
    uv_close((uv_handle_t *)&pl->prepare, closed_prepare);
    uv_close((uv_handle_t *)&pl->deadline, closed_deadline);
    uv_close((uv_handle_t *)&pl->retry, closed_retry);
}

static bool make_inbox(ph_nats_loop *pl) {
    natsInbox *inbox = NULL;
    if (natsInbox_Create(&inbox) != NATS_OK)
        return false;
    snprintf(pl->inbox, sizeof pl->inbox, "%s", inbox);
    natsInbox_Destroy(inbox);
    return true;
}

const char *ph_nats_loop_connect(ph_nats_loop **out, uv_loop_t *loop, const ph_nats_options *options, ph_error *err) {
    ph_nats_loop *pl = calloc(1, sizeof *pl);
    if (!pl)
        return out_of_memory(err);
    const char *code = ph_nats_make_options(&pl->opts, options, err);
    if (code) {
        free(pl);
        return code;
    }
    pl->first_free = -1;
    pl->retry_ms = RETRY_MIN_MS;
    pl->status = "connected";
    ph_nats_redact(options->url && *options->url ? options->url : "nats://127.0.0.1:4222", pl->url, sizeof pl->url);
    init_handles(pl, loop);
    natsConnection *nc = NULL;
    natsStatus s = natsOptions_SetAllowReconnect(pl->opts, false); /* we do it: nats.h says why */
    if (s == NATS_OK)
        s = ph_link_set_options(pl->opts, &pl->base);
    if (s == NATS_OK)
        s = natsConnection_Connect(&nc, pl->opts);
    if (s != NATS_OK) {
        char what[600];
        snprintf(what, sizeof what, "cannot connect to NATS at %s", pl->url);
        code = ph_nats_fail(s, err, what);
        ph_nats_loop_close(pl);
        return code;
    }
    if (!come_up(pl, nc) || !make_inbox(pl)) {
        ph_nats_loop_close(pl);
        return out_of_memory(err);
    }
    *out = pl;
    return NULL;
}

void ph_nats_loop_close(ph_nats_loop *pl) {
    if (!pl || pl->closing)
        return;
    pl->depth++;
    pl->closing = true;
    pl->status = "closed";
    drop_link(pl);
    uv_timer_stop(&pl->retry);
    uv_timer_stop(&pl->deadline);
    fail_all(pl, "the connection was closed");
    set_status(pl, "closed");
    leave(pl);
}

/* --- what callers use --- */

const char *ph_nats_loop_status(const ph_nats_loop *pl) {
    return pl->status;
}

static const char *not_connected(const ph_nats_loop *pl, ph_error *err) {
    snprintf(err->text, sizeof err->text, "not connected to NATS (%s): %s", pl->url, pl->status);
    return PH_UNAVAILABLE;
}

const char *ph_nats_loop_publish(ph_nats_loop *pl, const ph_nats_out *out, ph_error *err) {
    if (!pl->nc)
        return not_connected(pl, err);
    natsStatus s = ph_nats_send(pl->nc, out);
    if (s != NATS_OK) {
        char what[320];
        snprintf(what, sizeof what, "cannot send %zu bytes to %.200s", out->len, out->subject);
        return ph_nats_fail(s, err, what);
    }
    if (natsConnection_Buffered(pl->nc) > WRITE_NOW_BYTES)
        ph_link_write(pl->link);
    return NULL;
}

const char *ph_nats_loop_request(ph_nats_loop *pl, const ph_nats_out *out, int64_t timeout_ms, ph_nats_reply_fn fn,
                                 void *ctx, intptr_t tag, ph_error *err) {
    if (!pl->nc)
        return not_connected(pl, err);
    if (pl->first_free < 0 && !grow(pl))
        return out_of_memory(err);
    int i = pl->first_free;
    natsStatus s = open_slot(pl, i);
    if (s != NATS_OK)
        return ph_nats_fail(s, err, "cannot open an inbox");
    request *r = &pl->requests[i];
    char reply[96];
    snprintf(reply, sizeof reply, "%s.%" PRIu32 ".%" PRIu32, pl->inbox, r->id, r->generation);
    ph_nats_out sent = *out;
    sent.reply = reply;
    const char *code = ph_nats_loop_publish(pl, &sent, err);
    if (code)
        return code;
    pl->first_free = r->next_free;
    pl->in_flight++;
    r->deadline_ns = uv_hrtime() + (uint64_t)timeout_ms * 1000000;
    r->fn = fn;
    r->ctx = ctx;
    r->tag = tag;
    snprintf(r->subject, sizeof r->subject, "%s", out->subject);
    arm(pl, r->deadline_ns);
    return NULL;
}

const char *ph_nats_loop_subscribe(ph_nats_sub **out, ph_nats_loop *pl, const char *subject, const char *queue,
                                   ph_nats_msg_fn fn, void *ctx, intptr_t tag, ph_error *err) {
    ph_nats_sub *sub = calloc(1, sizeof *sub);
    if (!sub)
        return out_of_memory(err);
    *sub = (ph_nats_sub){.pl = pl, .fn = fn, .ctx = ctx, .tag = tag};
    sub->subject = strdup(subject);
    sub->queue = queue ? strdup(queue) : NULL;
    natsStatus s = sub->subject && (!queue || sub->queue) ? NATS_OK : NATS_NO_MEMORY;
    if (s == NATS_OK && pl->nc)
        s = attach_sub(pl, sub);
    if (s != NATS_OK) {
        char what[320];
        snprintf(what, sizeof what, "cannot subscribe to %.200s", subject);
        free_sub(sub);
        return ph_nats_fail(s, err, what);
    }
    sub->next = pl->subs;
    pl->subs = sub;
    *out = sub;
    return NULL;
}

void ph_nats_sub_close(ph_nats_sub *sub) {
    if (!sub)
        return;
    natsSubscription_Destroy(sub->sub); /* sends UNSUB */
    sub->sub = NULL;
    sub->fn = NULL;
    sub->pl->dirty = true;
    sweep(sub->pl);
}

const char *ph_nats_loop_on_status(ph_nats_loop *pl, ph_nats_status_fn fn, void *ctx, ph_error *err) {
    int place = -1;
    for (int i = 0; i < pl->watcher_count; i++)
        if (pl->watchers[i].ctx == ctx || (!pl->watchers[i].fn && place < 0))
            place = i;
    if (place >= 0) {
        pl->watchers[place] = (watcher){fn, ctx};
        return NULL;
    }
    watcher *more = realloc(pl->watchers, (size_t)(pl->watcher_count + 1) * sizeof *more);
    if (!more)
        return out_of_memory(err);
    pl->watchers = more;
    more[pl->watcher_count++] = (watcher){fn, ctx};
    return NULL;
}

void ph_nats_loop_flush(ph_nats_loop *pl) {
    if (pl->link)
        ph_link_write(pl->link);
}

void ph_nats_loop_drop(ph_nats_loop *pl, const void *ctx) {
    for (int i = 0; i < pl->capacity; i++)
        if (pl->requests[i].fn && pl->requests[i].ctx == ctx) {
            close_slot(pl, i);
            take(pl, i);
        }
    for (int i = 0; i < pl->watcher_count; i++)
        if (pl->watchers[i].ctx == ctx)
            pl->watchers[i] = (watcher){0};
    for (ph_nats_sub *sub = pl->subs; sub; sub = sub->next)
        if (sub->ctx == ctx) {
            natsSubscription_Destroy(sub->sub);
            sub->sub = NULL;
            sub->fn = NULL;
            pl->dirty = true;
        }
    sweep(pl);
}

void ph_nats_loop_info(ph_nats_loop *pl, ph_nats_info *info) {
    *info = (ph_nats_info){.reconnects = pl->reconnects};
    snprintf(info->url, sizeof info->url, "%.255s", pl->url);
    if (!pl->nc)
        return;
    char url[512] = "";
    if (natsConnection_GetConnectedUrl(pl->nc, url, sizeof url) == NATS_OK && *url)
        ph_nats_redact(url, info->url, sizeof info->url);
    natsConnection_GetConnectedServerId(pl->nc, info->server_id, sizeof info->server_id);
    info->max_payload = natsConnection_GetMaxPayload(pl->nc);
}
