/* An answer that is a stream of server-sent events. Frames are collected, then sent in one write: by the connection's
 * thread (flush), or, while that sleeps, by whoever has the news (push). To wake a thousand threads for a frame each costs
 * three times what the frames do. The two never write at the same time: who pushes does so under the lock that the
 * thread sleeps on. */
#ifndef PH_SSE_H
#define PH_SSE_H

#include "httpd.h"

typedef struct ph_sse {
    ph_exchange *x;
    bool chunked;
    int socket;       /* for push; -1 = it is not known: the thread has to write */
    bool failed;      /* out of memory, or the client is gone */
    char *buf;        /* owned */
    size_t len, room; /* len: of what is collected */
    char *rest;       /* what a push had no room for: goes first; owned; NULL = nothing */
    size_t rest_len;
    double sent_at;   /* monotonic: when something was sent last */
} ph_sse;

/* Sends the head of the answer. */
void ph_sse_start(ph_sse *s, ph_exchange *x);
void ph_sse_add(ph_sse *s, const char *data, size_t len);
__attribute__((format(printf, 2, 3))) void ph_sse_addf(ph_sse *s, const char *format, ...); /* short texts */
/* Adds `"ts":<now>}` and the end of the frame. */
void ph_sse_add_end(ph_sse *s);
/* Sends what is collected. False when the client is gone: every further call says so too. */
bool ph_sse_flush(ph_sse *s);
/* Sends what is collected as far as that goes without waiting. False: the thread has to flush the rest, or to learn that
 * the client is gone. Any thread. */
bool ph_sse_push(ph_sse *s);
/* Ends the answer, frees what s holds. */
void ph_sse_end(ph_sse *s);

#endif
