/* See wake.h. */
#include "wake.h"
#include <pthread.h>
#include <stddef.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void (*wake_fn)(void *ctx);
static void *wake_ctx;

void ph_wake_set(void (*fn)(void *ctx), void *ctx) {
    pthread_mutex_lock(&lock);
    wake_fn = fn;
    wake_ctx = ctx;
    pthread_mutex_unlock(&lock);
}

void ph_wake_clear(void *ctx) {
    pthread_mutex_lock(&lock);
    if (wake_ctx == ctx) {
        wake_fn = NULL;
        wake_ctx = NULL;
    }
    pthread_mutex_unlock(&lock);
}

void ph_wake(void) {
    pthread_mutex_lock(&lock);
    if (wake_fn)
        wake_fn(wake_ctx);
    pthread_mutex_unlock(&lock);
}
