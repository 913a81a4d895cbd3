/* GET /health: composed here, so that it answers with NATS down, with all VMs busy and with a broken script. */
#include "httpd.h"
#include "../hub.h"
#include "../tail.h"
#include "nats.h"
#include "shared.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct text {
    char *data;
    size_t len;
    FILE *file;
} text;

static void put_string(FILE *f, const char *s) {
    fputc('"', f);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            fprintf(f, "\\%c", c);
        else if (c < 0x20)
            fprintf(f, "\\u%04x", c);
        else
            fputc(c, f);
    }
    fputc('"', f);
}

/* A shared key "health.<name>" becomes the field <name>; its value is JSON text already. */
static void put_field(void *ctx, const char *key, const char *value, size_t len) {
    FILE *f = ((text *)ctx)->file;
    fputc(',', f);
    put_string(f, key + strlen("health."));
    fputc(':', f);
    fwrite(len ? value : "null", 1, len ? len : 4, f);
}

static const char *nats_status(void) {
    ph_nats_conn *conn = ph_nats_shared();
    if (!conn)
        return "none";
    natsConnStatus status = natsConnection_Status(ph_nats_raw(conn));
    ph_nats_release(conn);
    switch (status) {
    case NATS_CONN_STATUS_CONNECTED:
        return "connected";
    case NATS_CONN_STATUS_CLOSED:
        return "closed";
    default:
        return "reconnecting";
    }
}

int ph_httpd_health(ph_httpd *server, struct mg_connection *conn) {
    text t = {0};
    if (!(t.file = open_memstream(&t.data, &t.len)))
        return ph_httpd_error(conn, 503, "out of memory", "", true);
    ph_pool_stats s = ph_pool_get_stats(server->pool);
    char *error = malloc(4096);
    bool broken = error && ph_pool_reload_error(server->pool, error, 4096);
    fprintf(t.file, "{\"status\":\"ok\",\"version\":\"" PH_VERSION "\",\"pid\":%d,\"uptime_sec\":%.1f,\"script_version\":%u,\"reload_error\":",
            (int)getpid(), ph_monotonic() - server->started_at, s.version);
    if (broken)
        put_string(t.file, error);
    else
        fputs("null", t.file);
    fprintf(t.file, ",\"stopping\":%s,\"requests\":%llu,\"in_flight\":%d,\"streams\":%d,\"uploads\":%d,\"vms\":%d,\"vms_busy\":%d",
            atomic_load(&server->stopping) ? "true" : "false", atomic_load(&server->requests),
            atomic_load(&server->in_flight), atomic_load(&server->streams),
            atomic_load(&server->uploads), s.vms, s.busy);
    fprintf(t.file, ",\"nats\":\"%s\"", nats_status());
    if (server->hub)
        fprintf(t.file, ",\"runs_tail\":\"%s\"", ph_hub_is_live(server->hub) ? "live" : "waiting");
    double behind;
    if (ph_clock_offset(&behind))
        fprintf(t.file, ",\"clock_skew_sec\":%.3f", -behind);
    else
        fputs(",\"clock_skew_sec\":null", t.file);
    ph_shared_each("health.", put_field, &t);
    fputc('}', t.file);
    fclose(t.file);
    free(error);
    int status = ph_httpd_json(conn, 200, "cache-control: no-store\r\n", t.data, t.len, false);
    free(t.data);
    return status;
}
