/* See guard.h. A hash table of the runs, and a list of them by age. */
#include "guard.h"
#include "snapshot.h"
#include "wake.h"
#include "clocks.h"
#include "hash.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 8192

typedef struct memo {
    struct memo *next;          /* of its bucket */
    struct memo *older, *newer; /* by when it was last seen */
    char *image;                /* NULL: the run is being cancelled; else it has ended so */
    size_t len;
    double at;         /* monotonic */
    uint64_t revision; /* of what it says; 0 = unknown */
    bool is_broken;
    char cancel_at[40], cancel_by[160];
    char key[];
} memo;

static struct {
    pthread_mutex_t lock;
    memo *buckets[BUCKETS];
    memo *oldest, *newest;
    size_t runs, bytes, broken;
} guard = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* --- the table and the list; all of these hold the lock --- */

static memo **place_of(const char *key) {
    memo **at = &guard.buckets[ph_hash(key) % BUCKETS];
    while (*at && strcmp((*at)->key, key) != 0)
        at = &(*at)->next;
    return at;
}

static void unlink_memo(memo *m) {
    *(m->older ? &m->older->newer : &guard.oldest) = m->newer;
    *(m->newer ? &m->newer->older : &guard.newest) = m->older;
    m->older = m->newer = NULL;
}

static void link_newest(memo *m) {
    m->older = guard.newest;
    *(guard.newest ? &guard.newest->newer : &guard.oldest) = m;
    guard.newest = m;
    m->at = ph_monotonic();
}

static void set_broken(memo *m, bool is_broken) {
    guard.broken = guard.broken + (is_broken ? 1u : 0u) - (m->is_broken ? 1u : 0u);
    m->is_broken = is_broken;
}

/* Takes image (NULL for none). */
static void set_image(memo *m, char *image, size_t len) {
    guard.bytes = guard.bytes - m->len + len;
    free(m->image);
    m->image = image;
    m->len = len;
}

static void forget(memo *m) {
    memo **at = place_of(m->key);
    *at = m->next;
    unlink_memo(m);
    set_broken(m, false);
    set_image(m, NULL, 0);
    guard.runs--;
    free(m);
}

/* Lets the oldest go while there are too many; an image also when it is old. */
static void make_room(void) {
    double limit = ph_monotonic() - GUARD_SEC;
    while (guard.oldest &&
           (guard.runs > GUARD_RUNS || guard.bytes > GUARD_BYTES || (guard.oldest->image && guard.oldest->at < limit)))
        forget(guard.oldest);
}

/* The memo of a key, the newest now; NULL when out of memory. */
static memo *remember(const char *key) {
    memo **at = place_of(key);
    if (*at) {
        unlink_memo(*at);
    } else {
        *at = calloc(1, sizeof(memo) + strlen(key) + 1);
        if (!*at)
            return NULL;
        strcpy((*at)->key, key);
        guard.runs++;
    }
    link_newest(*at);
    return *at;
}

/* --- what an entry says --- */

typedef struct seen {
    bool is_terminal, is_cancelling;
    char cancel_at[40], cancel_by[160]; /* "" when null or absent */
} seen;

static bool is(const char *at, size_t len, const char *text) {
    return strlen(text) == len && memcmp(at, text, len) == 0;
}

static void copy_value(char *out, size_t size, const ph_member *m) {
    bool is_null = is(m->value, m->value_len, "null");
    size_t len = is_null || m->value_len >= size ? 0 : m->value_len;
    memcpy(out, m->value, len);
    out[len] = '\0';
}

static void take_member(void *ctx, const ph_member *m) {
    seen *s = ctx;
    if (is(m->key, m->key_len, "\"status\"")) {
        s->is_terminal = is(m->value, m->value_len, "\"COMPLETED\"") || is(m->value, m->value_len, "\"FAILED\"") ||
                         is(m->value, m->value_len, "\"CANCELLED\"");
        s->is_cancelling = is(m->value, m->value_len, "\"CANCELLING\"");
    } else if (is(m->key, m->key_len, "\"cancel_requested_at\"")) {
        copy_value(s->cancel_at, sizeof s->cancel_at, m);
    } else if (is(m->key, m->key_len, "\"cancel_requested_by\"")) {
        copy_value(s->cancel_by, sizeof s->cancel_by, m);
    }
}

static bool has(const ph_entry *e, const char *text) {
    return memmem(e->value, e->len, text, strlen(text)) != NULL;
}

