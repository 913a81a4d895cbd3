/* One write per line, so that lines of several threads and of Lua never mix. */
#include "log.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

static int rank(const char *level) {
    static const char *const levels[] = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"};
    for (int i = 0; i < 5; i++)
        if (strcasecmp(level, levels[i]) == 0)
            return i;
    return 1;
}

/* Copies text into out as the inside of a JSON string; what does not fit is cut. */
static void escape(const char *text, char *out, size_t n) {
    size_t used = 0;
    for (; *text && used + 7 < n; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            out[used++] = '\\', out[used++] = (char)c;
        else if (c == '\n')
            out[used++] = '\\', out[used++] = 'n';
        else if (c < 0x20)
            used += (size_t)snprintf(out + used, 7, "\\u%04x", c);
        else
            out[used++] = (char)c;
    }
    out[used] = '\0';
}

void ph_log(const char *level, const char *logger, const char *fmt, ...) {
    const char *least = getenv("PYOCO_LOG_LEVEL"), *format = getenv("PYOCO_LOG_FORMAT");
    if (rank(level) < rank(least ? least : "INFO"))
        return;
    char text[4096], quoted[8200], line[8700], ts[32];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    time_t now = time(NULL);
    struct tm tm;
    strftime(ts, sizeof ts, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    int n;
    if (format && strcmp(format, "text") == 0) {
        n = snprintf(line, sizeof line, "%s pyoco-host:http %s - %s\n", level, logger, text);
    } else {
        escape(text, quoted, sizeof quoted);
        n = snprintf(line, sizeof line,
                     "{\"ts\":\"%s\",\"service\":\"pyoco-host:http\",\"level\":\"%s\",\"logger\":\"%s\",\"message\":\"%s\","
                     "\"process\":%ld}\n",
                     ts, level, logger, quoted, (long)getpid());
    }
    if (write(STDOUT_FILENO, line, (size_t)n) < 0)
        return; /* nobody reads our log: nothing better to do */
}
