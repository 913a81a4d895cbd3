/* Life of the server: options to CivetWeb, start, drain, stop. */
#include "httpd.h"
#include "log.h"
#include "../feed.h"
#include "../hub.h"
#include "nats.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_SEC 2.0 /* for the last answers to be written */

static void free_server(ph_httpd *server) {
    ph_pool_free(server->pool);
    ph_hub_free(server->hub);
    free(server);
}

static int on_log(const struct mg_connection *conn, const char *text) {
    (void)conn;
    if (strstr(text, "cannot bind") || strstr(text, "server ports")) /* serve() returns that, better worded */
        return 1;
    ph_log("WARNING", "civetweb", "%s", text);
    return 1;
}

static int on_error(struct mg_connection *conn, int status, const char *text) {
    (void)text;
    ph_httpd_error(conn, status, ph_httpd_reason(status), "", true);
    return 0;
}

static void on_thread_exit(const struct mg_context *ctx, int type, void *pointer) {
    (void)ctx;
    (void)type;
    (void)pointer;
    nats_ReleaseThreadMemory(); /* streams read KV on these threads */
}

static int address(const ph_httpd_options *o, struct sockaddr_in *sa) {
    memset(sa, 0, sizeof *sa);
    sa->sin_family = AF_INET;
    sa->sin_port = htons((uint16_t)o->port);
    return inet_pton(AF_INET, o->host, &sa->sin_addr);
}

/* Why CivetWeb could not listen: it tells only by a log line, so try what it tried. */
static void explain(const ph_httpd_options *o, const char *text, ph_error *err, const char **code) {
    struct sockaddr_in sa;
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address(o, &sa);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    int e = bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0 && listen(fd, 1) == 0 ? 0 : errno;
    close(fd);
    if (e == EADDRINUSE) {
        *code = PH_CONFLICT;
        snprintf(err->text, sizeof err->text,
                 "port %d on %s is in use by another program; stop it (`ss -ltnp 'sport = :%d'` shows it) or choose "
                 "another with --port",
                 o->port, o->host, o->port);
    } else if (e == EACCES) {
        *code = PH_FORBIDDEN;
        snprintf(err->text, sizeof err->text, "no permission for port %d; choose one of 1024 or above with --port",
                 o->port);
    } else if (e == EADDRNOTAVAIL) {
        *code = PH_INVALID;
        snprintf(err->text, sizeof err->text,
                 "this machine has no address %s; listen on 127.0.0.1 (only here) or 0.0.0.0 (everywhere) with --host",
                 o->host);
    } else {
        *code = PH_UNAVAILABLE;
        snprintf(err->text, sizeof err->text, "cannot start the HTTP server on %s:%d: %s", o->host, o->port,
                 e ? strerror(e) : text);
    }
}

static bool listen_on(ph_httpd *server, ph_error *err, const char **code) {
    const ph_httpd_options *o = &server->options;
    char port[96], threads[16], queue[16], timeout[16], text[256] = "";
    snprintf(port, sizeof port, "%s:%d", o->host, o->port);
    snprintf(threads, sizeof threads, "%d", o->threads);
    snprintf(queue, sizeof queue, "%d", o->threads);
    snprintf(timeout, sizeof timeout, "%d", o->request_timeout_ms);
    const char *options[] = {"listening_ports", port, "num_threads", threads, "connection_queue", queue,
                             "listen_backlog", "1024", "request_timeout_ms", timeout, "keep_alive_timeout_ms", timeout,
                             "enable_keep_alive", "yes", "tcp_nodelay", "1", "decode_url", "no",
                             "enable_directory_listing", "no", "enable_auth_domain_check", "no", NULL};
    struct mg_callbacks callbacks = {.begin_request = ph_httpd_serve, .log_message = on_log, .http_error = on_error,
                                     .exit_thread = on_thread_exit};
    struct mg_init_data init = {.callbacks = &callbacks, .user_data = server, .configuration_options = options};
    unsigned error_code = 0;
    struct mg_error_data data = {.code = &error_code, .text = text, .text_buffer_size = sizeof text};
    server->mg = mg_start2(&init, &data);
    if (!server->mg) {
        explain(o, text, err, code);
        return false;
    }
    struct mg_server_port ports[2];
    server->port = mg_get_server_ports(server->mg, 2, ports) > 0 ? ports[0].port : o->port;
    return true;
}

static int default_vms(void) {
    long n = 2 * sysconf(_SC_NPROCESSORS_ONLN);
    return n < 4 ? 4 : n > 16 ? 16 : (int)n;
}

static bool start_hub(ph_httpd *server, ph_error *err, const char **code) {
    if (!server->options.runs_bucket)
        return true;
    ph_nats_conn *conn = ph_nats_shared();
    if (!conn) {
        snprintf(err->text, sizeof err->text, "runs_bucket needs the process's NATS connection: nats.share(conn) first");
        return false;
    }
    server->hub = ph_hub_start(conn, server->options.runs_bucket, err);
    ph_nats_release(conn);
    if (!server->hub)
        *code = PH_UNAVAILABLE;
    return server->hub != NULL;
}

