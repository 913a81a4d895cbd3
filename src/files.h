/* A set of watched files (inotify): says when one of them was saved, whatever way an editor saves. */
#ifndef PH_FILES_H
#define PH_FILES_H

#include "host.h"

typedef struct ph_files ph_files;

ph_files *ph_files_new(ph_error *err);
void ph_files_free(ph_files *files);

/* Adds a file (and, when it is a link, its target). Adding it again costs little. Any thread. */
void ph_files_add(ph_files *files, const char *path);

/* The descriptor that becomes readable on any event of a watched folder. */
int ph_files_fd(const ph_files *files);
bool ph_files_pending(const ph_files *files); /* whether it is readable now */

/* Takes all events that have arrived. True when a watched file was saved; or, with any_lua, when any *.lua file
 * of their folders was (after a failed load the culprit may be a file that nobody managed to read). */
bool ph_files_drain(ph_files *files, bool any_lua);

#endif
