/* Slot processes, seen from their supervisor: start, talk to, notice the end of, kill and reap.
 *
 * A slot is this program again (`--slot`), in a session of its own, so that a Ctrl-C meant for the supervisor does
 * not reach it. It dies with the supervisor's main thread (parent-death signal): spawn from that thread only.
 * A supervisor is a child subreaper (ph_slots_adopt): what a dead slot leaves behind is killed and reaped here. It is
 * known by its session: children that this process has started itself must be in ours, unless they were before the slot.
 * Threads: the loop's, which must be the main thread. */
#ifndef PH_SLOTS_H
#define PH_SLOTS_H

#include "channel.h"

/* What a slot process finds open beside the standard three: its socket, and memory shared with us (deadline.h). */
enum { PH_SLOT_FD = 3, PH_SLOT_DEADLINE_FD = 4 };

typedef struct ph_slot ph_slot;

typedef struct ph_slot_handlers {
    void (*on_frame)(void *ctx, const ph_frame *frame);
    /* Once, after every frame that it had sent was delivered. signal is 0 when it exited by itself. */
    void (*on_exit)(void *ctx, int code, int signal);
} ph_slot_handlers;

/* Makes this process inherit what its slots leave behind. */
void ph_slots_adopt(void);

/* Starts a slot that runs the worker script. Its first frame must be 'B', with the boot text as head.
 * NULL and err on failure. */
ph_slot *ph_slot_spawn(uv_loop_t *loop, const char *script, ph_slot_handlers handlers, void *ctx, ph_error *err);

int ph_slot_pid(const ph_slot *slot);
/* False when it is gone already. */
bool ph_slot_send(ph_slot *slot, char type, const char *head, size_t head_len, const char *body, size_t body_len);
void ph_slot_signal(ph_slot *slot, int signal); /* no-op once it has ended */

/* The earliest deadline of what it runs: see ph_deadline_get. */
bool ph_slot_deadline(const ph_slot *slot, double *at, double *seconds, char *task);

/* Frees the slot; one that still lives is killed and reaped first, without a callback. NULL is fine. */
void ph_slot_close(ph_slot *slot);

#endif
