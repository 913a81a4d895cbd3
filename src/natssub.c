/* Ending subscriptions of blocking-mode connections; see nats.h.
 *
 * nats.c before 3.6 looks a message's subscription up under one lock and delivers to it under another
 * (nats-io/nats.c#637): a subscription that another thread frees in between makes its reader lock freed memory, and the
 * process aborts without a word. So what is ended is unsubscribed at once, and freed when the reader has certainly let
 * go: when it counts a later message, or when its connection has ended. */
#include "nats.h"
#include <pthread.h>
#include <stdlib.h>

typedef struct ended {
    struct ended *next;
    natsConnection *nc; /* the subscription keeps it */
    natsSubscription *sub;
    uint64_t in_msgs; /* of the connection when the subscription was out of the reader's table */
} ended;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ended *all;

/* Messages that the connection's reader has begun to deliver. */
static uint64_t count_in(natsConnection *nc) {
    natsStatistics *stats = NULL;
    uint64_t in_msgs = 0;
    if (natsStatistics_Create(&stats) == NATS_OK && natsConnection_GetStats(nc, stats) == NATS_OK)
        natsStatistics_GetCounts(stats, &in_msgs, NULL, NULL, NULL, NULL);
    natsStatistics_Destroy(stats);
    return in_msgs;
}

/* Frees what was ended on nc before the reader counted in_msgs. */
static void free_ended(natsConnection *nc, uint64_t in_msgs) {
    ended *done = NULL;
    pthread_mutex_lock(&lock);
    for (ended **at = &all; *at;) {
        ended *e = *at;
        if (e->nc == nc && e->in_msgs < in_msgs) {
            *at = e->next;
            e->next = done;
            done = e;
        } else {
            at = &e->next;
        }
    }
    pthread_mutex_unlock(&lock);
    while (done) {
        ended *next = done->next;
        natsSubscription_Destroy(done->sub);
        free(done);
        done = next;
    }
}

void ph_nats_unsubscribe(natsConnection *nc, natsSubscription *sub) {
    if (!sub)
        return;
    natsSubscription_Unsubscribe(sub);
    uint64_t in_msgs = count_in(nc);
    free_ended(nc, in_msgs);
    ended *e = malloc(sizeof *e);
    if (!e)
        return; /* its memory is lost: better than freed too early */
    *e = (ended){.nc = nc, .sub = sub, .in_msgs = in_msgs};
    pthread_mutex_lock(&lock);
    e->next = all;
    all = e;
    pthread_mutex_unlock(&lock);
}

void ph_nats_free_ended(natsConnection *nc) {
    free_ended(nc, UINT64_MAX);
}
