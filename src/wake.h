/* Waking the service VM: something that its duties wait for has happened, and those that asked for it (app:every with
 * wakes) run at once instead of at their next time. */
#ifndef PH_WAKE_H
#define PH_WAKE_H

/* Who is to be woken: fn(ctx), short, on the waker's thread. One for the process; the last one counts. */
void ph_wake_set(void (*fn)(void *ctx), void *ctx);
/* Takes it back; waits for a call under way. Nothing when another has been set since. */
void ph_wake_clear(void *ctx);
/* Wakes. Any thread that holds no lock which fn takes; nothing when nobody is to be woken. */
void ph_wake(void);

#endif
