/* One Lua VM: create, preload, call with traceback, memory limit, interrupt, close. */
#ifndef PH_VM_H
#define PH_VM_H

#include "host.h"

struct uv_loop_s;
typedef struct ph_vm ph_vm;

typedef struct ph_vm_options {
    const char *role;        /* "script" | "http" | "service" | "slot": what host.role says */
    const char *script;      /* path of the script, what host.script says; borrowed until close */
    const char *boot;        /* text handed over by the parent VM (host.boot()), or NULL; copied */
    size_t boot_len;         /* bytes of boot */
    size_t memory_limit;     /* bytes that user code may bring the VM to (interrupt.h); 0 = none */
    bool can_freeze;         /* built so that ph_vm_freeze may be called; is_short_lived too */
    bool is_short_lived;     /* memory comes from an arena: fast, and given back only as a whole */
    struct uv_loop_s *loop;  /* the loop luv gets; NULL = luv makes its own. Borrowed, outlives the VM */
} ph_vm_options;

/* A new VM with the standard library and all host.* modules preloaded. NULL and err on failure. */
ph_vm *ph_vm_new(const ph_vm_options *options, ph_error *err);

/* Closes the VM and frees it. Only on the thread that made it. NULL is fine. */
void ph_vm_close(ph_vm *vm);

/* Keeps the VM as it is now, so that ph_vm_thaw brings it back: a fresh VM without building one. It must be at rest
 * (nothing runs, nothing is on its stack) and hold nothing outside of its memory: no open file, handle, connection.
 * False when that cannot be: a C library was loaded, no memory, AddressSanitizer. The VM is then as good as before. */
bool ph_vm_freeze(ph_vm *vm);

/* Ends a frozen VM as ph_vm_close does, then puts it back as it was frozen; its garbage collector is stopped. Not
 * inside of its loop's callbacks. False without memory: close it then. */
bool ph_vm_thaw(ph_vm *vm);

/* The last thing before lua_close: from here on no callback reaches Lua, and every luv handle of the loop is
 * closed and gone (luv 1.44 crashes when the VM goes before their close callback), every request answered (a VM that
 * can freeze waits for as long as that takes, others a second). One VM per loop. Not inside of that
 * loop's callbacks. */
void ph_vm_settle(ph_vm *vm);
bool ph_vm_is_closing(const ph_vm *vm); /* it has begun: callbacks of C handles leave Lua alone */

/* Whether a loop is free of what luv's code has made: no handle, no request under way. After the end of a VM false
 * means that its finalisers started something, which would call back into a VM that is no more. */
bool ph_vm_is_quiet(struct uv_loop_s *loop);

bool ph_vm_is_short_lived(const ph_vm *vm);
lua_State *ph_vm_state(ph_vm *vm);
ph_vm *ph_vm_of(lua_State *L); /* the VM that L belongs to */

/* lua_pcall with a traceback handler. On failure one value, the text with its traceback, is left. */
int ph_vm_call(lua_State *L, int nargs, int nresults);

/* Changes the limit: an allocation of user code beyond it fails with a catchable error. 0 = none. */
void ph_vm_set_memory_limit(ph_vm *vm, size_t bytes);
size_t ph_vm_memory_limit(const ph_vm *vm);

/* Bytes in use by the VM's allocator. */
size_t ph_vm_memory(const ph_vm *vm);

#endif
