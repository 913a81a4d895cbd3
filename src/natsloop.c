/* Loop mode; see nats.h.
 *
 * Callbacks may call anything here, ph_nats_loop_close included, and may run a nested turn of the loop; so places
 * are looked up anew after each call and nothing is freed while `depth` > 0. */
#include "nats.h"
#include "natslink.h"
#include "natsrequests.h"
#include "foreign.h"
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
    ph_nats_requests requests;
    watcher *watchers;
    int watcher_count;
    uv_async_t wake;
    uv_prepare_t prepare;
    uv_timer_t retry;
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

static void pump(ph_nats_loop *pl) {
    pl->depth++;
    ph_nats_requests_drain(&pl->requests);
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

static void on_deadline(uv_timer_t *timer) {
    ph_nats_loop *pl = PH_CONTAINER(timer, ph_nats_loop, requests.deadline);
    pl->depth++;
    ph_nats_requests_expire(&pl->requests);
    leave(pl);
}

static void fail_all(ph_nats_loop *pl, const char *why) {
    pl->depth++;
    ph_nats_requests_fail(&pl->requests, why);
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
    ph_nats_requests_detach(&pl->requests);
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
    ph_nats_requests_init(&pl->requests, loop, on_deadline);
    uv_timer_init(loop, &pl->retry);
    uv_handle_t *handles[] = {(uv_handle_t *)&pl->wake, (uv_handle_t *)&pl->prepare,
                              (uv_handle_t *)&pl->requests.deadline, (uv_handle_t *)&pl->retry};
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
    ph_nats_requests_free(&pl->requests);
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
    on_handle_closed(h, PH_CONTAINER(h, ph_nats_loop, requests.deadline));
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
    uv_close((uv_handle_t *)&pl->requests.deadline, closed_deadline);
    uv_close((uv_handle_t *)&pl->retry, closed_retry);
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
    if (!come_up(pl, nc) || !ph_nats_requests_open(&pl->requests)) {
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
    ph_nats_requests_close(&pl->requests);
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
    char reply[96];
    int place = 0;
    const char *code = ph_nats_requests_prepare(&pl->requests, pl->nc, &place, reply, sizeof reply, err);
    if (code)
        return code;
    ph_nats_out sent = *out;
    sent.reply = reply;
    code = ph_nats_loop_publish(pl, &sent, err);
    if (!code)
        ph_nats_requests_begin(&pl->requests, place, out->subject, timeout_ms, fn, ctx, tag);
    return code;
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
    ph_nats_requests_drop(&pl->requests, ctx);
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
