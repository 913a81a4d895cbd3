/* multipart/form-data as it arrives, in pieces of any length: each part's head is told, then its data as it comes.
 * Nothing is kept but what may be the beginning of a boundary, and a head (8 KB at most). What the heads say is read
 * by Lua (pyoco.http.multipart), so that there is one reader of them. */
#ifndef PH_HTTPD_FORM_H
#define PH_HTTPD_FORM_H

#include <stdbool.h>
#include <stddef.h>

/* Each returns false to stop: feed then returns PH_FORM_STOPPED. */
typedef struct ph_form_sink {
    bool (*head)(void *ctx, const char *head, size_t len); /* a part begins; its lines without the blank one */
    bool (*data)(void *ctx, const char *bytes, size_t len);
    bool (*end)(void *ctx); /* the part is complete */
    void *ctx;
} ph_form_sink;

typedef enum ph_form_status {
    PH_FORM_MORE,    /* not at the end yet */
    PH_FORM_DONE,    /* the last boundary has come; what follows is ignored */
    PH_FORM_BAD,     /* ph_form_fault says why */
    PH_FORM_STOPPED, /* the sink did */
} ph_form_status;

typedef struct ph_form ph_form;

/* boundary: 1 to 200 bytes, copied. NULL when out of memory. */
ph_form *ph_form_new(const char *boundary, const ph_form_sink *sink);
ph_form_status ph_form_feed(ph_form *form, const char *bytes, size_t len);
/* Why the body is bad; also why it is incomplete while feed has said PH_FORM_MORE. */
const char *ph_form_fault(const ph_form *form);
void ph_form_free(ph_form *form); /* NULL is fine */

#endif
