/* The kernel's list of our children, read until it is empty. */
#include "orphans.h"
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* Opens /proc/self/task/<pid>/children without the help of stdio. */
static int open_list(void) {
    char path[64] = "/proc/self/task/", digits[16];
    size_t at = strlen(path), n = 0;
    for (pid_t pid = getpid(); pid > 0; pid /= 10)
        digits[n++] = (char)('0' + pid % 10);
    while (n > 0)
        path[at++] = digits[--n];
    memcpy(path + at, "/children", sizeof "/children");
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Kills and reaps the listed ones; a list ends each pid with a space. Returns how many. */
static int end_listed(const char *list, ssize_t len) {
    int pid = 0, ended = 0;
    for (ssize_t i = 0; i < len; i++) {
        if (list[i] >= '0' && list[i] <= '9') {
            pid = pid * 10 + (list[i] - '0');
            continue;
        }
        if (pid > 0) {
            kill(pid, SIGKILL);
            waitpid(pid, NULL, 0);
            ended++;
        }
        pid = 0;
    }
    return ended;
}

void ph_end_children(void) {
    char list[4096];
    siginfo_t info;
    int ended = 1;
    while (ended > 0 && waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
        int fd = open_list();
        ssize_t len = fd >= 0 ? read(fd, list, sizeof list) : 0;
        if (fd >= 0)
            close(fd);
        ended = end_listed(list, len);
    }
}
