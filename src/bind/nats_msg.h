/* Messages between Lua and nats.c, for both modes. */
#ifndef PH_BIND_NATS_MSG_H
#define PH_BIND_NATS_MSG_H

#include "nats.h"

#define LB_NATS_HEADERS 32

typedef struct lb_nats_out {
    ph_nats_out out;
    ph_nats_header headers[LB_NATS_HEADERS];
} lb_nats_out;

/* Reads a message to send from the stack: subject, data (string or nil) and, unless 0, the indexes of the reply
 * subject and of the headers (a table name -> string, or nil). What it points to stays on the stack. Raises for
 * wrong types. Returns 0, or 3 after pushing nil, message, "invalid". */
int lb_nats_read(lua_State *L, lb_nats_out *o, int subject, int data, int reply, int headers);

/* A timeout argument in milliseconds, 1 to 3,600,000; raises otherwise. */
int64_t lb_nats_timeout(lua_State *L, int arg, int64_t fallback);

/* Pushes { subject, data, reply|nil, headers|nil }; headers: name -> its first value. May raise (memory). */
void lb_nats_push(lua_State *L, natsMsg *msg);

#endif
