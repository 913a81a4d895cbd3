/* host.archive: zip archives, read without extracting and written so that the same calls give the same bytes (a
 * loadable module with libarchive).
 *   open(path) -> reader | nil, message, "not_found" | "invalid" (no zip archive)
 *   reader:next() -> entry | nil at the end | nil, message, "invalid"   entry: { name, size, type, mode, encrypted }
 *        type: "file" "dir" "symlink" "hardlink" "other"; size: what the archive claims; mode: permission bits
 *   reader:entries() -> reader.next, reader   for `for`; damage ends the loop early: ask reader:fault() after it
 *   reader:fault() -> message | nil           what ended the entries before their end
 *   reader:read(max_bytes) -> bytes | nil, message, "too_large" | "invalid"   all of the current entry, its CRC checked
 *   reader:chunk() -> bytes | nil at the end | nil, message, "invalid"        its next piece, at most 64 KB
 *   reader:close()
 *   create(path) -> writer | nil, message, "internal"   replaces a file of that name
 *   writer:add(name, bytes [, mode]) -> true | nil, message, code   in the order of the calls, dated 1980-01-01 in every
 *        time zone. mode: 0644 unless given; its type bits make folders (0040000) and links (0120000, bytes: the target)
 *   writer:close() -> true | nil, message, "internal"   an archive that was not closed is damaged
 * Names are bytes, UTF-8 by intent, whatever the process's locale says; they are given as they stand in the archive:
 * whoever extracts checks them. Only the zip format is read, with no filter around it.
 * Ownership: a reader and a writer each own their libarchive handle. Threads: the VM's own. */
#include "host.h"
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#define READER "host.archive.reader"
#define WRITER "host.archive.writer"
#define CHUNK_BYTES 65536

int luaopen_host_archive(lua_State *L);

typedef struct handle {
    struct archive *a; /* NULL once closed */
    struct archive_entry *entry; /* the reader's current one, the archive's */
    bool is_ahead; /* the reader has an entry that `next` has not given yet */
    bool is_over, is_damaged;
    char fault[256];
} handle;

/* libarchive translates names by the thread's locale: in "C" it would spoil every UTF-8 name. */
static locale_t utf8;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_locale(void) {
    utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
}

static locale_t enter(void) {
    return utf8 ? uselocale(utf8) : (locale_t)0;
}

static void leave(locale_t before) {
    if (before)
        uselocale(before);
}

static handle *new_handle(lua_State *L, const char *class) {
    handle *h = lua_newuserdatauv(L, sizeof *h, 0);
    memset(h, 0, sizeof *h);
    luaL_setmetatable(L, class);
    return h;
}

static handle *check(lua_State *L, const char *class) {
    handle *h = luaL_checkudata(L, 1, class);
    luaL_argcheck(L, h->a, 1, "it is closed");
    return h;
}

static const char *reason(struct archive *a) {
    const char *text = archive_error_string(a);
    return text ? text : "unknown error";
}

/* --- reader --- */

static void keep_fault(handle *h) {
    snprintf(h->fault, sizeof h->fault, "%s", reason(h->a));
    h->is_damaged = h->is_over = true;
}

/* Goes to the next entry; false at the end or at damage. */
static bool advance(handle *h) {
    locale_t before = enter();
    int rc = archive_read_next_header(h->a, &h->entry);
    leave(before);
    if (rc == ARCHIVE_OK || rc == ARCHIVE_WARN)
        return true;
    h->entry = NULL;
    h->is_over = true;
    if (rc != ARCHIVE_EOF)
        keep_fault(h);
    return false;
}

static int l_open(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    handle *h = new_handle(L, READER);
    struct stat st;
    if (stat(path, &st) != 0)
        return ph_fail(L, PH_NOT_FOUND, "%s: %s", path, strerror(errno));
    h->a = archive_read_new();
    if (!h->a || archive_read_support_format_zip_seekable(h->a) != ARCHIVE_OK)
        return ph_fail(L, PH_INTERNAL, "%s: no zip reader", path);
    if (!S_ISREG(st.st_mode) || archive_read_open_filename(h->a, path, CHUNK_BYTES) != ARCHIVE_OK)
        return ph_fail(L, PH_INVALID, "%s: not a zip archive", path);
    h->is_ahead = advance(h);
    if (h->is_damaged)
        return ph_fail(L, PH_INVALID, "%s: not a zip archive, or damaged (%s)", path, h->fault);
    return 1;
}

