/* See natsask.h. One request at a time. An inbox ends with the first request that stays without a reply: "no responders"
 * reaches us without a subject, and a late one would pass for the answer to the next request. */
#include "natsask.h"
#include "clocks.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_MS 50 /* so often who waits looks whether the connection is still the one that was written to */

static natsStatus open_inbox(ph_nats_asker *a, natsConnection *nc) {
    if (a->replies)
        return NATS_OK;
    natsInbox *unique = NULL;
    natsStatus s = natsInbox_Create(&unique);
    if (s != NATS_OK)
        return s;
    char all[sizeof a->inbox + 2];
    snprintf(a->inbox, sizeof a->inbox, "%s", unique);
    natsInbox_Destroy(unique);
    snprintf(all, sizeof all, "%s.*", a->inbox);
    a->nc = nc;
    return natsConnection_SubscribeSync(&a->replies, nc, all);
}

static void close_inbox(ph_nats_asker *a) {
    ph_nats_unsubscribe(a->nc, a->replies);
    a->replies = NULL;
}

void ph_nats_asker_close(ph_nats_asker *a) {
    close_inbox(a);
    natsStatistics_Destroy(a->stats);
    a->stats = NULL;
}

/* How often the connection was made anew. Asked, not told: nats.c calls back on a thread that may outlive us. */
static natsStatus count_reconnects(ph_nats_asker *a, natsConnection *nc, uint64_t *count) {
    natsStatus s = a->stats ? NATS_OK : natsStatistics_Create(&a->stats);
    if (s == NATS_OK)
        s = natsConnection_GetStats(nc, a->stats);
    if (s == NATS_OK)
        s = natsStatistics_GetCounts(a->stats, NULL, NULL, NULL, NULL, count);
    return s;
}

/* Whether msg answers the last request, not an earlier one a second time. What JetStream gives to a pull keeps the subject
 * that it was published to. */
static bool is_answer(const ph_nats_asker *a, const natsMsg *msg) {
    const char *subject = natsMsg_GetSubject(msg), *dot = strrchr(subject, '.');
    bool is_ours = strncmp(subject, a->inbox, strlen(a->inbox)) == 0;
    return !is_ours || (dot && strtoul(dot + 1, NULL, 10) == a->asked);
}

/* NATS_OK as long as the connection is the one that was written to. */
static natsStatus check_connection(ph_nats_asker *a, natsConnection *nc, uint64_t connection) {
    uint64_t count = connection;
    natsStatus s = count_reconnects(a, nc, &count);
    if (s == NATS_OK && (count != connection || natsConnection_Status(nc) != NATS_CONN_STATUS_CONNECTED))
        s = NATS_CONNECTION_DISCONNECTED;
    return s;
}

static natsStatus await_reply(ph_nats_asker *a, natsConnection *nc, uint64_t connection, int64_t timeout_ms,
                              natsMsg **reply) {
    int64_t deadline = ph_monotonic_ms() + timeout_ms, left = timeout_ms;
    for (; left > 0; left = deadline - ph_monotonic_ms()) {
        natsMsg *msg = NULL;
        natsStatus s = natsSubscription_NextMsg(&msg, a->replies, left < SLICE_MS ? left : SLICE_MS);
        if (s == NATS_OK && is_answer(a, msg)) {
            *reply = msg;
            return NATS_OK;
        }
        ph_nats_free(msg);
        if (s == NATS_TIMEOUT)
            s = check_connection(a, nc, connection);
        if (s != NATS_OK)
            return s;
    }
    return NATS_TIMEOUT;
}

natsStatus ph_nats_ask(ph_nats_asker *a, natsConnection *nc, ph_nats_out *out, int64_t timeout_ms, natsMsg **reply) {
    char subject[sizeof a->inbox + 12];
    uint64_t connection = 0;
    natsStatus s = open_inbox(a, nc);
    if (s == NATS_OK)
        s = count_reconnects(a, nc, &connection);
    if (s != NATS_OK)
        return s;
    snprintf(subject, sizeof subject, "%s.%u", a->inbox, (unsigned)++a->asked);
    out->reply = subject;
    s = ph_nats_send(nc, out);
    if (s == NATS_OK)
        s = await_reply(a, nc, connection, timeout_ms, reply);
    out->reply = NULL;
    if (s != NATS_OK && s != NATS_NO_RESPONDERS)
        close_inbox(a);
    return s;
}