static bool is_fresh(const ph_entry *e) {
    double offset;
    if (!ph_clock_offset(&offset))
        offset = 0;
    return ph_wall() + offset - (double)e->created_ns / 1e9 < GUARD_SEC;
}

/* Whether there is a time of a cancel: the key alone is in every snapshot of a worker. */
static bool has_cancel(const ph_entry *e) {
    static const char key[] = "\"cancel_requested_at\":";
    const char *end = e->value + e->len, *at = e->value;
    while ((at = memmem(at, (size_t)(end - at), key, sizeof key - 1))) {
        at += sizeof key - 1;
        if (at < end && *at != 'n')
            return true;
    }
    return false;
}

/* Whether an entry of a run that is not remembered may have to be. Most need no closer look, those that are read at the
 * start above all. */
static bool is_of_interest(const ph_entry *e) {
    if (has(e, "\"CANCELLING\"") || has_cancel(e))
        return true;
    return is_fresh(e) && (has(e, "\"COMPLETED\"") || has(e, "\"FAILED\"") || has(e, "\"CANCELLED\""));
}

/* Takes text. True when the entry has destroyed something. Holds the lock. */
static bool judge(const ph_entry *e, const seen *s, char *text) {
    memo *m = *place_of(e->key);
    bool is_cancelled = s->is_cancelling || *s->cancel_at;
    if (m && e->revision && e->revision <= m->revision) { /* the tail comes behind our own write */
        free(text);
        return false;
    }
    bool is_broken = false;
    if (s->is_terminal) {
        m = m || is_fresh(e) ? remember(e->key) : NULL;
        if (m) {
            set_broken(m, false);
            set_image(m, text, e->len);
            text = NULL;
        }
    } else if (m && m->image) {
        set_broken(m, is_broken = true);
    } else if (is_cancelled) {
        m = remember(e->key);
        if (m) {
            set_broken(m, false);
            strcpy(m->cancel_at, s->cancel_at);
            strcpy(m->cancel_by, s->cancel_by);
        }
    } else if (m) {
        set_broken(m, is_broken = true);
    }
    if (m)
        m->revision = e->revision;
    free(text);
    make_room();
    return is_broken;
}

void ph_guard_see(const ph_entry *e) {
    pthread_mutex_lock(&guard.lock);
    memo *m = *place_of(e->key);
    bool is_known = m != NULL;
    if (m && e->deleted)
        forget(m);
    pthread_mutex_unlock(&guard.lock);
    if (e->deleted || (!is_known && !is_of_interest(e)))
        return;
    char *text = malloc(e->len + 1);
    if (!text)
        return; /* what is not remembered is not guarded: no worse than without */
    memcpy(text, e->value, e->len);
    text[e->len] = '\0';
    seen s = {0};
    if (!ph_snapshot_each(text, e->len, take_member, &s)) {
        free(text);
        return;
    }
    pthread_mutex_lock(&guard.lock);
    bool is_broken = judge(e, &s, text);
    pthread_mutex_unlock(&guard.lock);
    if (is_broken)
        ph_wake();
}

void ph_guard_clear(void) {
    pthread_mutex_lock(&guard.lock);
    while (guard.oldest)
        forget(guard.oldest);
    pthread_mutex_unlock(&guard.lock);
}

/* Copies what a memo says to out. False when out of memory. */
static bool tell(const memo *m, ph_guard_fault *out) {
    out->kind = m->image ? PH_GUARD_ENDED : PH_GUARD_CANCEL;
    strcpy(out->key, m->key);
    strcpy(out->cancel_at, m->cancel_at);
    strcpy(out->cancel_by, m->cancel_by);
    if (!m->image)
        return true;
    if (!(out->image = malloc(m->len + 1)))
        return false;
    memcpy(out->image, m->image, m->len);
    out->len = m->len;
    return true;
}

void ph_guard_take(ph_guard_fault *out) {
    *out = (ph_guard_fault){0};
    pthread_mutex_lock(&guard.lock);
    memo *m = guard.broken ? guard.newest : NULL;
    while (m && !m->is_broken)
        m = m->older;
    if (m) {
        set_broken(m, false);
        if (strlen(m->key) >= sizeof out->key || !tell(m, out))
            out->kind = PH_GUARD_NOTHING;
    }
    pthread_mutex_unlock(&guard.lock);
}

ph_guard_stats ph_guard_get_stats(void) {
    pthread_mutex_lock(&guard.lock);
    ph_guard_stats stats = {guard.runs, guard.bytes};
    pthread_mutex_unlock(&guard.lock);
    return stats;
}
