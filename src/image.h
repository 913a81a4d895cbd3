/* An image: the Lua files that one version of a script consists of, as bytecode with its debug information.
 *
 * The first VM of a version reads files and records them; further VMs of that version load from the image, so that
 * all of them run the same code whatever is saved meanwhile, and start faster. Counted references; any thread. */
#ifndef PH_IMAGE_H
#define PH_IMAGE_H

#include "host.h"

typedef struct ph_image ph_image;

ph_image *ph_image_new(void); /* NULL when out of memory */
ph_image *ph_image_retain(ph_image *image);
void ph_image_release(ph_image *image); /* NULL is fine */

/* Pushes the chunk of the file path as luaL_loadfile does, from the image when it is there. Returns Lua's status;
 * on failure the message (file:line) is pushed instead. */
int ph_image_load(lua_State *L, ph_image *image, const char *path);

/* Makes require, loadfile and dofile of this VM load through image (borrowed; it must outlive the VM), and calls
 * on_file(ctx, path) for each file that Lua code loads, before it is read. May raise a Lua error. */
void ph_image_install(lua_State *L, ph_image *image, void (*on_file)(void *ctx, const char *path), void *ctx);

#endif
