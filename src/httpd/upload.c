/* Forms with a large file: POST /wheels. The app is asked before the body is read (ph_httpd_admit: route, key, limit);
 * then the file goes to disk as it arrives, into a file without a name, and the handler gets that. Small parts stay in
 * memory. A form that fits into the usual limit of bodies takes the usual way. */
#include "form.h"
#include "httpd.h"
#include "log.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BUFFER_BYTES 262144
#define KEPT_BYTES 65536        /* of all parts but the file, their heads included */
#define AROUND_BYTES 1048576    /* the most that a body has beside its file */
#define DISK_RESERVE (64 << 20) /* bytes that an upload leaves free */
#define START_SEC 60.0          /* an upload may be slow for so long, then it has to keep up with */
#define MIN_RATE 50000.0        /* so many bytes per second on the whole */
#define RETRY "retry-after: 5\r\n"

typedef struct receiver {
    ph_exchange *x;
    ph_upload *upload;
    EVP_MD_CTX *sha;
    size_t kept;
    bool in_file, had_file;
    int status; /* why the sink has stopped; detail says it in words */
    const char *detail;
} receiver;

static bool stop(receiver *r, int status, const char *detail) {
    r->status = status;
    r->detail = detail;
    return false;
}

/* ---- a part's head: only whether it is the file is asked here ---- */

/* The value of name= in a content-disposition line is `name`. */
static bool line_names(const char *line, size_t len, const char *name) {
    size_t n = strlen(name);
    for (const char *p = line, *end = line + len; (p = memmem(p, (size_t)(end - p), "name=", 5)); p++) {
        if (p[-1] != ' ' && p[-1] != ';' && p[-1] != '\t')
            continue;
        const char *value = p + 5;
        bool is_quoted = value < end && *value == '"';
        value += is_quoted;
        if ((size_t)(end - value) < n || memcmp(value, name, n) != 0)
            continue;
        if (value + n == end ? !is_quoted : strchr(is_quoted ? "\"" : "; \t", value[n]) != NULL)
            return true;
    }
    return false;
}

static bool is_named(const char *head, size_t len, const char *name) {
    static const char field[] = "content-disposition:";
    for (const char *line = head, *end = head + len; line < end;) {
        const char *eol = memchr(line, '\r', (size_t)(end - line));
        size_t n = (size_t)((eol ? eol : end) - line);
        if (n >= strlen(field) && strncasecmp(line, field, strlen(field)) == 0 &&
            line_names(line + strlen(field), n - strlen(field), name))
            return true;
        line += n + 1;
        line += line < end && *line == '\n';
    }
    return false;
}

/* ---- what the form says as it arrives ---- */

static bool keep(receiver *r, char **to, size_t *len, const char *bytes, size_t n) {
    if ((r->kept += n) > KEPT_BYTES)
        return stop(r, 413, "the form's fields are too large");
    char *grown = realloc(*to, *len + n + 1);
    if (!grown)
        return stop(r, 503, "out of memory");
    memcpy(grown + *len, bytes, n);
    *to = grown;
    *len += n;
    return true;
}

static bool on_head(void *ctx, const char *head, size_t len) {
    receiver *r = ctx;
    ph_upload *u = r->upload;
    if (u->count == PH_UPLOAD_PARTS)
        return stop(r, 422, "multipart body: more than 100 parts");
    ph_upload_part *part = &u->parts[u->count++];
    r->in_file = part->is_file = is_named(head, len, u->part) && memmem(head, len, "filename=", 9); /* else a text */
    if (r->in_file && r->had_file)
        return stop(r, 422, "multipart body: the file is there twice");
    r->had_file = r->had_file || r->in_file;
    return keep(r, &part->head, &part->head_len, head, len);
}

static bool write_all(receiver *r, const char *bytes, size_t n) {
    while (n > 0) {
        ssize_t done = write(r->upload->fd, bytes, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            ph_log("ERROR", "pyoco.http", "upload: cannot write to %s: %s", r->x->server->spool_dir, strerror(errno));
            return stop(r, 503, "no room for this upload on the gateway's disk");
        }
        bytes += done;
        n -= (size_t)done;
    }
    return true;
}

static bool on_data(void *ctx, const char *bytes, size_t n) {
    receiver *r = ctx;
    ph_upload *u = r->upload;
    ph_upload_part *part = &u->parts[u->count - 1];
    if (!part->is_file)
        return keep(r, &part->data, &part->len, bytes, n);
    part->len += n;
    if (u->max_bytes && part->len > u->max_bytes)
        return stop(r, 413, u->too_large);
    EVP_DigestUpdate(r->sha, bytes, n);
    return write_all(r, bytes, n);
}

static bool on_end(void *ctx) {
    receiver *r = ctx;
    unsigned char digest[32];
    if (r->in_file) {
        EVP_DigestFinal_ex(r->sha, digest, NULL);
        for (int i = 0; i < 32; i++)
            sprintf(r->upload->sha256 + 2 * i, "%02x", digest[i]);
    }
    r->in_file = false;
    return true;
}

/* ---- the body ---- */

