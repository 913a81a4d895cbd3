/* Inside host.httpd: CivetWeb's threads on one side, the VM pool on the other.
 *
 * A connection thread reads the request whole, lends a VM for the handler's time only, and writes what came back;
 * streams, static files and /health run on the connection thread with no VM. CivetWeb's threads have 100 KB of
 * stack: no Lua, no deep recursion and no big arrays there.
 */
#ifndef PH_HTTPD_H
#define PH_HTTPD_H

#include "host.h"
#include "objread.h"
#include "runrow.h"
#include "vmpool.h"
#include "clocks.h"
#include <civetweb.h>
#include <stdatomic.h>

typedef struct ph_httpd_options {
    char host[64];
    int port;                /* 0 = any free one */
    int threads;             /* connections at once */
    int vms;                 /* 0 = by the number of cores */
    size_t max_body_bytes;   /* more is 413 */
    int request_timeout_ms;  /* a connection that sends nothing for this long is closed; a stalled body is 408 */
    int heartbeat_ms;        /* of quiet event streams */
    int handler_timeout_ms;  /* a handler that runs longer is cut: 500 */
    int max_uploads;         /* large uploads at once */
    int continue_ms;         /* how often the client of an upload that is being handled hears from us */
    const char *spool_dir;   /* where they are kept while they arrive; copied */
    bool service;            /* whether this server runs the duties */
    const char *script;      /* borrowed, copied by the pool */
    const char *boot;        /* borrowed, copied by the pool */
    size_t boot_len;
    const char *static_dir;  /* served under /static/; copied; NULL = none */
    const char *runs_bucket; /* whose changes event streams follow; copied; NULL = no streams */
} ph_httpd_options;

struct ph_hub;

typedef struct ph_httpd {
    ph_httpd_options options;
    char static_dir[1024];
    char runs_bucket[128];
    char spool_dir[1024];
    struct mg_context *mg;
    ph_pool *pool;
    struct ph_hub *hub; /* NULL without a runs bucket */
    int port;
    int max_streams;
    double started_at;
    atomic_int in_flight; /* requests being answered, streams included */
    atomic_int streams, uploads;
    atomic_bool stopping, stopped; /* stopped: CivetWeb has ended */
    atomic_ullong requests, refused; /* refused: 503 for want of a VM or of a place for a stream */
} ph_httpd;

/* What a handler may ask for instead of a body, or beside it: C goes on with the connection, no VM is held. */
typedef enum ph_stream_kind {
    PH_STREAM_NONE,
    PH_STREAM_WATCH, /* the changes of a run as events */
    PH_STREAM_WAIT,  /* the answer is held back until a run has ended */
    PH_STREAM_EVENTS, /* the changes of all runs as events */
    PH_STREAM_OBJECT /* the body is an object of the Object Store */
} ph_stream_kind;

typedef struct ph_stream_request {
    ph_stream_kind kind;
    char run_id[256];
    bool has_tenant;
    char tenant[256];    /* whose runs the caller may see, with has_tenant */
    bool brief;          /* without task_records */
    bool has_since;      /* `since` was given */
    double since;        /* unix seconds: changes older than this are not sent */
    double timeout_sec;
    bool until_terminal; /* ends at a terminal status */
    uint64_t last_revision; /* of Last-Event-ID; 0 = none */
    uint64_t last_life;     /* the bucket's stream it was of; 0 = not told */
    char *equal[PH_ROW_SHA256 + 1]; /* events: texts that runs have; owned; NULL = any */
    char *q;                        /* a part of a text; owned; NULL = any */
    bool counts;                    /* events: with the number of runs by status */
    ph_object_source object;
} ph_stream_request;

/* A part of a form that came as an upload. */
typedef struct ph_upload_part {
    char *head; /* its header lines; owned */
    size_t head_len;
    char *data; /* of a small part; owned; NULL for the file */
    size_t len; /* bytes of data, or of the file */
    bool is_file;
} ph_upload_part;

#define PH_UPLOAD_PARTS 100

/* A form whose file was not kept in memory: it lies in a file without a name, gone with the descriptor. */
typedef struct ph_upload {
    char part[64];       /* name of the part that is the file */
    char boundary[204];
    char too_large[128]; /* what is said of a file over max_bytes */
    uint64_t max_bytes;  /* 0 = no limit */
    int fd;              /* -1 before there is one */
    bool has_place;      /* counts in server->uploads */
    char sha256[65];     /* of the file, hex */
    ph_upload_part parts[PH_UPLOAD_PARTS];
    int count;
} ph_upload;

#define PH_DERIVE_ITERATIONS_MAX 10000000
#define PH_DERIVE_NAME 128

/* A key that a handler asks for (derive.c). */
typedef struct ph_derive {
    bool is_wanted;     /* the handler has asked */
    bool is_done;       /* key is there, for its next call */
    int place;          /* among those derived at once; -1 = none */
    int iterations;
    size_t secret_len, salt_len;
    char secret[1024], salt[256];
    char name[PH_DERIVE_NAME]; /* of what is derived: the same name, the same key */
    unsigned char key[32];
} ph_derive;

