/* GET and HEAD of /static/<path>: files of one folder. CivetWeb sends them (ranges, etag, If-Modified-Since). */
#include "httpd.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Plain names only: no escapes, no hidden files, nothing that climbs. */
static bool is_safe(const char *path) {
    if (!*path || *path == '/' || strlen(path) > 512)
        return false;
    for (const char *c = path; *c; c++) {
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/", *c))
            return false;
        if (*c == '.' && (c == path || c[-1] == '/'))
            return false;
    }
    return true;
}

int ph_httpd_static(ph_httpd *server, struct mg_connection *conn, const char *path) {
    char file[1600];
    struct stat st;
    const char *method = mg_get_request_info(conn)->request_method;
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return ph_httpd_error(conn, 405, "Method Not Allowed", "allow: GET, HEAD\r\n", true);
    snprintf(file, sizeof file, "%s/%s", server->options.static_dir, path);
    if (!is_safe(path) || stat(file, &st) != 0 || !S_ISREG(st.st_mode))
        return ph_httpd_error(conn, 404, "Not Found", "", false);
    mg_send_mime_file2(conn, file, NULL, "cache-control: no-cache\r\nx-content-type-options: nosniff");
    return 200;
}
