/* NATS for the host, libnats >= 3.4.1: one connection in one of two modes.
 *
 * Blocking mode: a natsConnection of nats.c with its own threads. Any thread of ours may use it. The gateway's
 *   main VM shares one with the pool's VMs and with C (ph_nats_share, ph_nats_shared).
 * Loop mode (ph_nats_loop): the socket is driven by a uv loop on the loop's thread; nothing here blocks and no
 *   thread hop lies between the socket and the callback. What is published within one turn of the loop is
 *   written in one go just before the loop waits. We reconnect ourselves, with a fresh natsConnection each
 *   time: in event-loop mode nats.c 3.4.1 keeps its parser over a reconnect, so that a message cut off by a
 *   dying server would swallow the new server's bytes.
 *
 * Both reconnect for ever, and neither keeps what is sent while there is no connection: such a call fails at
 * once with PH_UNAVAILABLE. Functions that can fail return a code (PH_..., NULL = done) and fill err.
 */
#ifndef PH_NATS_H
#define PH_NATS_H

#include "host.h"
#include <nats/nats.h>
#include <uv.h>

typedef struct ph_nats_options {
    const char *url;           /* comma list of servers; NULL = nats://127.0.0.1:4222 */
    const char *name;          /* shown by the server's monitoring; NULL = pyoco-host */
    int64_t connect_timeout_ms; /* per server; 0 = 2000 */
    bool is_retrying;           /* no server now is no failure: it connects as soon as one is there (blocking mode) */
    int64_t ping_interval_ms;   /* 0 = 20000; a server that misses two pings counts as gone */
    const char *user, *password, *token;
    const char *creds;         /* path of a .creds file */
    const char *tls_ca, *tls_cert, *tls_key; /* paths of PEM files; any of them, or a tls:// URL, means TLS */
} ph_nats_options;

typedef struct ph_nats_header {
    const char *name, *value; /* without line breaks */
} ph_nats_header;

/* What to send; everything is borrowed for the call. */
typedef struct ph_nats_out {
    const char *subject;
    const char *reply; /* or NULL; requests set their own */
    const char *data;  /* may be NULL when len is 0 */
    size_t len;
    const ph_nats_header *headers;
    size_t header_count;
} ph_nats_out;

/* --- helpers of both modes (nats.c) --- */

/* Makes natsOptions as every connection of ours has them. The caller destroys *out. */
const char *ph_nats_make_options(natsOptions **out, const ph_nats_options *options, ph_error *err);
/* The code of a nats.c status; err gets "what: reason". Call it before any other nats.c call of this thread. */
const char *ph_nats_fail(natsStatus s, ph_error *err, const char *what);
/* The URLs of a list without user names and passwords, for messages. Writes at most n bytes. */
void ph_nats_redact(const char *url, char *out, size_t n);
/* NULL, or what is wrong with a subject to publish to (spaces, empty tokens, line breaks). */
const char *ph_nats_bad_subject(const char *subject, size_t len);

/* Sends out, with headers when it has any. */
natsStatus ph_nats_send(natsConnection *nc, const ph_nats_out *out);
/* Frees a message, with others later: each natsMsg_Destroy wakes a thread of nats.c. NULL is fine. Any thread. */
void ph_nats_free(natsMsg *msg);
/* A natsMsg of out, for calls that want one. The caller destroys *msg. */
natsStatus ph_nats_message(natsMsg **msg, const ph_nats_out *out);

/* --- blocking mode (nats.c) --- */
typedef struct ph_nats_conn ph_nats_conn; /* counted; the natsConnection closes with the last reference */

const char *ph_nats_connect(ph_nats_conn **out, const ph_nats_options *options, ph_error *err);
ph_nats_conn *ph_nats_retain(ph_nats_conn *conn);
void ph_nats_release(ph_nats_conn *conn); /* NULL is fine */
void ph_nats_close(ph_nats_conn *conn);   /* closes it for everyone who holds it; the memory stays until released */
natsConnection *ph_nats_raw(const ph_nats_conn *conn); /* borrowed, valid as long as the reference */
const char *ph_nats_url(const ph_nats_conn *conn);     /* without passwords */

