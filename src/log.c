/* One write per line, so that lines of several threads and of Lua never mix. */
#include "log.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define SERVICE "pyoco-server:http"

static int rank(const char *level) {
    static const char *const levels[] = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"};
    for (int i = 0; i < 5; i++)
        if (strcasecmp(level, levels[i]) == 0)
            return i;
    return 1;
}

/* A boolean variable; what it may say has been checked by pyoco.config. */
static bool is_on(const char *name) {
    const char *text = getenv(name);
    if (!text || !*text)
        return true;
    text += strspn(text, " \t");
    return !(*text == '0' || strncasecmp(text, "false", 5) == 0 || strncasecmp(text, "no", 2) == 0 ||
             strncasecmp(text, "off", 3) == 0);
}

/* The code point of the UTF-8 sequence at *at, which moves behind it; what is none gives U+FFFD, a byte at a time. */
static unsigned next_point(const char **at) {
    const unsigned char *c = (const unsigned char *)*at;
    int more = c[0] < 0x80 ? 0 : c[0] >> 5 == 6 ? 1 : c[0] >> 4 == 14 ? 2 : c[0] >> 3 == 30 ? 3 : -1;
    unsigned point = more <= 0 ? c[0] : c[0] & (0x3fu >> more);
    for (int i = 1; i <= more; i++) {
        if (c[i] >> 6 != 2)
            more = -1;
        point = point << 6 | (c[i] & 0x3f);
    }
    *at += more < 0 ? 1 : more + 1;
    return more < 0 || point > 0x10ffff || (point >= 0xd800 && point < 0xe000) ? 0xfffd : point;
}

/* Writes n bytes of text as the inside of a JSON string in ASCII. */
static void escape(FILE *out, const char *text, size_t n) {
    for (const char *end = text + n; text < end && *text;) {
        unsigned point = next_point(&text);
        if (point == '"' || point == '\\')
            fprintf(out, "\\%c", (char)point);
        else if (point == '\n')
            fputs("\\n", out);
        else if (point == '\t')
            fputs("\\t", out);
        else if (point >= 0x20 && point < 0x7f)
            fputc((int)point, out);
        else if (point < 0x10000)
            fprintf(out, "\\u%04x", point);
        else
            fprintf(out, "\\u%04x\\u%04x", 0xd800 + ((point - 0x10000) >> 10), 0xdc00 + ((point - 0x10000) & 0x3ff));
    }
}

static void text_field(FILE *out, const char *name, const char *value, size_t n) {
    fprintf(out, ",\"%s\":\"", name);
    escape(out, value, n);
    fputc('"', out);
}

/* The first place "file:line:" that an error names; a file has a dot or a slash. */
static void origin_field(FILE *out, const char *error) {
    for (const char *colon = error; (colon = strchr(colon, ':')); colon++) {
        size_t digits = strspn(colon + 1, "0123456789");
        const char *from = colon;
        while (from > error && !strchr(" \t\n'\":", from[-1]))
            from--;
        size_t n = (size_t)(colon - from);
        if (digits == 0 || colon[1 + digits] != ':' || strcspn(from, "./") >= n)
            continue;
        fputs(",\"exc_origin\":{\"file\":\"", out);
        escape(out, from, n);
        fprintf(out, "\",\"line\":%ld,\"func\":\"?\"}", atol(colon + 1));
        return;
    }
}

static void timestamp(char *out, size_t n) {
    time_t now = time(NULL);
    struct tm tm;
    if (is_on("PYOCO_LOG_UTC"))
        strftime(out, n, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    else
        strftime(out, n, "%Y-%m-%dT%H:%M:%S%z", localtime_r(&now, &tm));
}

static void write_json(FILE *out, const ph_log_line *l, const char *message) {
    char ts[40];
    timestamp(ts, sizeof ts);
    fprintf(out, "{\"ts\":\"%s\",\"service\":\"" SERVICE "\",\"level\":\"%s\",\"logger\":\"%s\"", ts, l->level,
            l->logger);
    text_field(out, "message", message, strlen(message));
    fprintf(out, ",\"pathname\":\"%s\",\"lineno\":%d,\"func\":\"%s\",\"process\":%ld,\"thread\":%ld", l->file, l->line,
            l->func, (long)getpid(), (long)gettid());
    if (l->id)
        fprintf(out, ",\"err_id\":\"ERR-PYOCO-%04d\",\"msg_id\":\"MSG-PYOCO-%04d\"", l->id, l->id);
    if (l->run_id)
        text_field(out, "run_id", l->run_id, strlen(l->run_id));
    if (l->error) {
        const char *rest = strchr(l->error, '\n');
        fputs(",\"exc_type\":\"error\"", out);
        text_field(out, "exc_message", l->error, rest ? (size_t)(rest - l->error) : strlen(l->error));
        if (is_on("PYOCO_LOG_INCLUDE_TRACEBACK")) {
            if (rest)
                text_field(out, "exc_traceback", l->error, strlen(l->error));
            origin_field(out, l->error);
        }
    }
    fputs("}\n", out);
}

/* Writes text so that it stays on its line: nobody forges a line by what he sends. */
static void write_flat(FILE *out, const char *text) {
    for (; *text; text++)
        fputc((unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text, out);
}

static void write_text(FILE *out, const ph_log_line *l, const char *message) {
    fprintf(out, "%s " SERVICE " %s %s:%d %s - ", l->level, l->logger, l->file, l->line, l->func);
    write_flat(out, message);
    if (l->id) {
        fprintf(out, " (err_id=ERR-PYOCO-%04d, msg_id=MSG-PYOCO-%04d", l->id, l->id);
        if (l->run_id) {
            fputs(", run_id=", out);
            write_flat(out, l->run_id);
        }
        fputc(')', out);
    }
    if (l->error)
        fprintf(out, "\n%.*s", is_on("PYOCO_LOG_INCLUDE_TRACEBACK") ? 1 << 16 : (int)strcspn(l->error, "\n"), l->error);
    fputc('\n', out);
}

void ph_log_write(const ph_log_line *about, const char *fmt, ...) {
    const char *least = getenv("PYOCO_LOG_LEVEL"), *format = getenv("PYOCO_LOG_FORMAT");
    if (rank(about->level) < rank(least ? least : "INFO"))
        return;
    char message[2048], *line = NULL; /* the line on the heap: HTTP threads have little stack */
    size_t n = 0;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    FILE *out = open_memstream(&line, &n);
    if (!out)
        return;
    if (format && strcasecmp(format, "text") == 0)
        write_text(out, about, message);
    else
        write_json(out, about, message);
    if (fclose(out) != 0 || write(STDOUT_FILENO, line, n) < 0)
        n = 0; /* nobody reads our log: nothing better to do */
    free(line);
}
