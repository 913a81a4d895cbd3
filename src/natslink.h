/* One natsConnection's socket on a uv loop: what nats.c wants polled, applied on the loop's thread.
 *
 * nats.c calls attach on the connecting thread and read/write/detach with its lock held, on the loop's thread or
 * (a stale connection) on its timer thread. Each only notes what is wanted; the loop's thread applies it.
 * The socket is polled through a duplicate: nats.c may close its own from another thread, and a number reused
 * while libuv still watches it would be fatal.
 */
#ifndef PH_NATSLINK_H
#define PH_NATSLINK_H

#include "host.h"
#include <nats/nats.h>
#include <pthread.h>
#include <uv.h>

typedef struct ph_link ph_link;

/* Who owns a link, and what it wants to hear. */
typedef struct ph_link_owner {
    uv_loop_t *loop;
    pthread_t thread;       /* the loop's */
    uv_async_t *wake;       /* sent from other threads: call ph_link_apply then */
    uv_prepare_t *prepare;  /* started when there is something to write: call ph_link_write then */
    uv_prepare_cb on_prepare;
    void (*on_read)(struct ph_link_owner *owner); /* after each read of the socket */
    ph_link *attached;      /* the link made by the natsConnection_Connect under way */
} ph_link_owner;

/* Tells opts to use links of owner. */
natsStatus ph_link_set_options(natsOptions *opts, ph_link_owner *owner);
/* Starts polling, on the loop's thread, after natsConnection_Connect. Takes nc: ph_link_close destroys it. */
bool ph_link_start(ph_link *link, natsConnection *nc);
void ph_link_apply(ph_link *link);
void ph_link_write(ph_link *link); /* writes what is buffered now, and polls for the rest */
/* Stops polling and destroys the natsConnection; the link is freed when its handle is closed. */
void ph_link_close(ph_link *link);

#endif