ph_httpd *ph_httpd_start(const ph_httpd_options *options, ph_error *err, const char **code) {
    *code = PH_INVALID;
    ph_httpd *server = calloc(1, sizeof *server);
    if (!server) {
        snprintf(err->text, sizeof err->text, "out of memory");
        *code = PH_INTERNAL;
        return NULL;
    }
    ph_httpd_options *o = &server->options;
    *o = *options;
    if (strcmp(o->host, "localhost") == 0)
        strcpy(o->host, "127.0.0.1");
    struct sockaddr_in sa;
    if (address(o, &sa) != 1) {
        snprintf(err->text, sizeof err->text,
                 "host %s is no IPv4 address; use 127.0.0.1 (only this machine) or 0.0.0.0 (all addresses)", o->host);
        free(server);
        return NULL;
    }
    if (access(o->spool_dir, W_OK | X_OK) != 0) {
        snprintf(err->text, sizeof err->text,
                 "PYOCO_HTTP_SPOOL_DIR is %s: %s; name a folder for uploads that can be written to", o->spool_dir,
                 strerror(errno));
        free(server);
        return NULL;
    }
    if (o->static_dir) {
        snprintf(server->static_dir, sizeof server->static_dir, "%s", o->static_dir);
        o->static_dir = server->static_dir;
    }
    if (o->runs_bucket) {
        snprintf(server->runs_bucket, sizeof server->runs_bucket, "%s", o->runs_bucket);
        o->runs_bucket = server->runs_bucket;
    }
    snprintf(server->spool_dir, sizeof server->spool_dir, "%s", o->spool_dir);
    o->spool_dir = server->spool_dir;
    server->started_at = ph_monotonic();
    server->pool = ph_pool_start(&(ph_pool_options){.script = o->script, .boot = o->boot, .boot_len = o->boot_len,
                                                    .vms = o->vms ? o->vms : default_vms(), .service = o->service,
                                                    .call_limit_ms = o->handler_timeout_ms},
                                 err);
    o->script = o->boot = NULL; /* the pool has copies; ours were borrowed */
    /* Streams are never more than leave 64 threads (half of a small number) for other requests. */
    server->max_streams = o->threads >= 80 ? o->threads - 64 : o->threads / 2;
    if (server->pool && start_hub(server, err, code) && listen_on(server, err, code))
        return server;
    if (server->pool)
        ph_pool_stop(server->pool, 0);
    free_server(server);
    return NULL;
}

/* Calls end for each connection of ours: a socket whose local port is the one that we listen on. CivetWeb gives no
 * access to them. */
static void each_connection(int port, void (*end)(int fd)) {
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *e; dir && (e = readdir(dir));) {
        int fd = atoi(e->d_name), listens = 0;
        struct sockaddr_in us;
        socklen_t n = sizeof us, m = sizeof listens;
        if (getsockname(fd, (struct sockaddr *)&us, &n) == 0 && us.sin_family == AF_INET &&
            us.sin_port == htons((uint16_t)port) &&
            getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &m) == 0 && !listens)
            end(fd);
    }
    if (dir)
        closedir(dir);
}

static void hang_up(int fd) {
    shutdown(fd, SHUT_RDWR);
}

static void drop(int fd) {
    close(fd);
}

/* CivetWeb's threads sleep in slices of 2 s and look at its stop flag between them: the accepting one is woken by a
 * connection, those that wait for a next request by the end of theirs. */
static void *knock(void *arg) {
    ph_httpd *server = arg;
    struct sockaddr_in sa;
    address(&server->options, &sa);
    sa.sin_port = htons((uint16_t)server->port);
    if (sa.sin_addr.s_addr == htonl(INADDR_ANY))
        sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    while (!atomic_load(&server->stopped)) {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        each_connection(server->port, hang_up);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
            continue;
        connect(fd, (struct sockaddr *)&sa, sizeof sa);
        close(fd);
    }
    return NULL;
}

static void wait_for_requests(ph_httpd *server, double until) {
    while (atomic_load(&server->in_flight) > 0 && ph_monotonic() < until)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

/* Order: requests in progress get their time, then handlers are cut while their answers can still be written (once
 * mg_stop is called CivetWeb fails every write), then connections end, then what they used is freed. */
void ph_httpd_stop(ph_httpd *server, double drain_sec) {
    if (!server)
        return;
    double last = ph_monotonic() + drain_sec;
    atomic_store(&server->stopping, true);
    if (server->hub)
        ph_hub_close(server->hub);
    ph_feed_wake(); /* its readers look at `stopping` */
    wait_for_requests(server, last);
    double left = last - ph_monotonic();
    ph_pool_stop(server->pool, left > 0 ? left : 0);
    wait_for_requests(server, ph_monotonic() + ANSWER_SEC);
    pthread_t thread;
    bool knocking = pthread_create(&thread, NULL, knock, server) == 0;
    mg_stop(server->mg);
    atomic_store(&server->stopped, true);
    if (knocking)
        pthread_join(thread, NULL);
    each_connection(server->port, drop); /* accepted, but no thread of CivetWeb's came to serve them */
    free_server(server);
}
