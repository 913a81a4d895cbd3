/* Copies of KV buckets in the process-wide table (shared.h), kept up to date by a tail each: key -> value under
 * "mirror.<bucket>.<key>". Reading one costs no request; how fresh it is, ph_mirror_age_ms says. */
#ifndef PH_MIRROR_H
#define PH_MIRROR_H

#include "tail.h"

typedef struct ph_mirror ph_mirror;

/* Starts copying bucket on conn, of which the mirror takes a reference. NULL and err on failure. */
ph_mirror *ph_mirror_start(ph_nats_conn *conn, const char *bucket, ph_error *err);
/* Stops and takes the copies out of the table. NULL is fine. */
void ph_mirror_stop(ph_mirror *mirror);
/* Milliseconds since the server last confirmed that the copy of bucket is complete; INT64_MAX while it is not, or when
 * nobody copies the bucket. Any thread. */
int64_t ph_mirror_age_ms(const char *bucket);

#endif
