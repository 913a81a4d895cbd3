/* The VM of an app: a script was loaded into it and has given its app; the host calls into that, and another thread may
 * cut what runs too long. One thread builds it, calls into it and closes it. */
#ifndef PH_APPVM_H
#define PH_APPVM_H

#include "files.h"
#include "image.h"
#include "vm.h"
#include <pthread.h>
#include <stdatomic.h>

#define PH_APP_LOAD_SEC 10.0 /* a script that takes longer to load is broken */

/* What such a VM is made of; all borrowed, by each of its VMs for as long as it lives. */
typedef struct ph_app_source {
    const char *script;
    const char *boot; /* text for host.boot(), or NULL */
    size_t boot_len, memory_limit;
    ph_files *files; /* is told of each file that is loaded */
} ph_app_source;

typedef struct ph_appvm {
    ph_vm *vm; /* NULL before it is built, and when it could not be */
    const ph_app_source *source;
    ph_image *image;
    pthread_t thread;
    atomic_uint turn;  /* number of what runs now; odd while something runs */
    atomic_uint cut;   /* the turn that is to end */
    double load_until; /* monotonic */
} ph_appvm;

/* Makes the VM (role "service" or "http") on this thread and loads the script from image. False, and in *error why not
 * (to be freed; NULL when out of memory). */
bool ph_appvm_build(ph_appvm *a, const ph_app_source *source, ph_image *image, bool is_service, char **error);
/* Calls fn(app, lightuserdata ctx). NULL, or the text of what it raised, to be freed. */
char *ph_appvm_call(ph_appvm *a, lua_CFunction fn, void *ctx);
void ph_appvm_close(ph_appvm *a);

/* What runs in the VM begins, or has ended: a cut that comes too late does not hit what runs next. */
static inline void ph_appvm_turn(ph_appvm *a) {
    atomic_fetch_add(&a->turn, 1);
}

/* Ends the turn: Lua code raises at its next line or call, until the turn is over. The VM's thread must be there. */
void ph_appvm_cut(ph_appvm *a);

#endif
