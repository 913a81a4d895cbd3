/* What the two ways to make an HTTP request share: host.http.request, which blocks (src/bind/http.c), and
 * host.http.start, which runs on the VM's event loop (loop.c). All of it is part of the loadable module
 * host.http. */
#ifndef PH_HTTP_H
#define PH_HTTP_H

#include "host.h"
#include <curl/curl.h>

/* An answer as it arrives. Zero it to begin; the memory is malloc's. */
typedef struct ph_answer {
    char *head, *body;
    size_t head_len, head_room, body_len, body_room;
    size_t max_bytes; /* of the body */
    bool too_large;   /* more came, of body or headers: the transfer was ended */
} ph_answer;

/* For CURLOPT_HEADERFUNCTION; ud is the answer, which keeps the last response's lines. */
size_t ph_answer_on_header(char *data, size_t size, size_t n, void *ud);

/* Adds to the body; false when it gets too large, or without memory. */
bool ph_answer_add(ph_answer *a, const char *data, size_t n);

/* Pushes { status, headers = { lower-case name = value }, body }. May raise (memory). */
void ph_answer_push(lua_State *L, const ph_answer *a, long status);

/* Lua function: headers(lightuserdata answer) -> { lower-case name = value } */
int ph_answer_headers(lua_State *L);

void ph_answer_free(ph_answer *a); /* it can be used again */

/* Options of the table at index 1. Texts that are pushed stay on the stack; wrong ones raise, with the
 * function's name in the message. */
const char *ph_http_text(lua_State *L, const char *key, size_t *n); /* NULL: not given */
double ph_http_number(lua_State *L, const char *key, double fallback);

/* Sets up easy (just made, or reset) as the table at index 1 says, with the answer and headers, which holds
 * what is to be freed by curl_slist_free_all after the request. copies_body: the body's text may be gone
 * before the request ends. Leaves texts on the stack that must stay there for the length of the request when
 * the body is not copied. */
void ph_http_set_options(lua_State *L, CURL *easy, ph_answer *a, struct curl_slist **headers,
                         bool copies_body);

/* The body of option `form`: a list of { name, value } and { name =, path =, filename =, content_type = }; the file is
 * read from disk while it is sent. *form, which is freed first, is NULL when there is no such option; the caller frees
 * it by curl_mime_free after the request. Raises for what is no form. */
void ph_http_form(lua_State *L, CURL *easy, curl_mime **form);

/* PH_* code of a failure. */
const char *ph_http_code(CURLcode rc);

int ph_http_multipart(lua_State *L);
int ph_http_start(lua_State *L);
void ph_http_close_loop(
    lua_State *L); /* closes the connections that start has kept; raises while requests run */

#endif
