/* Log lines of the C side: one JSON object (or one plain line) on stdout, in the shape of lua/pyoco/log.lua. */
#ifndef PH_LOG_H
#define PH_LOG_H

/* Writes one line. level: "DEBUG" | "INFO" | "WARNING" | "ERROR"; logger: the part that speaks, as
 * "pyoco.http". PYOCO_LOG_LEVEL and PYOCO_LOG_FORMAT (json | text) apply. Any thread. */
void ph_log(const char *level, const char *logger, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
