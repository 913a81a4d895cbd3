/* uv handles that C owns on a loop which luv also uses.
 *
 * uv.walk of luv 1.44 takes every handle of the loop for one of its own and follows handle->data. Our handles
 * therefore carry a stand-in that makes the walk pass over them. Mark each C handle right after its uv_*_init,
 * and find your struct by offset (container_of), never through handle->data.
 */
#ifndef PH_FOREIGN_H
#define PH_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#define PH_CONTAINER(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

void ph_foreign_mark(uv_handle_t *handle);
bool ph_foreign_is(const uv_handle_t *handle); /* true for a handle that was marked */

#endif
