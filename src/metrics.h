/* Process-wide histograms of seconds, written by any thread, read by whoever answers /metrics. */
#ifndef PH_METRICS_H
#define PH_METRICS_H

#include <stdbool.h>
#include <stddef.h>

#define PH_METRICS_SETS 200 /* label sets of one histogram; what comes after goes under its overflow labels */

/* Counts one observation. labels: the text between the braces, escaped ("route=\"runs.get\""), not terminated; "" for
 * none. overflow: the labels to use when there are PH_METRICS_SETS others already. Lost when memory is out. */
void ph_metrics_observe(const char *name, const char *labels, size_t len, const char *overflow, double seconds);

/* Writes name="value" with the value escaped, cut to what fits. Returns its length; it is not terminated. */
size_t ph_metrics_label(char *out, size_t room, const char *name, const char *value);

/* The samples of a histogram in Prometheus's text format, in the order in which their labels were first seen, or all of
 * them added up as one without labels; "" when there is none. The caller frees it; NULL when memory is out. */
char *ph_metrics_text(const char *name, bool added_up, size_t *len);

/* How many observations a histogram has, and their sum. */
void ph_metrics_total(const char *name, double *count, double *sum);

#endif
