/* The few JetStream API calls that C makes itself (tail.c). Any thread. */
#ifndef PH_JSAPI_H
#define PH_JSAPI_H

#include "host.h"
#include "natsask.h"
#include <cjson/cJSON.h>
#include <nats/nats.h>

/* One request to $JS.API.<subject>, by an asker of this thread: what nats.c's own requests are answered through is freed
 * under its reader when the connection is closed meanwhile (see natssub.c). Returns NULL and *answer (the caller deletes
 * it), or a code and err. */
const char *ph_js_call(ph_nats_asker *asker, natsConnection *nc, const char *subject, const char *body,
                       int64_t timeout_ms, cJSON **answer, ph_error *err);
/* Unix nanoseconds of an RFC 3339 time in UTC; 0 when it is none. */
int64_t ph_js_time(const char *text);
/* A number member as uint64; 0 when missing. */
uint64_t ph_js_number(const cJSON *object, const char *name);
/* A string member, or "". */
const char *ph_js_string(const cJSON *object, const char *name);

typedef struct ph_js_meta {
    uint64_t stream_seq, consumer_seq, pending;
    int64_t time_ns;
} ph_js_meta;

/* Reads a delivered message's acknowledgement subject. False when it is none. */
bool ph_js_parse_reply(const char *reply, ph_js_meta *meta);

#endif
