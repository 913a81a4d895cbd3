/* Process-wide histograms of seconds, written by any thread, read by whoever answers /metrics. */
#ifndef PH_METRICS_H
#define PH_METRICS_H

#include <stdbool.h>
#include <stddef.h>

#define PH_METRICS_SETS 200 /* label sets of one histogram; what comes after goes under its overflow labels */

/* Counts one observation. labels: the text between the braces, escaped ("route=\"runs.get\""), not terminated; "" for
 * none. overflow: the labels to use when there are PH_METRICS_SETS others already. Lost when memory is out. */
void ph_metrics_observe(const char *name, const char *labels, size_t len, const char *overflow, double seconds);

/* The samples of a histogram in Prometheus's text format, in the order in which their labels were first seen; "" when
 * there is none. The caller frees it; NULL when memory is out. */
char *ph_metrics_text(const char *name, size_t *len);

#endif
