/* An answer that is a stream of server-sent events. Frames are collected, then sent in one write. */
#ifndef PH_SSE_H
#define PH_SSE_H

#include "httpd.h"

typedef struct ph_sse {
    ph_exchange *x;
    bool chunked;
    bool failed;      /* out of memory, or the client is gone */
    char *buf;        /* owned */
    size_t len, room; /* len: of what is collected */
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
/* Ends the answer, frees what s holds. */
void ph_sse_end(ph_sse *s);

#endif
