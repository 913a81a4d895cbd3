/* One writer, one reader, in two processes: a sequence number that is odd while the rest is being written. */
#include "deadline.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

struct ph_deadline {
    _Atomic uint32_t sequence;
    double at, seconds;
    char task[PH_DEADLINE_TASK_MAX];
};

ph_deadline *ph_deadline_map(int fd) {
    void *memory = mmap(NULL, sizeof(ph_deadline), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

ph_deadline *ph_deadline_new(int *fd) {
    *fd = memfd_create("pyoco-slot", MFD_CLOEXEC);
    if (*fd < 0)
        return NULL;
    ph_deadline *d = ftruncate(*fd, sizeof *d) == 0 ? ph_deadline_map(*fd) : NULL;
    if (!d) {
        int saved = errno;
        close(*fd);
        errno = saved;
    }
    return d;
}

void ph_deadline_unmap(ph_deadline *d) {
    if (d)
        munmap(d, sizeof *d);
}

void ph_deadline_set(ph_deadline *d, double at, double seconds, const char *task) {
    uint32_t sequence = atomic_load_explicit(&d->sequence, memory_order_relaxed);
    atomic_store_explicit(&d->sequence, sequence + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    d->at = at;
    d->seconds = seconds;
    snprintf(d->task, sizeof d->task, "%s", task);
    atomic_store_explicit(&d->sequence, sequence + 2, memory_order_release);
}

bool ph_deadline_get(const ph_deadline *d, double *at, double *seconds, char *task) {
    uint32_t before = atomic_load_explicit(&d->sequence, memory_order_acquire);
    *at = d->at;
    *seconds = d->seconds;
    for (size_t i = 0; i < PH_DEADLINE_TASK_MAX; i++)
        task[i] = d->task[i];
    task[PH_DEADLINE_TASK_MAX - 1] = '\0';
    atomic_thread_fence(memory_order_acquire);
    uint32_t after = atomic_load_explicit(&d->sequence, memory_order_relaxed);
    return before == after && before % 2 == 0 && *at > 0;
}
