/* Folders are watched rather than files: an editor that saves by rename replaces the file's inode. A deletion is
 * no save: it is followed by one, or the file is missed at the next load. */
#include "files.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

struct ph_files {
    int fd;
    pthread_mutex_t lock;
    struct item { /* one watched file; a folder has one wd, so wd + name is its identity */
        int wd;
        char *path; /* absolute; owned */
        const char *name;
    } *items;
    size_t n, room;
};

ph_files *ph_files_new(ph_error *err) {
    ph_files *f = calloc(1, sizeof *f);
    if (!f) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return NULL;
    }
    f->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (f->fd < 0) {
        snprintf(err->text, sizeof err->text, "cannot watch files: inotify: %s; raise fs.inotify.max_user_instances",
                 strerror(errno));
        free(f);
        return NULL;
    }
    pthread_mutex_init(&f->lock, NULL);
    return f;
}

void ph_files_free(ph_files *f) {
    if (!f)
        return;
    for (size_t i = 0; i < f->n; i++)
        free(f->items[i].path);
    free(f->items);
    close(f->fd);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

/* Adds dir/name, dir absolute. Holds the lock. Without memory the file is simply not watched. */
static void add(ph_files *f, const char *path) {
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->items[i].path, path) == 0)
            return;
    if (f->n == f->room) {
        struct item *grown = realloc(f->items, (f->room + 32) * sizeof *grown);
        if (!grown)
            return;
        f->items = grown;
        f->room += 32;
    }
    struct item it = {.path = strdup(path)};
    char *slash = it.path ? strrchr(it.path, '/') : NULL;
    if (!slash) {
        free(it.path);
        return;
    }
    it.name = slash + 1;
    *slash = '\0';
    it.wd = inotify_add_watch(f->fd, *it.path ? it.path : "/", IN_CLOSE_WRITE | IN_MOVED_TO | IN_ONLYDIR);
    *slash = '/';
    if (it.wd < 0)
        free(it.path);
    else
        f->items[f->n++] = it;
}

void ph_files_add(ph_files *f, const char *path) {
    char dir[PATH_MAX], real[PATH_MAX], full[PATH_MAX + NAME_MAX + 2];
    const char *slash = strrchr(path, '/');
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
    pthread_mutex_lock(&f->lock);
    if (realpath(dir, real)) {
        snprintf(full, sizeof full, "%s/%s", strcmp(real, "/") == 0 ? "" : real, slash ? slash + 1 : path);
        add(f, full);
        if (realpath(path, real) && strcmp(real, full) != 0)
            add(f, real);
    }
    pthread_mutex_unlock(&f->lock);
}

int ph_files_fd(const ph_files *f) {
    return f->fd;
}

bool ph_files_pending(const ph_files *f) {
    struct pollfd p = {.fd = f->fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

static bool is_lua(const char *name) {
    size_t n = strlen(name);
    return n > 4 && strcmp(name + n - 4, ".lua") == 0;
}

static bool is_watched(ph_files *f, const struct inotify_event *e) {
    for (size_t i = 0; i < f->n; i++)
        if (f->items[i].wd == e->wd && strcmp(f->items[i].name, e->name) == 0)
            return true;
    return false;
}

bool ph_files_drain(ph_files *f, bool any_lua) {
    _Alignas(struct inotify_event) char buf[8192];
    bool changed = false;
    pthread_mutex_lock(&f->lock);
    for (ssize_t n; (n = read(f->fd, buf, sizeof buf)) > 0;) {
        for (char *at = buf; at < buf + n;) {
            const struct inotify_event *e = (const struct inotify_event *)at;
            at += sizeof *e + e->len;
            if (e->mask & IN_Q_OVERFLOW) /* events were lost: assume the worst */
                changed = true;
            else if (e->len && (is_watched(f, e) || (any_lua && is_lua(e->name))))
                changed = true;
        }
    }
    pthread_mutex_unlock(&f->lock);
    return changed;
}
