/* See natsrequests.h. */
#include "natsrequests.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct ph_nats_request {
    natsSubscription *sub; /* on <inbox>.<id>.*; NULL until needed */
    uint32_t id;
    uint32_t generation; /* counts the place's requests; the reply subject's last token */
    int next_free;
    uint64_t deadline_ns;
    ph_nats_reply_fn fn; /* NULL when the place is free */
    void *ctx;
    intptr_t tag;
    char subject[64]; /* for messages; may be cut */
} request;

static const char *out_of_memory(ph_error *err) {
    snprintf(err->text, sizeof err->text, "out of memory");
    return PH_INTERNAL;
}

static bool grow(ph_nats_requests *r) {
    int capacity = r->capacity ? r->capacity * 2 : 16;
    request *bigger = realloc(r->places, (size_t)capacity * sizeof *bigger);
    if (!bigger)
        return false;
    for (int i = r->capacity; i < capacity; i++)
        bigger[i] = (request){.next_free = i + 1 < capacity ? i + 1 : -1};
    r->first_free = r->capacity;
    r->places = bigger;
    r->capacity = capacity;
    return true;
}

/* Frees place i and returns what it held. */
static request take(ph_nats_requests *r, int i) {
    request held = r->places[i];
    r->places[i].fn = NULL;
    r->places[i].generation++;
    r->places[i].next_free = r->first_free;
    r->first_free = i;
    return held;
}

static void close_place(ph_nats_requests *r, int i) {
    natsSubscription_Destroy(r->places[i].sub);
    r->places[i].sub = NULL;
}

/* --- what comes --- */

static void answer_no_responders(ph_nats_requests *r, int i) {
    request held = take(r, i);
    char text[128];
    snprintf(text, sizeof text, "nobody answers on %s", held.subject);
    held.fn(held.ctx, held.tag, NULL, text, PH_UNAVAILABLE);
}

static void answer(ph_nats_requests *r, int i, natsMsg *msg) {
    const char *dot = strrchr(natsMsg_GetSubject(msg), '.');
    if (dot && strtoul(dot + 1, NULL, 10) == r->places[i].generation) {
        request held = take(r, i);
        held.fn(held.ctx, held.tag, msg, NULL, NULL);
    }
    ph_nats_free(msg);
}

static void drain(ph_nats_requests *r, int i) {
    uint64_t queued = 0;
    while (r->places[i].fn && r->places[i].sub &&
           natsSubscription_QueuedMsgs(r->places[i].sub, &queued) == NATS_OK && queued > 0) {
        natsMsg *msg = NULL;
        natsStatus s = natsSubscription_NextMsg(&msg, r->places[i].sub, 0);
        if (s == NATS_OK)
            answer(r, i, msg);
        else if (s == NATS_NO_RESPONDERS)
            answer_no_responders(r, i);
        else
            return;
    }
}

void ph_nats_requests_drain(ph_nats_requests *r) {
    for (int i = 0; i < r->capacity && !r->is_closed; i++)
        drain(r, i);
}

void ph_nats_requests_fail(ph_nats_requests *r, const char *why) {
    for (int i = 0; i < r->capacity; i++) {
        if (!r->places[i].fn)
            continue;
        request held = take(r, i);
        char text[640];
        snprintf(text, sizeof text, "%s before a reply on %s came", why, held.subject);
        held.fn(held.ctx, held.tag, NULL, text, PH_UNAVAILABLE);
    }
}

/* --- deadlines --- */

static void arm(ph_nats_requests *r, uint64_t at_ns) {
    if (r->armed_ns && r->armed_ns <= at_ns)
        return;
    uint64_t now = uv_hrtime();
    r->armed_ns = at_ns;
    uv_update_time(r->deadline.loop);
    uv_timer_start(&r->deadline, r->on_deadline, at_ns > now ? (at_ns - now) / 1000000 + 1 : 0, 0);
}

void ph_nats_requests_expire(ph_nats_requests *r) {
    uint64_t now = uv_hrtime(), next = 0;
    r->armed_ns = 0;
    for (int i = 0; i < r->capacity; i++) {
        request *waiting = &r->places[i];
        if (!waiting->fn)
            continue;
        if (waiting->deadline_ns > now) {
            next = !next || waiting->deadline_ns < next ? waiting->deadline_ns : next;
            continue;
        }
        close_place(r, i);
        request held = take(r, i);
        char text[128];
        snprintf(text, sizeof text, "no reply on %s in time", held.subject);
        held.fn(held.ctx, held.tag, NULL, text, PH_TIMEOUT);
    }
    if (next && !r->is_closed)
        arm(r, next);
}

/* --- life --- */

void ph_nats_requests_init(ph_nats_requests *r, uv_loop_t *loop, uv_timer_cb on_deadline) {
    r->first_free = -1;
    r->on_deadline = on_deadline;
    uv_timer_init(loop, &r->deadline);
}

bool ph_nats_requests_open(ph_nats_requests *r) {
    natsInbox *inbox = NULL;
    if (natsInbox_Create(&inbox) != NATS_OK)
        return false;
    snprintf(r->inbox, sizeof r->inbox, "%s", inbox);
    natsInbox_Destroy(inbox);
    return true;
}

void ph_nats_requests_close(ph_nats_requests *r) {
    r->is_closed = true;
    uv_timer_stop(&r->deadline);
}

void ph_nats_requests_free(ph_nats_requests *r) {
    free(r->places);
}

void ph_nats_requests_detach(ph_nats_requests *r) {
    for (int i = 0; i < r->capacity; i++)
        close_place(r, i);
}

void ph_nats_requests_drop(ph_nats_requests *r, const void *ctx) {
    for (int i = 0; i < r->capacity; i++)
        if (r->places[i].fn && r->places[i].ctx == ctx) {
            close_place(r, i);
            take(r, i);
        }
}

/* --- a request --- */

const char *ph_nats_requests_prepare(ph_nats_requests *r, natsConnection *nc, int *place, char *reply, size_t room,
                                     ph_error *err) {
    if (r->first_free < 0 && !grow(r))
        return out_of_memory(err);
    request *free_one = &r->places[*place = r->first_free];
    if (!free_one->sub) {
        char subject[96];
        free_one->id = r->next_id++;
        snprintf(subject, sizeof subject, "%s.%" PRIu32 ".*", r->inbox, free_one->id);
        natsStatus s = natsConnection_SubscribeSync(&free_one->sub, nc, subject);
        if (s != NATS_OK)
            return ph_nats_fail(s, err, "cannot open an inbox");
    }
    snprintf(reply, room, "%s.%" PRIu32 ".%" PRIu32, r->inbox, free_one->id, free_one->generation);
    return NULL;
}

void ph_nats_requests_begin(ph_nats_requests *r, int place, const char *subject, int64_t timeout_ms, ph_nats_reply_fn fn,
                            void *ctx, intptr_t tag) {
    request *begun = &r->places[place];
    r->first_free = begun->next_free;
    begun->deadline_ns = uv_hrtime() + (uint64_t)timeout_ms * 1000000;
    begun->fn = fn;
    begun->ctx = ctx;
    begun->tag = tag;
    snprintf(begun->subject, sizeof begun->subject, "%s", subject);
    arm(r, begun->deadline_ns);
}
