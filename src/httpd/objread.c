/* See objread.h. Chunks are read by sequence ("the first message of this subject at or after n"), not by a consumer:
 * nothing is left behind on the server. Sequences of one object mostly follow each other; where they do not, several
 * requests are answered by one message, and each counts once. (pyoco.nats.object_chunks does the same in Lua.) */
#include "objread.h"
#include "jsapi.h"
#include "nats.h"
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IN_FLIGHT 16
#define IN_FLIGHT_BYTES (4 << 20)
#define TIMEOUT_MS 10000
#define SLICE_MS 100 /* how often the connection is looked at while waiting */

typedef struct piece {
    natsMsg *msg;  /* owned */
    char *decoded; /* owned; NULL when data is the message's own */
    const char *data;
    size_t len;
    uint64_t seq;
} piece;

struct ph_objread {
    natsConnection *nc;
    natsSubscription *sub;
    ph_object_source source;
    char inbox[80], request[200], chunk_subject[300];
    EVP_MD_CTX *sha;
    uint64_t at;           /* the next sequence to ask for */
    uint64_t found, given; /* bytes of pieces that were found, that were given out */
    uint64_t chunks;       /* found */
    int window;            /* requests at once */
    int asked;             /* requests without an answer yet */
    piece pieces[IN_FLIGHT];
    int count, next; /* pieces at hand; the next one to give */
};

/* ---- requests ---- */

static const char *ask(ph_objread *r, ph_error *err) {
    uint64_t left = r->source.chunks > r->chunks ? r->source.chunks - r->chunks : 1;
    int count = (uint64_t)r->window < left ? r->window : (int)left;
    for (int i = 0; i < count; i++) {
        char reply[96], body[400];
        snprintf(reply, sizeof reply, "%s.%d", r->inbox, i);
        int n = snprintf(body, sizeof body, "{\"seq\":%llu,\"next_by_subj\":\"%s\"}",
                         (unsigned long long)r->at + (unsigned)i, r->chunk_subject);
        natsStatus s = natsConnection_PublishRequest(r->nc, r->request, reply, body, n);
        if (s != NATS_OK)
            return ph_nats_fail(s, err, r->request);
    }
    r->asked = r->window = count;
    return NULL;
}

static void drop_pieces(ph_objread *r) {
    for (int i = 0; i < r->count; i++) {
        natsMsg_Destroy(r->pieces[i].msg);
        free(r->pieces[i].decoded);
    }
    memset(r->pieces, 0, sizeof r->pieces);
    r->count = r->next = 0;
}

/* Fills replies[0..asked), each owned by the caller, or fails. */
static const char *collect(ph_objread *r, natsMsg **replies, ph_error *err) {
    int64_t deadline = nats_Now() + TIMEOUT_MS;
    for (int missing = r->asked; missing > 0;) {
        natsMsg *msg = NULL;
        int64_t left = deadline - nats_Now();
        natsStatus s = natsSubscription_NextMsg(&msg, r->sub, left < SLICE_MS ? (left > 0 ? left : 1) : SLICE_MS);
        if (s == NATS_TIMEOUT && left > SLICE_MS && natsConnection_Status(r->nc) == NATS_CONN_STATUS_CONNECTED)
            continue;
        if (s == NATS_TIMEOUT && left > SLICE_MS) /* what was asked is lost */
            s = NATS_CONNECTION_DISCONNECTED;
        if (s != NATS_OK)
            return ph_nats_fail(s, err, r->request);
        const char *dot = strrchr(natsMsg_GetSubject(msg), '.');
        int i = dot ? atoi(dot + 1) : -1;
        if (i < 0 || i >= r->asked || replies[i]) {
            natsMsg_Destroy(msg);
            continue;
        }
        replies[i] = msg;
        missing--;
    }
    r->asked = 0;
    return NULL;
}

/* ---- answers ---- */

/* A direct answer: the message itself. False: there is none at or after that sequence. */
static const char *read_direct(piece *p, bool *is_there, ph_error *err) {
    const char *status = NULL, *seq = NULL;
    if (natsMsgHeader_Get(p->msg, "Status", &status) == NATS_OK && status) {
        *is_there = false;
        if (strcmp(status, "404") == 0)
            return NULL;
        snprintf(err->text, sizeof err->text, "the NATS server answers %.40s to a read of a chunk", status);
        return PH_UNAVAILABLE;
    }
    *is_there = true;
    if (natsMsgHeader_Get(p->msg, "Nats-Sequence", &seq) != NATS_OK || !seq) {
        snprintf(err->text, sizeof err->text, "a chunk came without its sequence");
        return PH_INTERNAL;
    }
    p->seq = strtoull(seq, NULL, 10);
    p->data = natsMsg_GetData(p->msg);
    p->len = (size_t)natsMsg_GetDataLength(p->msg);
    return NULL;
}

static const char *decode(const cJSON *message, piece *p, ph_error *err) {
    const char *text = ph_js_string(message, "data");
    size_t len = strlen(text);
    p->seq = ph_js_number(message, "seq");
    if (!(p->decoded = malloc(len / 4 * 3 + 4))) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return PH_INTERNAL;
    }
    int n = EVP_DecodeBlock((unsigned char *)p->decoded, (const unsigned char *)text, (int)len);
    for (size_t i = len; n > 0 && i > 0 && text[i - 1] == '=' && len - i < 2; i--)
        n--;
    if (n < 0) {
        snprintf(err->text, sizeof err->text, "a chunk is not base64");
        return PH_INTERNAL;
    }
    p->data = p->decoded;
    p->len = (size_t)n;
    return NULL;
}

