/* Options, codes and the blocking-mode connection; see nats.h. */
#include "nats.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_URL "nats://127.0.0.1:4222"
#define MAX_SERVERS 32
#define HELD_MAX 64             /* messages that wait to be freed together */
#define HELD_BYTES (256u << 10) /* or as many as these bytes */

struct ph_nats_conn {
    natsConnection *nc;
    atomic_int refs;
    char url[512]; /* as given, without passwords */
};

static pthread_mutex_t share_lock = PTHREAD_MUTEX_INITIALIZER;
static ph_nats_conn *shared; /* counted reference, under share_lock */

static const struct {
    natsStatus status;
    const char *code;
} codes[] = {
    {NATS_TIMEOUT, PH_TIMEOUT},
    {NATS_NO_RESPONDERS, PH_UNAVAILABLE},
    {NATS_NO_SERVER, PH_UNAVAILABLE},
    {NATS_CONNECTION_CLOSED, PH_UNAVAILABLE},
    {NATS_CONNECTION_DISCONNECTED, PH_UNAVAILABLE},
    {NATS_STALE_CONNECTION, PH_UNAVAILABLE},
    {NATS_INSUFFICIENT_BUFFER, PH_UNAVAILABLE}, /* the reconnect buffer, which we keep at nothing */
    {NATS_IO_ERROR, PH_UNAVAILABLE},
    {NATS_ADDRESS_MISSING, PH_INVALID},
    {NATS_INVALID_ARG, PH_INVALID},
    {NATS_INVALID_SUBJECT, PH_INVALID},
    {NATS_MAX_PAYLOAD, PH_TOO_LARGE},
    {NATS_CONNECTION_AUTH_FAILED, PH_UNAUTHORIZED},
    {NATS_NOT_PERMITTED, PH_FORBIDDEN},
    {NATS_SECURE_CONNECTION_REQUIRED, PH_UNAVAILABLE},
    {NATS_SECURE_CONNECTION_WANTED, PH_UNAVAILABLE},
    {NATS_SSL_ERROR, PH_UNAVAILABLE},
};

const char *ph_nats_fail(natsStatus s, ph_error *err, const char *what) {
    /* The last error is thread-local and stale after a success, so it counts only when it is of this status. */
    natsStatus last = NATS_OK;
    const char *text = nats_GetLastError(&last);
    if (last != s || !text || !*text)
        text = natsStatus_GetText(s);
    snprintf(err->text, sizeof err->text, "%s: %s", what, text);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].status == s)
            return codes[i].code;
    return PH_INTERNAL;
}

void ph_nats_redact(const char *url, char *out, size_t n) {
    size_t used = 0;
    while (*url && used + 1 < n) {
        size_t part = strcspn(url, ",");
        const char *scheme = strstr(url, "://");
        const char *host = scheme && scheme < url + part ? scheme + 3 : url;
        const char *at = memrchr(host, '@', part - (size_t)(host - url));
        size_t head = at ? (size_t)(host - url) : 0;
        const char *tail = at ? at + 1 : url;
        int wrote = snprintf(out + used, n - used, "%.*s%.*s%s", (int)head, url, (int)(url + part - tail), tail,
                             url[part] ? "," : "");
        used += wrote > 0 && (size_t)wrote < n - used ? (size_t)wrote : n - used - 1;
        url += part + (url[part] == ',');
    }
    out[used] = '\0';
}

const char *ph_nats_bad_subject(const char *subject, size_t len) {
    if (len == 0)
        return "the subject is empty";
    if (subject[0] == '.' || subject[len - 1] == '.')
        return "the subject starts or ends with a dot";
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)subject[i] <= ' ' || subject[i] == 0x7f)
            return "the subject holds a space, a line break or another control character";
        if (subject[i] == '.' && subject[i + 1] == '.')
            return "the subject holds two dots in a row";
    }
    return NULL;
}

static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER; /* over the next three */
static natsMsg *held[HELD_MAX];
static int held_count;
static size_t held_bytes;

