/* Event streams (GET /runs/{id}/watch): comes with the hub. */
#include "httpd.h"

int ph_httpd_watch(ph_exchange *x) {
    return ph_httpd_error(x->conn, 501, "event streams are not available yet", "", false);
}
