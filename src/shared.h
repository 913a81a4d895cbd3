/* The process-wide table behind host.shared (src/bind/shared.c), for other C files. */
#ifndef PH_SHARED_H
#define PH_SHARED_H

#include <stddef.h>

/* Calls fn for each live key that starts with prefix and holds a string, in the order of the keys, with copies
 * that are gone after the call. No lock is held during fn. Any thread. */
void ph_shared_each(const char *prefix, void (*fn)(void *ctx, const char *key, const char *value, size_t len),
                    void *ctx);

/* Sets a key to a text, or with NULL deletes it. Any thread. */
void ph_shared_set(const char *key, const char *value);
/* The same with len bytes. */
void ph_shared_put(const char *key, const char *value, size_t len);

#endif
