/* A frame on the wire: three 32-bit numbers in the machine's own order (both ends are this program on this
 * machine): type, length of the head, length of the body; then both. */
#include "channel.h"
#include "foreign.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADER_BYTES = 12, HEAD_MAX = 16 << 20, BODY_MAX = 256 << 20, READ_BYTES = 65536 };

typedef struct buffer {
    char *data;
    size_t start, len, cap; /* the bytes are data[start .. start + len) */
} buffer;

struct ph_channel {
    uv_poll_t poll;
    int fd; /* -1 once closed */
    bool ended;
    bool closed;
    bool gone; /* the loop has closed the handle: free when no callback is on the stack */
    int busy; /* callbacks on the stack: the buffers must stay */
    int polled; /* events that the loop watches: starting a poll anew costs two system calls */
    buffer in, out;
    ph_channel_handlers handlers;
    void *ctx;
};

static bool reserve(buffer *b, size_t more) {
    if (b->start && b->start + b->len + more > b->cap) {
        memmove(b->data, b->data + b->start, b->len);
        b->start = 0;
    }
    if (b->len + more <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : READ_BYTES;
    while (cap < b->len + more)
        cap *= 2;
    char *p = realloc(b->data, cap);
    if (!p)
        return false;
    b->data = p;
    b->cap = cap;
    return true;
}

static void consume(buffer *b, size_t n) {
    b->start += n;
    b->len -= n;
    if (b->len == 0)
        b->start = 0;
    if (b->len == 0 && b->cap > 4 * READ_BYTES) { /* a big job has passed: give its memory back */
        free(b->data);
        *b = (buffer){0};
    }
}

static void finish(ph_channel *ch, const char *fault) {
    if (ch->ended || ch->closed)
        return;
    ch->ended = true;
    uv_poll_stop(&ch->poll);
    ch->handlers.on_end(ch->ctx, fault);
}

/* Delivers the first whole frame of the input. False when there is none. */
static bool deliver(ph_channel *ch) {
    uint32_t header[3];
    if (ch->closed || ch->in.len < HEADER_BYTES)
        return false;
    const char *p = ch->in.data + ch->in.start;
    memcpy(header, p, HEADER_BYTES);
    if (header[0] > 127 || header[1] > HEAD_MAX || header[2] > BODY_MAX) {
        finish(ch, "it sent bytes that are no frame");
        return false;
    }
    size_t total = (size_t)HEADER_BYTES + header[1] + header[2];
    if (ch->in.len < total)
        return false;
    buffer whole = ch->in; /* the callback may turn the loop: what arrives then goes to a buffer of its own */
    buffer rest = {0};
    ch->in = rest;
    if (whole.len > total) {
        if (!reserve(&ch->in, whole.len - total)) {
            free(whole.data);
            finish(ch, "out of memory");
            return false;
        }
        memcpy(ch->in.data, p + total, whole.len - total);
        ch->in.len = whole.len - total;
    }
    ph_frame frame = {(char)header[0], p + HEADER_BYTES, header[1], p + HEADER_BYTES + header[1], header[2]};
    ch->handlers.on_frame(ch->ctx, &frame);
    if (!ch->in.data && !ch->closed && whole.cap <= 4 * READ_BYTES) { /* nothing came meanwhile: keep the memory */
        whole.start = whole.len = 0;
        ch->in = whole;
    } else {
        free(whole.data);
    }
    return true;
}

static void release(ph_channel *ch) {
    if (ch->busy || !ch->gone)
        return;
    free(ch->in.data);
    free(ch->out.data);
    free(ch);
}

void ph_channel_drain(ph_channel *ch) {
    ch->busy++;
    while (!ch->ended && !ch->closed) {
        if (!reserve(&ch->in, READ_BYTES)) {
            finish(ch, "out of memory");
            break;
        }
        ssize_t n = recv(ch->fd, ch->in.data + ch->in.start + ch->in.len, READ_BYTES, MSG_DONTWAIT);
        if (n > 0) {
            ch->in.len += (size_t)n;
            while (deliver(ch))
                ;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else {
            if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
                finish(ch, NULL);
            break;
        }
    }
    ch->busy--;
    release(ch);
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void watch(ph_channel *ch) {
    int events = UV_READABLE | (ch->out.len ? UV_WRITABLE : 0);
    if (ch->ended || ch->closed || events == ch->polled)
        return;
    ch->polled = events;
    uv_poll_start(&ch->poll, events, on_poll);
}

static bool write_out(ph_channel *ch) {
    while (ch->out.len) {
        ssize_t n = send(ch->fd, ch->out.data + ch->out.start, ch->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0)
            consume(&ch->out, (size_t)n);
        else if (n < 0 && errno == EINTR)
            continue;
        else
            return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    }
    return true;
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    ph_channel *ch = PH_CONTAINER(poll, ph_channel, poll);
    if (status < 0 || (events & UV_READABLE)) {
        if (events & UV_WRITABLE)
            write_out(ch); /* a broken connection shows when it is read */
        watch(ch);
        ph_channel_drain(ch); /* last: ch may be gone after it */
    } else if (events & UV_WRITABLE) {
        write_out(ch);
        watch(ch);
    }
}

ph_channel *ph_channel_open(uv_loop_t *loop, int fd, ph_channel_handlers handlers, void *ctx, ph_error *err) {
    ph_channel *ch = calloc(1, sizeof *ch);
    int rc = ch ? uv_poll_init(loop, &ch->poll, fd) : UV_ENOMEM;
    if (rc < 0) {
        snprintf(err->text, sizeof err->text, "cannot watch the socket of a slot: %s", uv_strerror(rc));
        free(ch);
        return NULL;
    }
    ch->fd = fd;
    ph_foreign_mark((uv_handle_t *)&ch->poll);
    ch->handlers = handlers;
    ch->ctx = ctx;
    watch(ch);
    return ch;
}

bool ph_channel_send(ph_channel *ch, char type, const char *head, size_t head_len, const char *body, size_t body_len) {
    if (ch->ended || ch->closed || !reserve(&ch->out, HEADER_BYTES + head_len + body_len))
        return false;
    uint32_t header[3] = {(uint32_t)type, (uint32_t)head_len, (uint32_t)body_len};
    char *p = ch->out.data + ch->out.start + ch->out.len;
    memcpy(p, header, HEADER_BYTES);
    memcpy(p + HEADER_BYTES, head, head_len);
    if (body_len)
        memcpy(p + HEADER_BYTES + head_len, body, body_len);
    bool waiting = ch->out.len > 0;
    ch->out.len += HEADER_BYTES + head_len + body_len;
    if (waiting)
        return true;
    if (!write_out(ch))
        return false;
    if (ch->out.len)
        watch(ch);
    return true;
}

void ph_channel_flush(ph_channel *ch) {
    while (!ch->ended && !ch->closed && ch->out.len && write_out(ch) && ch->out.len)
        poll(&(struct pollfd){.fd = ch->fd, .events = POLLOUT}, 1, -1);
}

static void on_closed(uv_handle_t *handle) {
    ph_channel *ch = PH_CONTAINER(handle, ph_channel, poll);
    ch->gone = true;
    release(ch);
}

void ph_channel_close(ph_channel *ch) {
    if (!ch || ch->closed)
        return;
    ch->closed = true;
    uv_poll_stop(&ch->poll);
    close(ch->fd);
    ch->fd = -1;
    uv_close((uv_handle_t *)&ch->poll, on_closed);
}
