/* Histograms: a list of names, each with a list of label sets. They are few and short, and a lock is held for a walk
 * of pointers: an observation costs well under a microsecond. */
#include "metrics.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From a fast answer to a long run: one scale for all. */
static const double bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,  0.25,  0.5,
                                1,     2.5,    5,     10,   30,    60,   300, 1800, 3600, 14400};
#define BOUNDS (sizeof bounds / sizeof *bounds)

typedef struct series {
    struct series *next;
    uint64_t counts[BOUNDS + 1]; /* the last one: above all bounds */
    double sum;
    size_t len;
    char labels[]; /* terminated */
} series;

typedef struct histogram {
    struct histogram *next;
    series *first, **end;
    size_t sets;
    char name[]; /* terminated */
} histogram;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static histogram *all;

static histogram *find(const char *name) {
    for (histogram *h = all; h; h = h->next) {
        if (strcmp(h->name, name) == 0)
            return h;
    }
    return NULL;
}

static histogram *find_or_make(const char *name) {
    histogram *h = find(name);
    if (h)
        return h;
    h = calloc(1, sizeof *h + strlen(name) + 1);
    if (!h)
        return NULL;
    strcpy(h->name, name);
    h->end = &h->first;
    h->next = all;
    return all = h;
}

static series *find_series(const histogram *h, const char *labels, size_t len) {
    for (series *s = h->first; s; s = s->next) {
        if (s->len == len && memcmp(s->labels, labels, len) == 0)
            return s;
    }
    return NULL;
}

static series *series_of(histogram *h, const char *labels, size_t len, const char *overflow) {
    series *s = find_series(h, labels, len);
    if (!s && h->sets >= PH_METRICS_SETS) {
        labels = overflow;
        len = strlen(overflow);
        s = find_series(h, labels, len);
    }
    if (s)
        return s;
    s = calloc(1, sizeof *s + len + 1);
    if (!s)
        return NULL;
    memcpy(s->labels, labels, len);
    s->len = len;
    *h->end = s;
    h->end = &s->next;
    h->sets++;
    return s;
}

void ph_metrics_observe(const char *name, const char *labels, size_t len, const char *overflow, double seconds) {
    if (!(seconds >= 0)) /* a clock was set back, or it is no number */
        seconds = 0;
    size_t at = 0;
    while (at < BOUNDS && seconds > bounds[at])
        at++;
    pthread_mutex_lock(&lock);
    histogram *h = find_or_make(name);
    series *s = h ? series_of(h, labels, len, overflow) : NULL;
    if (s) {
        s->counts[at]++;
        s->sum += seconds;
    }
    pthread_mutex_unlock(&lock);
}

/* --- text --- */

typedef struct text {
    char *bytes;
    size_t len, room;
    bool failed;
} text;

static void put(text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(text *t, const char *fmt, ...) {
    if (t->failed)
        return;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (t->len + (size_t)n + 1 > t->room) {
        size_t room = (t->room + (size_t)n + 1) * 2;
        char *grown = realloc(t->bytes, room);
        if (!grown) {
            t->failed = true;
            return;
        }
        t->bytes = grown;
        t->room = room;
    }
    va_start(ap, fmt);
    t->len += (size_t)vsnprintf(t->bytes + t->len, t->room - t->len, fmt, ap);
    va_end(ap);
}

static void put_series(text *t, const char *name, const series *s) {
    const char *comma = s->len ? "," : "";
    uint64_t total = 0;
    for (size_t i = 0; i < BOUNDS; i++) {
        total += s->counts[i];
        put(t, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, s->labels, comma, bounds[i], (unsigned long long)total);
    }
    total += s->counts[BOUNDS];
    put(t, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, s->labels, comma, (unsigned long long)total);
    const char *open = s->len ? "{" : "", *shut = s->len ? "}" : "";
    put(t, "%s_sum%s%s%s %.9g\n", name, open, s->labels, shut, s->sum);
    put(t, "%s_count%s%s%s %llu\n", name, open, s->labels, shut, (unsigned long long)total);
}

size_t ph_metrics_label(char *out, size_t room, const char *name, const char *value) {
    size_t n = strlen(name), at = n + 2;
    memcpy(out, name, n);
    memcpy(out + n, "=\"", 2);
    const char *end = value + strnlen(value, (room - n - 3) / 2); /* each byte may need another to escape it */
    while (*end && ((unsigned char)*end & 0xC0) == 0x80)
        end--; /* not within a character */
    for (; value < end; value++) {
        if (strchr("\\\"\n", *value))
            out[at++] = '\\';
        out[at++] = *value == '\n' ? 'n' : *value;
    }
    out[at++] = '"';
    return at;
}

/* All series of a histogram as one. */
static series *add_up(const histogram *h) {
    series *all_of = calloc(1, sizeof *all_of + 1);
    for (const series *s = all_of && h ? h->first : NULL; s; s = s->next) {
        all_of->sum += s->sum;
        for (size_t i = 0; i <= BOUNDS; i++)
            all_of->counts[i] += s->counts[i];
    }
    return all_of;
}

char *ph_metrics_text(const char *name, bool added_up, size_t *len) {
    text t = {0};
    put(&t, "%s", "");
    pthread_mutex_lock(&lock);
    const histogram *h = find(name);
    series *one = h && added_up ? add_up(h) : NULL;
    if (one)
        put_series(&t, name, one);
    else
        for (const series *s = h ? h->first : NULL; s; s = s->next)
            put_series(&t, name, s);
    free(one);
    pthread_mutex_unlock(&lock);
    if (t.failed) {
        free(t.bytes);
        return NULL;
    }
    *len = t.len;
    return t.bytes;
}

void ph_metrics_total(const char *name, double *count, double *sum) {
    *count = *sum = 0;
    pthread_mutex_lock(&lock);
    const histogram *h = find(name);
    for (const series *s = h ? h->first : NULL; s; s = s->next) {
        *sum += s->sum;
        for (size_t i = 0; i <= BOUNDS; i++)
            *count += (double)s->counts[i];
    }
    pthread_mutex_unlock(&lock);
}
