/* See form.h. Between two parts stands CR LF "--" boundary; the body counts as if it began with CR LF. What cannot be
 * told yet stays in `held`: the beginning of a boundary, or of a head. */
#include "form.h"
#include <stdlib.h>
#include <string.h>

#define MAX_HEAD 8192
#define MAX_PARTS 100
#define MAX_BOUNDARY 200

struct ph_form {
    ph_form_sink sink;
    enum { PREAMBLE, AFTER_BOUNDARY, HEAD, DATA, END } state;
    char delimiter[MAX_BOUNDARY + 8];
    size_t delimiter_len;
    int parts;
    const char *fault;
    size_t held_len;
    char held[MAX_HEAD + 8]; /* at least a delimiter long */
};

ph_form *ph_form_new(const char *boundary, const ph_form_sink *sink) {
    size_t n = strlen(boundary);
    ph_form *f = n && n <= MAX_BOUNDARY ? calloc(1, sizeof *f) : NULL;
    if (!f)
        return NULL;
    f->sink = *sink;
    memcpy(f->delimiter, "\r\n--", 4);
    memcpy(f->delimiter + 4, boundary, n);
    f->delimiter_len = n + 4;
    memcpy(f->held, "\r\n", 2); /* a body may begin with its boundary */
    f->held_len = 2;
    return f;
}

const char *ph_form_fault(const ph_form *f) {
    if (f->fault)
        return f->fault;
    return f->state == PREAMBLE ? "multipart body: its boundary does not occur"
                                : "multipart body: it ends within a part";
}

void ph_form_free(ph_form *f) {
    free(f);
}

static ph_form_status bad(ph_form *f, const char *fault) {
    f->fault = fault;
    return PH_FORM_BAD;
}

static bool tell(ph_form *f, const char *bytes, size_t len) {
    return f->state != DATA || len == 0 || f->sink.data(f->sink.ctx, bytes, len);
}

/* How many bytes at the end of text may be the beginning of the delimiter. */
static size_t tail_of(const ph_form *f, const char *text, size_t len) {
    size_t n = len < f->delimiter_len - 1 ? len : f->delimiter_len - 1;
    for (; n > 0; n--)
        if (memcmp(text + len - n, f->delimiter, n) == 0)
            return n;
    return 0;
}

/* A delimiter is complete: the part before it is over. */
static ph_form_status leave_data(ph_form *f) {
    bool had_part = f->state == DATA;
    f->state = AFTER_BOUNDARY;
    f->held_len = 0;
    return had_part && !f->sink.end(f->sink.ctx) ? PH_FORM_STOPPED : PH_FORM_MORE;
}

/* In the preamble or a part's data, with nothing held: tells what is surely data, holds what may be a delimiter.
 * Returns how many bytes were used. */
static size_t scan(ph_form *f, const char *bytes, size_t len, ph_form_status *status) {
    const char *found = memmem(bytes, len, f->delimiter, f->delimiter_len);
    size_t sure = found ? (size_t)(found - bytes) : len - tail_of(f, bytes, len);
    *status = tell(f, bytes, sure) ? PH_FORM_MORE : PH_FORM_STOPPED;
    if (*status != PH_FORM_MORE)
        return len;
    if (found) {
        *status = leave_data(f);
        return sure + f->delimiter_len;
    }
    f->held_len = len - sure;
    memcpy(f->held, bytes + sure, f->held_len);
    return len;
}

/* The same while the beginning of a delimiter is held: byte by byte, until it is one or is none. */
static size_t scan_held(ph_form *f, const char *bytes, ph_form_status *status) {
    *status = PH_FORM_MORE;
    f->held[f->held_len++] = *bytes;
    if (f->held_len == f->delimiter_len && memcmp(f->held, f->delimiter, f->held_len) == 0) {
        *status = leave_data(f);
        return 1;
    }
    size_t keep = tail_of(f, f->held, f->held_len);
    if (!tell(f, f->held, f->held_len - keep))
        *status = PH_FORM_STOPPED;
    memmove(f->held, f->held + f->held_len - keep, keep);
    f->held_len = keep;
    return 1;
}

/* The rest of the line behind a boundary: "--" ends the body, white space and a line end begin a part. */
static ph_form_status after_boundary(ph_form *f, char c) {
    f->held[f->held_len++] = c;
    if (f->held_len == 2 && memcmp(f->held, "--", 2) == 0) {
        f->state = END;
        return PH_FORM_DONE;
    }
    if (c == '\n' && f->held_len >= 2 && f->held[f->held_len - 2] == '\r') {
        if (f->parts++ == MAX_PARTS)
            return bad(f, "multipart body: more than 100 parts");
        f->state = HEAD;
        f->held_len = 0;
        return PH_FORM_MORE;
    }
    char before = f->held_len >= 2 ? f->held[f->held_len - 2] : ' ';
    bool is_fine = (before == ' ' || before == '\t') &&
                   (c == ' ' || c == '\t' || c == '\r' || (c == '-' && f->held_len == 1));
    return is_fine && f->held_len < 256 ? PH_FORM_MORE : bad(f, "multipart body: it ends within a part");
}

static ph_form_status head(ph_form *f, char c) {
    if (f->held_len == MAX_HEAD)
        return bad(f, "multipart body: the headers of a part are too long");
    f->held[f->held_len++] = c;
    size_t n = f->held_len;
    if (n >= 4 && memcmp(f->held + n - 4, "\r\n\r\n", 4) == 0) {
        if (memmem(f->held, n, f->delimiter, f->delimiter_len))
            return bad(f, "multipart body: a part has no blank line after its headers");
        f->state = DATA;
        f->held_len = 0;
        return f->sink.head(f->sink.ctx, f->held, n - 4) ? PH_FORM_MORE : PH_FORM_STOPPED;
    }
    if (n == 2 && memcmp(f->held, "\r\n", 2) == 0)
        return bad(f, "multipart body: a part has no content-disposition: form-data with a name");
    return PH_FORM_MORE;
}

ph_form_status ph_form_feed(ph_form *f, const char *bytes, size_t len) {
    ph_form_status status = f->fault ? PH_FORM_BAD : PH_FORM_MORE;
    for (size_t at = 0; at < len && status == PH_FORM_MORE;) {
        switch (f->state) {
        case PREAMBLE:
        case DATA:
            at += f->held_len ? scan_held(f, bytes + at, &status) : scan(f, bytes + at, len - at, &status);
            break;
        case AFTER_BOUNDARY:
            status = after_boundary(f, bytes[at++]);
            break;
        case HEAD:
            status = head(f, bytes[at++]);
            break;
        case END:
            return PH_FORM_DONE;
        }
    }
    return status == PH_FORM_MORE && f->state == END ? PH_FORM_DONE : status;
}
