/* The socket of a connection: to see whether a client that is sent nothing is still there, and to write to a stream from
 * another thread than its own. CivetWeb shows none, but a connection's two ports and addresses tell which of our
 * descriptors it is. */
#include "httpd.h"
#include <arpa/inet.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define FD_MAX 16384 /* descriptors that are looked at: more than there are threads for */

static bool is_of(int fd, in_port_t local, in_port_t remote, struct in_addr addr) {
    struct sockaddr_in us, them;
    socklen_t n = sizeof us, m = sizeof them;
    return getsockname(fd, (struct sockaddr *)&us, &n) == 0 && us.sin_family == AF_INET && us.sin_port == local &&
           getpeername(fd, (struct sockaddr *)&them, &m) == 0 && them.sin_port == remote &&
           them.sin_addr.s_addr == addr.s_addr;
}

int ph_httpd_socket(const ph_exchange *x) {
    struct in_addr addr;
    struct rlimit limit;
    if (inet_pton(AF_INET, x->info->remote_addr, &addr) != 1 || getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return -1;
    static atomic_int last; /* the one that was found last: connections that come together are close to each other */
    int count = limit.rlim_cur < FD_MAX ? (int)limit.rlim_cur : FD_MAX, from = atomic_load(&last);
    in_port_t local = htons((uint16_t)x->server->port), remote = htons((uint16_t)x->info->remote_port);
    for (int i = 0; i < 2 * count; i++) { /* to both sides of it in turn */
        int fd = i % 2 ? from + i / 2 + 1 : from - i / 2;
        if (fd >= 0 && fd < count && is_of(fd, local, remote, addr)) {
            atomic_store(&last, fd);
            return fd;
        }
    }
    return -1;
}

bool ph_httpd_has_hung_up(int socket) {
    struct pollfd p = {.fd = socket, .events = POLLRDHUP};
    return socket >= 0 && poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}
