/* A handler that needs PBKDF2 asks for it instead of computing it: { derive = { secret, salt, iterations, name } }.
 * It is done here, on the connection's thread, with no VM held; then the handler is called again with the key in
 * req.derived. Half of the cores work at once; what is derived under one name by several requests is derived once, by
 * the first: the others ask their handler again when it has ended. */
#include "httpd.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT_ONCE_MAX 16
#define WAITING_MAX 64 /* more is refused: connection threads are for everybody */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over all below */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static char names[AT_ONCE_MAX][PH_DERIVE_NAME]; /* of what is being derived; "" = free */
static int waiting;

void ph_httpd_read_derive(lua_State *L, ph_exchange *x) {
    ph_derive *d = &x->derive;
    size_t name_len;
    lua_getfield(L, -1, "secret");
    const char *secret = luaL_checklstring(L, -1, &d->secret_len);
    lua_getfield(L, -2, "salt");
    const char *salt = luaL_checklstring(L, -1, &d->salt_len);
    lua_getfield(L, -3, "iterations");
    lua_Integer iterations = luaL_checkinteger(L, -1);
    lua_getfield(L, -4, "name");
    const char *name = luaL_checklstring(L, -1, &name_len);
    if (d->secret_len > sizeof d->secret || d->salt_len > sizeof d->salt || name_len == 0 || name_len >= sizeof d->name ||
        iterations < 1 || iterations > PH_DERIVE_ITERATIONS_MAX)
        luaL_error(L, "derive: something is too long");
    memcpy(d->secret, secret, d->secret_len);
    memcpy(d->salt, salt, d->salt_len);
    memcpy(d->name, name, name_len + 1);
    d->iterations = (int)iterations;
    d->is_wanted = true;
    lua_pop(L, 4);
}

static int at_once(void) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN) / 2;
    return cores < 1 ? 1 : cores > AT_ONCE_MAX ? AT_ONCE_MAX : (int)cores;
}

/* The place of a name that is being derived, or of "": a free one; -1 = there is none. Holds the lock. */
static int place_of(const char *name) {
    for (int i = 0, n = at_once(); i < n; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

/* Waits for a free place and takes it; false when another request has meanwhile derived the same. */
static bool take_place(ph_derive *d) {
    bool is_same = false;
    pthread_mutex_lock(&lock);
    waiting++;
    for (;;) {
        bool is_running = place_of(d->name) >= 0;
        if (is_same && !is_running)
            break;
        is_same = is_same || is_running;
        d->place = is_running ? -1 : place_of("");
        if (d->place >= 0) {
            strcpy(names[d->place], d->name);
            break;
        }
        pthread_cond_wait(&changed, &lock);
    }
    waiting--;
    pthread_mutex_unlock(&lock);
    return d->place >= 0;
}

bool ph_httpd_derive(ph_exchange *x) {
    ph_derive *d = &x->derive;
    pthread_mutex_lock(&lock);
    bool is_full = waiting >= WAITING_MAX;
    pthread_mutex_unlock(&lock);
    if (is_full)
        return false;
    d->is_wanted = false;
    if (take_place(d))
        d->is_done = PKCS5_PBKDF2_HMAC(d->secret, (int)d->secret_len, (unsigned char *)d->salt, (int)d->salt_len,
                                       d->iterations, EVP_sha256(), sizeof d->key, d->key) == 1;
    OPENSSL_cleanse(d->secret, sizeof d->secret);
    return true;
}

void ph_httpd_derive_end(ph_exchange *x) {
    ph_derive *d = &x->derive;
    if (d->place >= 0) {
        pthread_mutex_lock(&lock);
        *names[d->place] = '\0';
        d->place = -1;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    OPENSSL_cleanse(d->key, sizeof d->key);
    d->is_done = false;
}