void ph_nats_free(natsMsg *msg) {
    if (!msg)
        return;
    natsMsg *full[HELD_MAX];
    int n = 0;
    pthread_mutex_lock(&held_lock);
    held[held_count++] = msg;
    held_bytes += (size_t)natsMsg_GetDataLength(msg);
    if (held_count == HELD_MAX || held_bytes >= HELD_BYTES) {
        n = held_count;
        memcpy(full, held, (size_t)n * sizeof *full);
        held_count = 0;
        held_bytes = 0;
    }
    pthread_mutex_unlock(&held_lock);
    for (int i = 0; i < n; i++)
        natsMsg_Destroy(full[i]);
}

natsStatus ph_nats_message(natsMsg **msg, const ph_nats_out *out) {
    natsStatus s = natsMsg_Create(msg, out->subject, out->reply, out->data, (int)out->len);
    for (size_t i = 0; s == NATS_OK && i < out->header_count; i++)
        s = natsMsgHeader_Add(*msg, out->headers[i].name, out->headers[i].value);
    if (s != NATS_OK) {
        natsMsg_Destroy(*msg);
        *msg = NULL;
    }
    return s;
}

natsStatus ph_nats_send(natsConnection *nc, const ph_nats_out *out) {
    if (out->len > INT32_MAX)
        return NATS_MAX_PAYLOAD;
    if (out->header_count == 0 && out->reply)
        return natsConnection_PublishRequest(nc, out->subject, out->reply, out->data, (int)out->len);
    if (out->header_count == 0)
        return natsConnection_Publish(nc, out->subject, out->data, (int)out->len);
    natsMsg *msg = NULL;
    natsStatus s = ph_nats_message(&msg, out);
    if (s == NATS_OK)
        s = natsConnection_PublishMsg(nc, msg);
    ph_nats_free(msg);
    return s;
}

/* nats.c prints asynchronous errors (a slow consumer, a denied subject) to stderr unless there is a handler.
 * The calls that suffer from them fail by themselves. */
static void ignore_error(natsConnection *nc, natsSubscription *sub, natsStatus s, void *closure) {
    (void)nc;
    (void)sub;
    (void)s;
    (void)closure;
}

static natsStatus set_servers(natsOptions *opts, const char *url) {
    char copy[4096];
    const char *servers[MAX_SERVERS];
    int count = 0;
    if (strlen(url) >= sizeof copy)
        return NATS_INVALID_ARG;
    strcpy(copy, url);
    char *save = NULL;
    for (char *p = strtok_r(copy, ", ", &save); p && count < MAX_SERVERS; p = strtok_r(NULL, ", ", &save))
        servers[count++] = p;
    return count ? natsOptions_SetServers(opts, servers, count) : NATS_INVALID_ARG;
}

static natsStatus set_security(natsOptions *opts, const ph_nats_options *o, const char *url) {
    natsStatus s = NATS_OK;
    if (o->user)
        s = natsOptions_SetUserInfo(opts, o->user, o->password ? o->password : "");
    if (s == NATS_OK && o->token)
        s = natsOptions_SetToken(opts, o->token);
    if (s == NATS_OK && o->creds)
        s = natsOptions_SetUserCredentialsFromFiles(opts, o->creds, NULL);
    if (s == NATS_OK && (o->tls_ca || o->tls_cert || strncmp(url, "tls://", 6) == 0))
        s = natsOptions_SetSecure(opts, true);
    if (s == NATS_OK && o->tls_ca)
        s = natsOptions_LoadCATrustedCertificates(opts, o->tls_ca);
    if (s == NATS_OK && o->tls_cert)
        s = natsOptions_LoadCertificatesChain(opts, o->tls_cert, o->tls_key ? o->tls_key : o->tls_cert);
    return s;
}

/* Two cores and many threads: who spins for a lock keeps its holder from running. */
static void open_library(void) {
    nats_Open(0);
}

