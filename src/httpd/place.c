/* Places of streams: each keeps a thread of CivetWeb's, so they are capped. */
#include "httpd.h"

bool ph_httpd_take_place(ph_httpd *server) {
    if (atomic_fetch_add(&server->streams, 1) < server->max_streams)
        return true;
    atomic_fetch_sub(&server->streams, 1);
    atomic_fetch_add(&server->refused, 1);
    return false;
}

void ph_httpd_leave_place(ph_httpd *server) {
    atomic_fetch_sub(&server->streams, 1);
}
