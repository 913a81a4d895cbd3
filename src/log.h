/* Log lines of the C side: one JSON object (or one plain line) on stdout, in the shape of lua/pyoco/log.lua. Only the
 * gateway's process has a C side that speaks. PYOCO_LOG_LEVEL, _FORMAT, _UTC and _INCLUDE_TRACEBACK apply. Any thread. */
#ifndef PH_LOG_H
#define PH_LOG_H

typedef struct ph_log_line {
    const char *level;  /* "DEBUG" | "INFO" | "WARNING" | "ERROR" */
    const char *logger; /* the part that speaks, as "pyoco.http" */
    int id;             /* nn of ERR-PYOCO-00nn, or 0 */
    const char *run_id; /* or NULL */
    const char *error;  /* an error's text, its traceback in the lines behind the first; or NULL */
    const char *file, *func;
    int line;
} ph_log_line;

/* Writes one line. */
void ph_log_write(const ph_log_line *about, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define PH_LOG_HERE .file = __FILE__, .line = __LINE__, .func = __func__
#define ph_log(level_, logger_, ...) \
    ph_log_write(&(ph_log_line){.level = (level_), .logger = (logger_), PH_LOG_HERE}, __VA_ARGS__)
/* An ERROR with the text that caused it. */
#define ph_log_error(logger_, error_, ...)                                                                    \
    ph_log_write(&(ph_log_line){.level = "ERROR", .logger = (logger_), .error = (error_), PH_LOG_HERE}, __VA_ARGS__)

#endif