const char *ph_nats_make_options(natsOptions **out, const ph_nats_options *o, ph_error *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_library);
    const char *url = o->url && *o->url ? o->url : DEFAULT_URL;
    natsOptions *opts = NULL;
    natsStatus s = natsOptions_Create(&opts);
    if (s == NATS_OK)
        s = set_servers(opts, url);
    if (s == NATS_OK)
        s = natsOptions_SetName(opts, o->name ? o->name : "pyoco-host");
    if (s == NATS_OK)
        s = natsOptions_SetTimeout(opts, o->connect_timeout_ms > 0 ? o->connect_timeout_ms : 2000);
    if (s == NATS_OK) /* without it a flusher thread holds small messages back for a millisecond */
        s = natsOptions_SetSendAsap(opts, true);
    if (s == NATS_OK)
        s = natsOptions_SetFailRequestsOnDisconnect(opts, true);
    if (s == NATS_OK)
        s = natsOptions_SetPingInterval(opts, o->ping_interval_ms > 0 ? o->ping_interval_ms : 20000);
    if (s == NATS_OK)
        s = natsOptions_SetErrorHandler(opts, ignore_error, NULL);
    if (s == NATS_OK)
        s = set_security(opts, o, url);
    if (s == NATS_OK) {
        *out = opts;
        return NULL;
    }
    char what[600], clean[512];
    ph_nats_redact(url, clean, sizeof clean);
    snprintf(what, sizeof what, "NATS options for %s are not usable", clean);
    const char *code = ph_nats_fail(s, err, what);
    natsOptions_Destroy(opts);
    return code;
}

static natsStatus set_reconnect(natsOptions *opts) {
    natsStatus s = natsOptions_SetMaxReconnect(opts, -1);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectWait(opts, 100);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectJitter(opts, 50, 50);
    if (s == NATS_OK) /* the smallest it takes: nothing may be sent late, behind the caller's back */
        s = natsOptions_SetReconnectBufSize(opts, 0);
    return s;
}

/* Given so that the first connect is retried on nats.c's thread, not on the caller's. */
static void ignore_connected(natsConnection *nc, void *closure) {
    (void)nc;
    (void)closure;
}

const char *ph_nats_connect(ph_nats_conn **out, const ph_nats_options *options, ph_error *err) {
    natsOptions *opts = NULL;
    const char *code = ph_nats_make_options(&opts, options, err);
    if (code)
        return code;
    ph_nats_conn *conn = calloc(1, sizeof *conn);
    if (!conn) {
        natsOptions_Destroy(opts);
        snprintf(err->text, sizeof err->text, "out of memory");
        return PH_INTERNAL;
    }
    atomic_init(&conn->refs, 1);
    ph_nats_redact(options->url && *options->url ? options->url : DEFAULT_URL, conn->url, sizeof conn->url);
    natsStatus s = set_reconnect(opts);
    if (s == NATS_OK && options->is_retrying)
        s = natsOptions_SetRetryOnFailedConnect(opts, true, ignore_connected, NULL);
    if (s == NATS_OK)
        s = natsConnection_Connect(&conn->nc, opts);
    natsOptions_Destroy(opts);
    if (s == NATS_OK || s == NATS_NOT_YET_CONNECTED) {
        *out = conn;
        return NULL;
    }
    char what[600];
    snprintf(what, sizeof what, "cannot connect to NATS at %s", conn->url);
    code = ph_nats_fail(s, err, what);
    free(conn);
    return code;
}

ph_nats_conn *ph_nats_retain(ph_nats_conn *conn) {
    atomic_fetch_add(&conn->refs, 1);
    return conn;
}

void ph_nats_release(ph_nats_conn *conn) {
    if (!conn || atomic_fetch_sub(&conn->refs, 1) > 1)
        return;
    natsConnection_Close(conn->nc);
    ph_nats_free_ended(conn->nc);
    natsConnection_Destroy(conn->nc);
    free(conn);
}

void ph_nats_close(ph_nats_conn *conn) {
    natsConnection_Close(conn->nc);
}

natsConnection *ph_nats_raw(const ph_nats_conn *conn) {
    return conn->nc;
}

const char *ph_nats_url(const ph_nats_conn *conn) {
    return conn->url;
}

void ph_nats_share(ph_nats_conn *conn) {
    ph_nats_conn *mine = conn ? ph_nats_retain(conn) : NULL;
    pthread_mutex_lock(&share_lock);
    ph_nats_conn *old = shared;
    shared = mine;
    pthread_mutex_unlock(&share_lock);
    ph_nats_release(old);
}

ph_nats_conn *ph_nats_shared(void) {
    pthread_mutex_lock(&share_lock);
    ph_nats_conn *conn = shared ? ph_nats_retain(shared) : NULL;
    pthread_mutex_unlock(&share_lock);
    return conn;
}