/* The answer of a stream without direct reads: JSON with the message in it. */
static const char *read_json(piece *p, bool *is_there, ph_error *err) {
    cJSON *answer = cJSON_ParseWithLength(natsMsg_GetData(p->msg), (size_t)natsMsg_GetDataLength(p->msg));
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(answer, "message");
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(answer, "error");
    const char *code = NULL;
    *is_there = message != NULL;
    if (message) {
        code = decode(message, p, err);
    } else if (!error || ph_js_number(error, "code") != 404) {
        snprintf(err->text, sizeof err->text, "the NATS server does not give a chunk: %.200s",
                 ph_js_string(error, "description"));
        code = PH_UNAVAILABLE;
    }
    cJSON_Delete(answer);
    return code;
}

/* Takes an answer: as the next piece, or not, when it is no news. */
static const char *take(ph_objread *r, natsMsg *msg, ph_error *err) {
    piece *p = &r->pieces[r->count];
    *p = (piece){.msg = msg};
    r->count++; /* what it owns is freed with the others */
    bool is_there = false;
    const char *code = r->source.is_direct ? read_direct(p, &is_there, err) : read_json(p, &is_there, err);
    if (code)
        return code;
    if (!is_there || p->seq < r->at || r->found >= r->source.size) {
        natsMsg_Destroy(p->msg);
        free(p->decoded);
        *p = (piece){0};
        r->count--;
        return NULL;
    }
    r->at = p->seq + 1;
    r->found += p->len;
    r->chunks++;
    return NULL;
}

static const char *damaged(const ph_objread *r, ph_error *err, const char *why) {
    snprintf(err->text, sizeof err->text, "object %s of bucket %s: %s", r->source.nuid, r->source.bucket, why);
    return PH_INTERNAL;
}

/* Brings the next pieces, and asks for those after them. */
static const char *bring(ph_objread *r, ph_error *err) {
    natsMsg *replies[IN_FLIGHT] = {0};
    int asked = r->asked;
    drop_pieces(r);
    const char *code = collect(r, replies, err);
    for (int i = 0; i < asked; i++) {
        if (!code && replies[i])
            code = take(r, replies[i], err);
        else
            natsMsg_Destroy(replies[i]);
    }
    if (code)
        return code;
    if (r->count == 0) {
        damaged(r, err, "a chunk is missing");
        return PH_NOT_FOUND;
    }
    uint64_t average = r->found / r->chunks + 1, fit = IN_FLIGHT_BYTES / average + 1; /* others' chunks may be large */
    r->window = r->count == asked ? (4 * asked < IN_FLIGHT ? 4 * asked : IN_FLIGHT) : r->count;
    if ((uint64_t)r->window > fit)
        r->window = (int)fit;
    return r->found < r->source.size ? ask(r, err) : NULL;
}

/* ---- the interface ---- */

static const char *open_inbox(ph_objread *r, ph_error *err) {
    natsInbox *unique = NULL;
    char all[96];
    natsStatus s = natsInbox_Create(&unique);
    if (s == NATS_OK) {
        snprintf(r->inbox, sizeof r->inbox, "%s", unique);
        natsInbox_Destroy(unique);
        snprintf(all, sizeof all, "%s.*", r->inbox);
        s = natsConnection_SubscribeSync(&r->sub, r->nc, all);
    }
    if (s != NATS_OK)
        return ph_nats_fail(s, err, "reading an object");
    natsSubscription_SetPendingLimits(r->sub, -1, -1);
    return NULL;
}

const char *ph_objread_open(ph_objread **out, natsConnection *nc, const ph_object_source *source, ph_error *err) {
    ph_objread *r = calloc(1, sizeof *r);
    *out = r;
    if (r) {
        r->nc = nc;
        r->source = *source;
        r->at = r->window = 1; /* where its first chunk is is not known */
        r->sha = EVP_MD_CTX_new();
    }
    if (!r || !r->sha || EVP_DigestInit_ex(r->sha, EVP_sha256(), NULL) != 1) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return PH_INTERNAL;
    }
    snprintf(r->request, sizeof r->request, "$JS.API.%s.OBJ_%s", source->is_direct ? "DIRECT.GET" : "STREAM.MSG.GET",
             source->bucket);
    snprintf(r->chunk_subject, sizeof r->chunk_subject, "$O.%s.C.%s", source->bucket, source->nuid);
    if (source->size == 0)
        return NULL;
    const char *code = open_inbox(r, err);
    return code ? code : ask(r, err);
}

/* Whether the piece that completes the object makes it what it should be. */
static const char *verify(ph_objread *r, ph_error *err) {
    unsigned char digest[32];
    if (r->given != r->source.size)
        return damaged(r, err, "it is damaged: it has more bytes than it should");
    EVP_DigestFinal_ex(r->sha, digest, NULL);
    if (r->source.has_sha256 && memcmp(digest, r->source.sha256, sizeof digest) != 0)
        return damaged(r, err, "it is damaged: its bytes do not have its digest");
    return NULL;
}

const char *ph_objread_next(ph_objread *r, const char **bytes, size_t *len, ph_error *err) {
    *len = 0;
    if (r->given >= r->source.size)
        return NULL;
    const char *code = r->next < r->count ? NULL : bring(r, err);
    if (code)
        return code;
    const piece *p = &r->pieces[r->next++];
    EVP_DigestUpdate(r->sha, p->data, p->len);
    r->given += p->len;
    if (r->given >= r->source.size && (code = verify(r, err)))
        return code;
    *bytes = p->data;
    *len = p->len;
    return NULL;
}

void ph_objread_close(ph_objread *r) {
    if (!r)
        return;
    drop_pieces(r);
    ph_nats_unsubscribe(r->nc, r->sub);
    EVP_MD_CTX_free(r->sha);
    free(r);
}
