/* See natslink.h. */
#include "natslink.h"
#include "foreign.h"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct ph_link {
    pthread_mutex_t lock; /* over the next five */
    ph_link_owner *owner; /* NULL once the owner let go */
    bool wants_read, wants_write;
    int refs; /* one of nats.c until detach, one of the owner until its handle is closed */
    int fd;   /* our duplicate */
    natsConnection *nc; /* owned; loop's thread only, like all below */
    int polled;         /* UV_READABLE | UV_WRITABLE as now polled */
    uv_poll_t poll;
};

static void unref(ph_link *link) {
    pthread_mutex_lock(&link->lock);
    int left = --link->refs;
    pthread_mutex_unlock(&link->lock);
    if (left > 0)
        return;
    if (link->fd >= 0)
        close(link->fd);
    pthread_mutex_destroy(&link->lock);
    free(link);
}

static natsStatus on_attach(void **user, void *loop, natsConnection *nc, natsSock sock) {
    (void)nc;
    ph_link_owner *owner = loop;
    ph_link *link = calloc(1, sizeof *link);
    if (!link)
        return NATS_NO_MEMORY;
    fcntl(sock, F_SETFD, FD_CLOEXEC); /* a child that outlives us must not keep the connection alive */
    link->fd = fcntl(sock, F_DUPFD_CLOEXEC, 0);
    if (link->fd < 0) {
        free(link);
        return NATS_ERR;
    }
    pthread_mutex_init(&link->lock, NULL);
    link->owner = owner;
    link->wants_read = true;
    link->refs = 2;
    owner->attached = link;
    *user = link;
    return NATS_OK;
}

/* Has the loop's thread look at the link: before it waits, or by waking it. Lock held. */
static void notify(ph_link *link) {
    ph_link_owner *owner = link->owner;
    if (!owner)
        return;
    if (pthread_equal(pthread_self(), owner->thread))
        uv_prepare_start(owner->prepare, owner->on_prepare);
    else
        uv_async_send(owner->wake);
}

static natsStatus on_want_read(void *user, bool add) {
    ph_link *link = user;
    pthread_mutex_lock(&link->lock);
    link->wants_read = add;
    notify(link);
    pthread_mutex_unlock(&link->lock);
    return NATS_OK;
}

static natsStatus on_want_write(void *user, bool add) {
    ph_link *link = user;
    pthread_mutex_lock(&link->lock);
    link->wants_write = add;
    if (add || link->polled & UV_WRITABLE)
        notify(link);
    pthread_mutex_unlock(&link->lock);
    return NATS_OK;
}

static natsStatus on_detach(void *user) {
    ph_link *link = user;
    pthread_mutex_lock(&link->lock);
    notify(link);
    pthread_mutex_unlock(&link->lock);
    unref(link);
    return NATS_OK;
}

natsStatus ph_link_set_options(natsOptions *opts, ph_link_owner *owner) {
    return natsOptions_SetEventLoop(opts, owner, on_attach, on_want_read, on_want_write, on_detach);
}

static void on_poll(uv_poll_t *handle, int status, int events) {
    ph_link *link = PH_CONTAINER(handle, ph_link, poll);
    ph_link_owner *owner = link->owner;
    if (events & UV_WRITABLE)
        natsConnection_ProcessWriteEvent(link->nc);
    if (status < 0 || events & UV_READABLE) /* an error shows as a failing read */
        natsConnection_ProcessReadEvent(link->nc);
    owner->on_read(owner);
}

static void free_closed(uv_handle_t *handle) {
    unref(PH_CONTAINER(handle, ph_link, poll));
}

bool ph_link_start(ph_link *link, natsConnection *nc) {
    link->nc = nc;
    if (uv_poll_init(link->owner->loop, &link->poll, link->fd) != 0) {
        link->owner = NULL;
        natsConnection_Destroy(nc);
        unref(link);
        return false;
    }
    ph_foreign_mark((uv_handle_t *)&link->poll);
    ph_link_apply(link);
    return true;
}

void ph_link_apply(ph_link *link) {
    pthread_mutex_lock(&link->lock);
    int events = (link->wants_read ? UV_READABLE : 0) | (link->wants_write ? UV_WRITABLE : 0);
    pthread_mutex_unlock(&link->lock);
    if (events == link->polled)
        return;
    link->polled = events;
    if (events)
        uv_poll_start(&link->poll, events, on_poll);
    else
        uv_poll_stop(&link->poll);
}

void ph_link_write(ph_link *link) {
    if (natsConnection_Buffered(link->nc) > 0)
        natsConnection_ProcessWriteEvent(link->nc);
    ph_link_apply(link);
}

void ph_link_close(ph_link *link) {
    /* With bytes still buffered natsConnection_Close would wait for a PONG that only this thread can read. */
    if (!natsConnection_IsClosed(link->nc))
        natsConnection_ProcessWriteEvent(link->nc);
    pthread_mutex_lock(&link->lock);
    link->owner = NULL;
    pthread_mutex_unlock(&link->lock);
    uv_poll_stop(&link->poll);
    natsConnection_Destroy(link->nc);
    link->nc = NULL;
    uv_close((uv_handle_t *)&link->poll, free_closed);
}