static const char *type_of(struct archive_entry *entry) {
    if (archive_entry_hardlink(entry))
        return "hardlink";
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
        return "file";
    case AE_IFDIR:
        return "dir";
    case AE_IFLNK:
        return "symlink";
    default:
        return "other";
    }
}

static int push_entry(lua_State *L, struct archive_entry *entry) {
    locale_t before = enter();
    const char *name = archive_entry_pathname(entry);
    leave(before);
    lua_createtable(L, 0, 5);
    lua_pushstring(L, name ? name : "");
    lua_setfield(L, -2, "name");
    lua_pushinteger(L, archive_entry_size(entry));
    lua_setfield(L, -2, "size");
    lua_pushstring(L, type_of(entry));
    lua_setfield(L, -2, "type");
    lua_pushinteger(L, archive_entry_perm(entry));
    lua_setfield(L, -2, "mode");
    lua_pushboolean(L, archive_entry_is_encrypted(entry));
    lua_setfield(L, -2, "encrypted");
    return 1;
}

static int l_next(lua_State *L) {
    handle *h = check(L, READER);
    bool found = h->is_ahead || (!h->is_over && advance(h));
    h->is_ahead = false;
    if (found)
        return push_entry(L, h->entry);
    return h->is_damaged ? ph_fail(L, PH_INVALID, "%s", h->fault) : 0;
}

static int l_entries(lua_State *L) {
    check(L, READER);
    lua_pushcfunction(L, l_next);
    lua_pushvalue(L, 1);
    return 2;
}

static int l_fault(lua_State *L) {
    handle *h = check(L, READER);
    if (!h->is_damaged)
        return 0;
    lua_pushstring(L, h->fault);
    return 1;
}

/* The next bytes of the current entry; 0 at its end, -1 when it is damaged (a wrong CRC or length is, too). */
static la_ssize_t read_some(handle *h, void *out, size_t size) {
    la_ssize_t n = archive_read_data(h->a, out, size);
    if (n < 0)
        snprintf(h->fault, sizeof h->fault, "%s", reason(h->a));
    return n < 0 ? -1 : n;
}

static int l_read(lua_State *L) {
    handle *h = check(L, READER);
    lua_Integer max = luaL_checkinteger(L, 2);
    luaL_argcheck(L, h->entry && !h->is_ahead, 1, "no current entry: call next first");
    size_t total = 0;
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (;;) {
        char *out = luaL_prepbuffsize(&b, CHUNK_BYTES);
        la_ssize_t n = read_some(h, out, CHUNK_BYTES);
        if (n < 0)
            return ph_fail(L, PH_INVALID, "%s", h->fault);
        if (n == 0)
            break;
        luaL_addsize(&b, (size_t)n);
        total += (size_t)n;
        if (max < 0 || total > (size_t)max)
            return ph_fail(L, PH_TOO_LARGE, "the entry is larger than %lld bytes", (long long)max);
    }
    luaL_pushresult(&b);
    return 1;
}

static int l_chunk(lua_State *L) {
    handle *h = check(L, READER);
    luaL_argcheck(L, h->entry && !h->is_ahead, 1, "no current entry: call next first");
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, CHUNK_BYTES);
    la_ssize_t n = read_some(h, out, CHUNK_BYTES);
    if (n < 0)
        return ph_fail(L, PH_INVALID, "%s", h->fault);
    if (n == 0)
        return 0;
    luaL_pushresultsize(&b, (size_t)n);
    return 1;
}

static int l_reader_close(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, READER);
    if (h->a)
        archive_read_free(h->a);
    h->a = NULL;
    h->entry = NULL;
    return 0;
}

/* --- writer --- */

