/* The requests in flight of a loop-mode connection (natsloop.c, whose thread alone calls this).
 *
 * Each has a place with a subscription of its own, kept for the next request: the public way to read a subscription turns
 * a "no responders" message into a status without a subject, so the subscription is what tells whose it is. The reply
 * subject's last token is the place's generation, against answers that come twice; after a timeout the place gets a new
 * subscription.
 * Callbacks may call anything here: places are looked up anew after each. */
#ifndef PH_NATSREQUESTS_H
#define PH_NATSREQUESTS_H

#include "nats.h"

struct ph_nats_request;

typedef struct ph_nats_requests {
    uv_timer_t deadline; /* initialised here, closed by whoever owns this */
    uv_timer_cb on_deadline;
    char inbox[64];
    uint32_t next_id; /* of a place's subscription */
    struct ph_nats_request *places;
    int capacity, first_free;
    uint64_t armed_ns; /* when the timer fires; 0 = not armed */
    bool is_closed;
} ph_nats_requests;

/* on_deadline is to call ph_nats_requests_expire. */
void ph_nats_requests_init(ph_nats_requests *r, uv_loop_t *loop, uv_timer_cb on_deadline);
bool ph_nats_requests_open(ph_nats_requests *r); /* makes the inbox; false without memory */
void ph_nats_requests_close(ph_nats_requests *r); /* no deadline comes any more */
void ph_nats_requests_free(ph_nats_requests *r);

/* Finds a place on connection nc, and the subject where its answer is to come. NULL, or a code and err. */
const char *ph_nats_requests_prepare(ph_nats_requests *r, natsConnection *nc, int *place, char *reply, size_t room,
                                     ph_error *err);
/* The request was sent: fn(ctx, tag, ...) is called once, unless it is dropped. */
void ph_nats_requests_begin(ph_nats_requests *r, int place, const char *subject, int64_t timeout_ms, ph_nats_reply_fn fn,
                            void *ctx, intptr_t tag);

void ph_nats_requests_drain(ph_nats_requests *r);                 /* hands over what has come */
void ph_nats_requests_expire(ph_nats_requests *r);                /* ends those whose time is over */
void ph_nats_requests_fail(ph_nats_requests *r, const char *why); /* ends all: "unavailable" */
void ph_nats_requests_detach(ph_nats_requests *r);                /* the connection goes: no place has a subscription */
void ph_nats_requests_drop(ph_nats_requests *r, const void *ctx); /* forgets those of ctx, without a call */

#endif
