/* Reaching user code that runs: cancel it, or let the event loop have a turn, wherever it is.
 *
 * User code is what runs in a task's coroutine (host.task) and in the coroutines that it makes. A Lua hook
 * belongs to one coroutine, so the watch records which one runs now; nothing is hooked until an interrupt
 * comes. Interrupts are delivered at the next instruction of a function that is not of our own library
 * (<home>/lua/pyoco/): library code is never cut half-way, and needs no masks for that. Not reached: C code
 * that does not return, __gc, and a message handler that runs because of the interrupt itself.
 *
 * Threads: all functions on the VM's thread; ph_vm_interrupt also from a signal handler there. */
#ifndef PH_INTERRUPT_H
#define PH_INTERRUPT_H

#include "vm.h"
#include <signal.h>
#include <time.h>

typedef enum ph_interrupt {
    PH_INTERRUPT_TICK = 1,   /* run the VM's event loop once, without blocking, below the user code */
    PH_INTERRUPT_CANCEL = 2, /* raise "run cancelled" at every instruction of user code, until host.task.reset */
} ph_interrupt;

/* Why user code is cut: each raises its own text. */
typedef enum ph_cut { PH_CUT_NONE, PH_CUT_CANCEL, PH_CUT_TIMEOUT } ph_cut;

/* The interrupt state of one VM; owned by the VM, see ph_vm_watch. */
typedef struct ph_watch {
    lua_State *volatile running;     /* coroutine that runs user code; NULL while library code runs */
    lua_State *task;                 /* the task's own coroutine, NULL when no task runs */
    volatile sig_atomic_t tick;      /* a turn of the loop is due */
    volatile sig_atomic_t cut;       /* a ph_cut for the one task that runs */
    volatile sig_atomic_t cancelled; /* sticky: every task of this run is cut */
    lua_State *volatile hooked;      /* coroutine that has the hook */
    volatile sig_atomic_t ticking;   /* the timer is set */
    bool attached;                   /* timer exists, signals of this thread come here */
    timer_t timer;
} ph_watch;

ph_watch *ph_vm_watch(ph_vm *vm);

/* Makes vm the one that this thread's SIGUSR2 reaches (as a tick), and ticks it 10 ms after user code started
 * to run or had its last tick. One VM per thread; attaching another detaches the first. False and err when there is no timer. */
bool ph_vm_attach(ph_vm *vm, ph_error *err);
void ph_vm_detach(ph_vm *vm); /* no-op when not attached; ph_vm_close does it too */

/* Delivers an interrupt. Async-signal-safe. It does not wake a loop that waits in epoll: whoever cancels from
 * outside does so by an event of that loop, or by SIGUSR2 plus such an event. */
void ph_vm_interrupt(ph_vm *vm, ph_interrupt what);

/* The text that user code must end with, or NULL when it may go on. */
const char *ph_cut_text(const ph_watch *w);

/* Marks co as the coroutine that runs user code; returns what ran before, for ph_user_leave. */
lua_State *ph_user_enter(ph_vm *vm, lua_State *co);
void ph_user_leave(ph_vm *vm, lua_State *previous);

/* Sets the timer for the next tick, unless it is set or vm is not attached. */
void ph_start_tick(ph_vm *vm);

/* A turn of the loop when a tick is due and nobody runs the loop already. Callbacks run as library code. */
void ph_tick(ph_vm *vm, lua_State *L);

/* Whether the function in ar (filled with "S") belongs to our Lua library. */
bool ph_in_library(const lua_Debug *ar);

#endif