static int l_create(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    handle *h = new_handle(L, WRITER);
    h->a = archive_write_new();
    if (!h->a || archive_write_set_format_zip(h->a) != ARCHIVE_OK ||
        archive_write_zip_set_compression_deflate(h->a) != ARCHIVE_OK)
        return ph_fail(L, PH_INTERNAL, "%s: no zip writer", path);
    archive_write_set_bytes_in_last_block(h->a, 1); /* nothing after the archive's end */
    if (archive_write_open_filename(h->a, path) != ARCHIVE_OK)
        return ph_fail(L, PH_INTERNAL, "%s: %s", path, reason(h->a));
    return 1;
}

/* One entry. Its time is left out: then libarchive writes the format's first day, which depends on no time zone. */
static bool write_entry(struct archive *a, const char *name, const char *bytes, size_t len, mode_t mode) {
    struct archive_entry *entry = archive_entry_new();
    if (!entry)
        return false;
    bool is_link = S_ISLNK(mode);
    archive_entry_set_pathname(entry, name);
    archive_entry_set_mode(entry, mode);
    archive_entry_set_size(entry, S_ISREG(mode) ? (la_int64_t)len : 0);
    if (is_link)
        archive_entry_set_symlink(entry, bytes);
    bool ok = archive_write_header(a, entry) == ARCHIVE_OK;
    archive_entry_free(entry);
    for (size_t done = 0; ok && S_ISREG(mode) && done < len;) {
        la_ssize_t n = archive_write_data(a, bytes + done, len - done);
        ok = n > 0;
        done += ok ? (size_t)n : 0;
    }
    return ok && archive_write_finish_entry(a) == ARCHIVE_OK;
}

static int l_add(lua_State *L) {
    handle *h = check(L, WRITER);
    size_t name_len, len;
    const char *name = luaL_checklstring(L, 2, &name_len), *bytes = luaL_checklstring(L, 3, &len);
    mode_t mode = (mode_t)luaL_optinteger(L, 4, 0644);
    if (!(mode & S_IFMT))
        mode |= S_IFREG;
    if (name_len == 0 || strlen(name) != name_len)
        return ph_fail(L, PH_INVALID, "an entry's name is empty or has a NUL");
    locale_t before = enter();
    bool ok = write_entry(h->a, name, bytes, len, mode);
    leave(before);
    if (!ok) {
        h->is_damaged = true;
        return ph_fail(L, PH_INTERNAL, "%s: %s", name, reason(h->a));
    }
    lua_pushboolean(L, 1);
    return 1;
}

static int l_writer_close(lua_State *L) {
    handle *h = luaL_checkudata(L, 1, WRITER);
    struct archive *a = h->a;
    h->a = NULL;
    if (!a)
        return 0;
    bool ok = archive_write_close(a) == ARCHIVE_OK && !h->is_damaged;
    snprintf(h->fault, sizeof h->fault, "%s", reason(a));
    archive_write_free(a);
    if (!ok)
        return ph_fail(L, PH_INTERNAL, "the archive is not whole: %s", h->fault);
    lua_pushboolean(L, 1);
    return 1;
}

static const luaL_Reg reader_methods[] = {{"next", l_next},   {"entries", l_entries}, {"fault", l_fault}, {"read", l_read},
                                          {"chunk", l_chunk}, {"close", l_reader_close}, {NULL, NULL}};
static const luaL_Reg reader_meta[] = {{"__gc", l_reader_close}, {"__close", l_reader_close}, {NULL, NULL}};
static const luaL_Reg writer_methods[] = {{"add", l_add}, {"close", l_writer_close}, {NULL, NULL}};
static const luaL_Reg writer_meta[] = {{"__gc", l_writer_close}, {"__close", l_writer_close}, {NULL, NULL}};
static const luaL_Reg functions[] = {{"open", l_open}, {"create", l_create}, {NULL, NULL}};

int luaopen_host_archive(lua_State *L) {
    pthread_once(&once, make_locale);
    ph_class(L, READER, reader_methods, reader_meta);
    ph_class(L, WRITER, writer_methods, writer_meta);
    luaL_newlib(L, functions);
    return 1;
}
