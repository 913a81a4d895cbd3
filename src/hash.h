/* The hash of a text (FNV-1a), for tables by key. */
#ifndef PH_HASH_H
#define PH_HASH_H

#include <stdint.h>

/* Goes on from another hash: for keys of several parts. */
static inline uint32_t ph_hash_more(uint32_t h, const char *text) {
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 16777619u;
    return h;
}

static inline uint32_t ph_hash(const char *text) {
    return ph_hash_more(2166136261u, text);
}

#endif
