/* Requests of one thread on a blocking-mode connection. natsConnection_Request has a thread of its own between nats.c's
 * reader and who waits: two changes of thread for each reply. Here the reader wakes who waits. */
#ifndef PH_NATSASK_H
#define PH_NATSASK_H

#include "nats.h"

/* All zero to begin with. Of one thread and one connection; close it before that is released. */
typedef struct ph_nats_asker {
    natsSubscription *replies; /* NULL until the first request, and after one that stayed without a reply */
    natsConnection *nc;        /* where they come from */
    char inbox[64];            /* its subject, without the last token */
    uint32_t asked;            /* number of the last request: the last token of its reply */
    natsStatistics *stats;
} ph_nats_asker;

/* Sends out (its reply is set) and waits for the reply, which the caller frees. NATS_TIMEOUT; NATS_NO_RESPONDERS;
 * NATS_CONNECTION_DISCONNECTED when the connection was lost meanwhile, noticed within 50 ms: nobody knows then whether
 * the request was served. */
natsStatus ph_nats_ask(ph_nats_asker *a, natsConnection *nc, ph_nats_out *out, int64_t timeout_ms, natsMsg **reply);
void ph_nats_asker_close(ph_nats_asker *a);

#endif
