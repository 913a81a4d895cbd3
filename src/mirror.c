/* See mirror.h. The tail's thread writes; readers use the shared table and the list of mirrors below. */
#include "mirror.h"
#include "shared.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAX 300         /* a longer key of the bucket is not copied: nobody asks for it */
#define VALUE_MAX (64 << 10) /* nor a larger value */

struct ph_mirror {
    ph_mirror *next;
    ph_tail *tail;
    char bucket[80], prefix[96];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over the list; a mirror in it has a running tail */
static ph_mirror *mirrors;

static void on_entry(void *ctx, const ph_entry *entry) {
    ph_mirror *m = ctx;
    char name[sizeof m->prefix + KEY_MAX];
    if (strlen(entry->key) >= KEY_MAX)
        return;
    snprintf(name, sizeof name, "%s%s", m->prefix, entry->key);
    bool is_kept = !entry->deleted && entry->len <= VALUE_MAX;
    ph_shared_put(name, is_kept ? entry->value : NULL, entry->len);
}

static void forget(void *ctx, const char *key, const char *value, size_t len) {
    (void)ctx, (void)value, (void)len;
    ph_shared_put(key, NULL, 0);
}

static void on_reset(void *ctx) {
    ph_mirror *m = ctx;
    ph_shared_each(m->prefix, forget, NULL);
}

ph_mirror *ph_mirror_start(ph_nats_conn *conn, const char *bucket, ph_error *err) {
    ph_mirror *m = calloc(1, sizeof *m);
    if (!m) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return NULL;
    }
    snprintf(m->bucket, sizeof m->bucket, "%s", bucket);
    snprintf(m->prefix, sizeof m->prefix, "mirror.%s.", m->bucket);
    ph_tail_handlers handlers = {.on_entry = on_entry, .on_reset = on_reset};
    m->tail = ph_tail_start(conn, bucket, 1, handlers, m, err);
    if (!m->tail) {
        free(m);
        return NULL;
    }
    pthread_mutex_lock(&lock);
    m->next = mirrors;
    mirrors = m;
    pthread_mutex_unlock(&lock);
    return m;
}

void ph_mirror_stop(ph_mirror *m) {
    if (!m)
        return;
    pthread_mutex_lock(&lock);
    ph_mirror **at = &mirrors;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    pthread_mutex_unlock(&lock);
    ph_tail_stop(m->tail);
    on_reset(m);
    free(m);
}

int64_t ph_mirror_age_ms(const char *bucket) {
    int64_t age = INT64_MAX;
    pthread_mutex_lock(&lock);
    for (ph_mirror *m = mirrors; m; m = m->next)
        if (strcmp(m->bucket, bucket) == 0)
            age = ph_tail_age_ms(m->tail);
    pthread_mutex_unlock(&lock);
    return age;
}
