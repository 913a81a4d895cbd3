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
/* Requests (uv_queue_work) of C on this thread's loop, so that luv's can be told from them. */
void ph_foreign_request(int change); /* +1 when one starts, -1 when it is answered */
unsigned ph_foreign_requests(void);
bool ph_foreign_is(const uv_handle_t *handle); /* true for a handle that was marked */

#endif
