/* Reads an object of the Object Store chunk by chunk on the calling thread (CONTRACT 8.7): several requests in flight,
 * the next ones sent before the pieces at hand are used; a few megabytes at most are in memory. The last piece is given
 * only when size and digest are right. */
#ifndef PH_HTTPD_OBJREAD_H
#define PH_HTTPD_OBJREAD_H

#include "host.h"
#include <nats/nats.h>

/* Which object: its metadata was read by Lua (pyoco.nats.objects, Store:source). */
typedef struct ph_object_source {
    char bucket[128]; /* A-Z a-z 0-9 _ - */
    char nuid[128];   /* the same letters */
    uint64_t size, chunks;
    bool has_sha256;
    unsigned char sha256[32];
    bool is_direct; /* the stream allows direct reads */
} ph_object_source;

typedef struct ph_objread ph_objread;

/* nc is borrowed for the reader's life. Returns NULL and *out, or a code and err. */
const char *ph_objread_open(ph_objread **out, natsConnection *nc, const ph_object_source *source, ph_error *err);
/* The next piece, valid until the next call; *len 0 at the end. Returns NULL, or a code and err: PH_TIMEOUT and
 * PH_UNAVAILABLE (NATS), PH_NOT_FOUND (a chunk is gone: the object was deleted or replaced), PH_INTERNAL (damaged). */
const char *ph_objread_next(ph_objread *r, const char **piece, size_t *len, ph_error *err);
void ph_objread_close(ph_objread *r); /* NULL is fine */

#endif
