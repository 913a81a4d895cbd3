/* Answers that C writes itself: errors before a VM is lent, and JSON. */
#include "httpd.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *ph_httpd_reason(int status) {
    static const struct {
        int status;
        const char *reason;
    } rows[] = {
        {200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"}, {206, "Partial Content"},
        {301, "Moved Permanently"}, {302, "Found"}, {303, "See Other"}, {304, "Not Modified"},
        {307, "Temporary Redirect"}, {308, "Permanent Redirect"}, {400, "Bad Request"}, {401, "Unauthorized"},
        {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"}, {408, "Request Timeout"},
        {409, "Conflict"}, {410, "Gone"}, {411, "Length Required"}, {413, "Content Too Large"},
        {415, "Unsupported Media Type"}, {422, "Unprocessable Entity"}, {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"}, {501, "Not Implemented"},
        {503, "Service Unavailable"}, {504, "Gateway Timeout"}, {0, NULL},
    };
    for (int i = 0; rows[i].status; i++)
        if (rows[i].status == status)
            return rows[i].reason;
    return "Unknown";
}

int ph_httpd_json(struct mg_connection *conn, int status, const char *extra_headers, const char *body, size_t len,
                  bool close) {
    if (close)
        mg_disable_connection_keep_alive(conn);
    char *out = malloc(len + strlen(extra_headers) + 256);
    if (!out) {
        mg_disable_connection_keep_alive(conn);
        return status;
    }
    int head = sprintf(out,
                       "HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n"
                       "connection: %s\r\n%s\r\n",
                       status, ph_httpd_reason(status), len, close ? "close" : "keep-alive", extra_headers);
    const char *method = mg_get_request_info(conn)->request_method; /* NULL: the request could not be read */
    bool is_head = method && strcmp(method, "HEAD") == 0;           /* told the length, sent nothing */
    memcpy(out + head, body, len);
    mg_write(conn, out, (size_t)head + (is_head ? 0 : len));
    free(out);
    return status;
}

int ph_httpd_error(struct mg_connection *conn, int status, const char *detail, const char *extra_headers, bool close) {
    char body[600];
    int n = snprintf(body, sizeof body, "{\"detail\":\"%s\"}", detail); /* our own texts: nothing to escape */
    return ph_httpd_json(conn, status, extra_headers, body, (size_t)n, close);
}
