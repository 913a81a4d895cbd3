/* Framed messages between a supervisor and its slot processes, over one end of a socketpair on a uv loop.
 * A frame has a type (one letter), a head (JSON text) and a body (any bytes, often none): the body travels as it
 * is, so that a supervisor passes a job on without reading it.
 * Threads: the loop's only. */
#ifndef PH_CHANNEL_H
#define PH_CHANNEL_H

#include "host.h"
#include <uv.h>

typedef struct ph_channel ph_channel;

typedef struct ph_frame {
    char type;
    const char *head; /* not terminated; valid during the callback only, like body */
    size_t head_len;
    const char *body;
    size_t body_len;
} ph_frame;

typedef struct ph_channel_handlers {
    void (*on_frame)(void *ctx, const ph_frame *frame);
    void (*on_end)(void *ctx, const char *fault); /* once: the peer has closed (NULL), or sent what is no frame */
} ph_channel_handlers;

/* Takes fd (a connected stream socket): it is closed with the channel. NULL and err on failure (fd stays open). */
ph_channel *ph_channel_open(uv_loop_t *loop, int fd, ph_channel_handlers handlers, void *ctx, ph_error *err);

/* Sends a frame; what the socket does not take at once is kept and sent later. False when the peer is gone. */
bool ph_channel_send(ph_channel *ch, char type, const char *head, size_t head_len, const char *body, size_t body_len);

/* Reads all that has arrived, without waiting, and delivers it: before a dead peer is reported, say. */
void ph_channel_drain(ph_channel *ch);

/* Waits until everything that was sent has left this process, or the peer is gone. */
void ph_channel_flush(ph_channel *ch);

/* Closes the socket at once; the memory is freed when the loop has closed the handle. No callback comes any more.
 * May be called from a callback. NULL is fine. */
void ph_channel_close(ph_channel *ch);

#endif