/* A file that has no name from the beginning, or from now on. */
static int open_spool(const char *dir) {
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    char path[1100];
    snprintf(path, sizeof path, "%s/pyoco-upload-XXXXXX", dir);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

static bool has_room(int fd, long long declared) {
    struct statvfs fs;
    if (fstatvfs(fd, &fs) != 0)
        return true;
    uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    return free_bytes > DISK_RESERVE + (uint64_t)(declared > 0 ? declared : 0);
}

/* Refuses what has come so far, with a line in the log: no handler will write one. */
static int refuse(receiver *r, int status, const char *detail) {
    ph_log("INFO", "pyoco.http", "%s %s: %d %s", r->x->info->request_method, r->x->path, status, detail);
    if (status == 400 || status == 408) /* there is nothing more to read */
        return ph_httpd_error(r->x->conn, status, detail, "", true);
    return ph_httpd_refuse(r->x, status, detail, status == 503 ? RETRY : "");
}

/* Reads the body into the form. 0 = it is complete, else the status that was answered. */
static int read_form(receiver *r, ph_form *form, char *buffer) {
    ph_exchange *x = r->x;
    double start = ph_monotonic(), received = 0;
    ph_form_status status = PH_FORM_MORE;
    long long declared = x->info->content_length;
    double limit = r->upload->max_bytes ? (double)r->upload->max_bytes + AROUND_BYTES : 0;
    while (status == PH_FORM_MORE || status == PH_FORM_DONE) {
        int n = mg_read(x->conn, buffer, BUFFER_BYTES);
        if (n < 0)
            return refuse(r, 400, "broken body");
        if (n == 0)
            break;
        received += n;
        if (ph_monotonic() - start > START_SEC + received / MIN_RATE)
            return refuse(r, 408, "body took too long");
        if (limit > 0 && received > limit) /* whatever stands around the file */
            return refuse(r, 413, r->upload->too_large);
        if (status == PH_FORM_MORE) /* what follows the last boundary counts for nothing */
            status = ph_form_feed(form, buffer, (size_t)n);
    }
    if (status == PH_FORM_STOPPED)
        return refuse(r, r->status, r->detail);
    if (status != PH_FORM_BAD && declared > 0 && received < (double)declared)
        return refuse(r, 408, "body incomplete: nothing came for too long");
    return status == PH_FORM_DONE ? 0 : refuse(r, 422, ph_form_fault(form));
}

static int receive(ph_exchange *x) {
    ph_upload *u = x->upload;
    receiver r = {.x = x, .upload = u, .sha = EVP_MD_CTX_new()};
    ph_form_sink sink = {on_head, on_data, on_end, &r};
    ph_form *form = ph_form_new(u->boundary, &sink);
    char *buffer = malloc(BUFFER_BYTES);
    int status;
    u->fd = open_spool(x->server->spool_dir);
    if (u->fd < 0)
        ph_log("ERROR", "pyoco.http", "upload: cannot make a file in %s: %s", x->server->spool_dir, strerror(errno));
    if (!form || !buffer || !r.sha || EVP_DigestInit_ex(r.sha, EVP_sha256(), NULL) != 1) {
        status = ph_httpd_error(x->conn, 503, "out of memory", RETRY, true);
    } else if (u->fd < 0 || !has_room(u->fd, x->info->content_length)) {
        status = ph_httpd_refuse(x, 503, "no room for this upload on the gateway's disk", RETRY);
    } else {
        ph_httpd_continue(x);
        status = read_form(&r, form, buffer);
    }
    EVP_MD_CTX_free(r.sha);
    ph_form_free(form);
    free(buffer);
    return status;
}

/* ---- whether it is an upload ---- */

/* A form that is, or may be, larger than what is read into memory. */
static bool is_candidate(const ph_exchange *x) {
    const char *type = mg_get_header(x->conn, "Content-Type");
    if (!type || strncasecmp(type, "multipart/form-data", 19) != 0)
        return false;
    return x->info->content_length > (long long)x->server->options.max_body_bytes ||
           mg_get_header(x->conn, "Transfer-Encoding") != NULL;
}

/* The app's refusal, made before the body was read. */
static int pass_refusal(ph_exchange *x) {
    mg_disable_connection_keep_alive(x->conn);
    mg_write(x->conn, x->out, x->out_len);
    ph_httpd_discard(x);
    return 400;
}

static int admit(ph_exchange *x) {
    bool keep_alive = x->keep_alive;
    x->keep_alive = false; /* a refusal ends the connection */
    int status = ph_httpd_call(x, ph_httpd_admit);
    if (status)
        return status;
    if (x->out_len)
        return pass_refusal(x);
    x->keep_alive = keep_alive;
    return 0;
}

int ph_httpd_receive(ph_exchange *x) {
    ph_httpd *server = x->server;
    if (!is_candidate(x))
        return 0;
    int status = admit(x);
    if (status || !x->upload)
        return status;
    /* The place is given back when the exchange ends: until then the file takes room on the disk. */
    x->upload->has_place = true;
    if (atomic_fetch_add(&server->uploads, 1) >= server->options.max_uploads) {
        atomic_fetch_add(&server->refused, 1);
        return ph_httpd_refuse(x, 503, "too many uploads at once, try again", RETRY);
    }
    status = receive(x);
    return status ? status : -1;
}

void ph_httpd_upload_free(ph_exchange *x) {
    ph_upload *u = x->upload;
    if (!u)
        return;
    if (u->has_place)
        atomic_fetch_sub(&x->server->uploads, 1);
    for (int i = 0; i < u->count; i++) {
        free(u->parts[i].head);
        free(u->parts[i].data);
    }
    if (u->fd >= 0)
        close(u->fd);
    free(u);
}
