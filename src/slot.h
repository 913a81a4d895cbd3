/* A slot process: `pyoco-host --slot PARENT SCRIPT`, started by src/slots.c only.
 *
 * C owns what outlives a run: the uv loop, the NATS connection, the channel to the supervisor. Every run gets a VM
 * of its own, made before its job comes. Frames from the supervisor: 'B' boot (once, first), 'R' a job; others go
 * to the run's VM. Frames to it: 'I' ready for a job, 'E' this slot cannot work (head: {"error": text}); others come
 * from the run's VM. */
#ifndef PH_SLOT_H
#define PH_SLOT_H

#include "host.h"
#include "channel.h"

struct ph_nats_loop;

/* The process's life, until the supervisor is gone. Returns the exit code. */
int ph_slot_main(int argc, char **argv);

/* --- for bind/slot.c: what a run's VM may do; self is the registry's PH_SLOT_KEY lightuserdata --- */
#define PH_SLOT_KEY "host.slot"
typedef struct ph_slot_self ph_slot_self;

bool ph_slot_self_send(ph_slot_self *self, char type, const char *head, size_t head_len, const char *body,
                       size_t body_len);
/* Says when what runs is overdue; at 0: nothing has a limit. Forgotten when the run ends. */
void ph_slot_self_deadline(ph_slot_self *self, double at, double seconds, const char *task);
struct ph_nats_loop *ph_slot_self_nats(ph_slot_self *self);

#endif