/* Ends a subscription on nc, a blocking-mode connection of which the caller holds a reference: nothing comes any more; its
 * memory goes once nats.c's reader cannot be at it. Never call natsSubscription_Destroy on such a one. NULL is fine. */
void ph_nats_unsubscribe(natsConnection *nc, natsSubscription *sub);
/* Frees what was ended on nc, whose reader is gone (ph_nats_release calls it). */
void ph_nats_free_ended(natsConnection *nc);

/* The process-wide connection: set by the main VM (NULL takes it back), borrowed by pool VMs and C. */
void ph_nats_share(ph_nats_conn *conn);
ph_nats_conn *ph_nats_shared(void);  /* a new reference (release it), or NULL when none is shared */

/* --- loop mode (natsloop.c); everything on the loop's thread --- */
typedef struct ph_nats_loop ph_nats_loop;
typedef struct ph_nats_sub ph_nats_sub;

/* ctx and tag are the caller's; ctx also names the owner for ph_nats_loop_drop. msg is borrowed for the call. */
typedef void (*ph_nats_msg_fn)(void *ctx, intptr_t tag, natsMsg *msg);
/* Exactly one call for each request that was accepted: msg, or NULL with message and code. Never from within
 * ph_nats_loop_request itself. */
typedef void (*ph_nats_reply_fn)(void *ctx, intptr_t tag, natsMsg *msg, const char *message, const char *code);
typedef void (*ph_nats_status_fn)(void *ctx, const char *status); /* "connected" | "reconnecting" | "closed" */

/* Connects (waits at most connect_timeout_ms per server) and starts polling on the loop. */
const char *ph_nats_loop_connect(ph_nats_loop **out, uv_loop_t *loop, const ph_nats_options *options, ph_error *err);
/* Ends it: pending requests are answered with PH_UNAVAILABLE, handles close; the loop has to turn once more
 * (uv_run) before the memory is freed. The pointer is dead for the caller. NULL is fine. */
void ph_nats_loop_close(ph_nats_loop *pl);
const char *ph_nats_loop_status(const ph_nats_loop *pl);
const char *ph_nats_loop_publish(ph_nats_loop *pl, const ph_nats_out *out, ph_error *err);
const char *ph_nats_loop_request(ph_nats_loop *pl, const ph_nats_out *out, int64_t timeout_ms, ph_nats_reply_fn fn,
                                 void *ctx, intptr_t tag, ph_error *err);
/* Subscriptions survive reconnects. May be made while there is no connection. queue may be NULL. */
const char *ph_nats_loop_subscribe(ph_nats_sub **out, ph_nats_loop *pl, const char *subject, const char *queue,
                                   ph_nats_msg_fn fn, void *ctx, intptr_t tag, ph_error *err);
void ph_nats_sub_close(ph_nats_sub *sub);
/* One watcher per ctx; fn NULL removes it. */
const char *ph_nats_loop_on_status(ph_nats_loop *pl, ph_nats_status_fn fn, void *ctx, ph_error *err);
/* Writes out now what is buffered, as far as the socket takes it. */
void ph_nats_loop_flush(ph_nats_loop *pl);
/* Forgets the requests, subscriptions and watcher of ctx; none of its callbacks is called any more. */
void ph_nats_loop_drop(ph_nats_loop *pl, const void *ctx);
typedef struct ph_nats_info {
    char url[256];       /* of the server now connected to, or of the list; no passwords */
    char server_id[64];  /* empty while not connected */
    int64_t max_payload; /* bytes; 0 while unknown */
    uint64_t reconnects;
} ph_nats_info;
void ph_nats_loop_info(ph_nats_loop *pl, ph_nats_info *info);

/* --- Lua side (bind/) --- */
/* Pushes a loop-mode connection object. Borrowed (owned false): close() and the end of the VM forget the VM's
 * callbacks and leave pl open. Lua: require "host.nats".borrow(lightuserdata). */
int ph_nats_push_loop(lua_State *L, ph_nats_loop *pl, bool owned);

#endif