/* One request and its answer. Owned by the connection thread; while ph_pool_call runs, used by the VM's thread. */
typedef struct ph_exchange {
    ph_httpd *server;
    struct mg_connection *conn;
    const struct mg_request_info *info;
    const char *path; /* as it came, still escaped, without the query */
    char *body;       /* owned; NULL without one */
    size_t body_len;
    bool keep_alive; /* what the answer says; false also closes */
    char *out;       /* the whole answer, head and body; owned */
    size_t out_len, out_room;
    size_t fields_at, fields_len; /* the handler's own header fields within out */
    ph_stream_request stream;
    bool wants_runs; /* the answer says that lists are not there yet: ask again when they are */
    ph_upload *upload; /* owned; NULL unless the body came as one */
    bool is_continued; /* "100 Continue" was sent, so the body is coming */
    ph_derive derive;
} ph_exchange;

ph_httpd *ph_httpd_start(const ph_httpd_options *options, ph_error *err, const char **code);
/* Refuses new requests, ends streams, waits up to drain_sec for requests in progress, closes everything, frees. */
void ph_httpd_stop(ph_httpd *server, double drain_sec);

/* request.c: answers one request of CivetWeb's (its begin_request callback). */
int ph_httpd_serve(struct mg_connection *conn);

/* Answers an error without having read the whole body, and ends the connection. Returns status. */
int ph_httpd_refuse(ph_exchange *x, int status, const char *detail, const char *extra_headers);
/* Takes for a while what has not been read of a refused body: closing at once would reset the connection, and the client
 * lose the answer. */
void ph_httpd_discard(ph_exchange *x);
/* Asks for the body where the client waits to be asked. */
void ph_httpd_continue(ph_exchange *x);
/* Lends a VM for fn(app, lightuserdata x), and again with each key that it asks for (derive.c). 0 = it has ended well,
 * else the status that was answered: 503, or 500. */
int ph_httpd_call(ph_exchange *x, lua_CFunction fn);

/* upload.c: a form with a large file. 0 = it is none, or not for this route: go on as usual; -1 = it has come, x->upload
 * holds it; else the status that was answered. */
int ph_httpd_receive(ph_exchange *x);
void ph_httpd_upload_free(ph_exchange *x);

/* exchange.c: the Lua side; handle(app, lightuserdata ph_exchange) runs on a VM's thread. */
int ph_httpd_handle(lua_State *L);
/* admit(app, lightuserdata ph_exchange): asks the app whether this request, whose body has not been read, may be an
 * upload. Fills x->upload when it may; makes an answer in x->out when the request is refused; neither: it is none. */
int ph_httpd_admit(lua_State *L);
/* asked.c: reads what a handler asks for from the response table on top of the stack. */
void ph_httpd_read_stream(lua_State *L, ph_exchange *x);
void ph_httpd_free_stream(ph_stream_request *stream);

/* derive.c: takes what the handler has asked for, from the table on top of the stack; raises for what it cannot take. */
void ph_httpd_read_derive(lua_State *L, ph_exchange *x);
/* Derives it, for the handler's next call; or waits while another request derives the same. False: too many wait. */
bool ph_httpd_derive(ph_exchange *x);
/* After that call. */
void ph_httpd_derive_end(ph_exchange *x);

/* answer.c: answers that C writes itself. Return what begin_request returns: the status. */
int ph_httpd_error(struct mg_connection *conn, int status, const char *detail, const char *extra_headers, bool close);
int ph_httpd_json(struct mg_connection *conn, int status, const char *extra_headers, const char *body, size_t len,
                  bool close);
const char *ph_httpd_reason(int status); /* "Not Found" */

/* health.c, statics.c */
int ph_httpd_health(ph_httpd *server, struct mg_connection *conn);
int ph_httpd_static(ph_httpd *server, struct mg_connection *conn, const char *path);

/* watch.c, wait.c, events.c: go on with a request after its handler */
int ph_httpd_watch(ph_exchange *x);
int ph_httpd_wait(ph_exchange *x);
int ph_httpd_events(ph_exchange *x);
int ph_httpd_object(ph_exchange *x); /* object.c */
/* The tenant whose records the stream may show; NULL = all. */
const char *ph_httpd_tenant(const ph_exchange *x);
/* Whether id can be a KV key: anything else is no run's id. A key needs no escaping in JSON. */
bool ph_httpd_is_key(const char *id);

/* place.c: streams are never more than leave 64 threads for other requests. False = none is free (counted as refused). */
bool ph_httpd_take_place(ph_httpd *server);
void ph_httpd_leave_place(ph_httpd *server);

/* peer.c: the connection's socket, which CivetWeb does not show; -1 when it cannot be told. Valid as long as the
 * request is being answered. */
int ph_httpd_socket(const ph_exchange *x);
/* Whether the other side has closed the connection. */
bool ph_httpd_has_hung_up(int socket);


#endif
