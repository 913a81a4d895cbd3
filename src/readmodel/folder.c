/* The model's temporary folder: made, locked, and removed also after a process that was killed. */
#include "readmodel.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "pyoco-readmodel-"

static void remove_files(const char *dir) {
    static const char *const names[] = {"runs.db", "runs.db-wal", "runs.db-shm", "lock"};
    char path[900];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

/* Removes the folders of processes that were killed: those whose lock nobody holds. */
static void sweep(const char *parent) {
    DIR *dir = opendir(parent);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strncmp(e->d_name, PREFIX, strlen(PREFIX)) != 0)
            continue;
        char path[800], lock[820];
        struct stat is;
        if (snprintf(path, sizeof path, "%s/%s", parent, e->d_name) >= (int)sizeof path || lstat(path, &is) != 0 ||
            !S_ISDIR(is.st_mode) || is.st_uid != geteuid())
            continue;
        snprintf(lock, sizeof lock, "%s/lock", path);
        int fd = open(lock, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            remove_files(path);
        if (fd >= 0)
            close(fd);
    }
    if (dir)
        closedir(dir);
}

bool rm_folder_make(rm_folder *folder, const char *parent, ph_error *err) {
    char lock[560], fresh[560];
    *folder = (rm_folder){.lock_fd = -1};
    if (!parent)
        parent = getenv("TMPDIR");
    if (!parent || !*parent)
        parent = "/tmp";
    sweep(parent);
    if (strlen(parent) > 400) {
        snprintf(err->text, sizeof err->text, "the folder for temporary files has too long a name: %s", parent);
        return false;
    }
    snprintf(folder->path, sizeof folder->path, "%s/" PREFIX "XXXXXX", parent);
    if (!mkdtemp(folder->path)) {
        snprintf(err->text, sizeof err->text,
                 "cannot make a folder for the read model in %s: %s; set TMPDIR to a folder that can be written",
                 parent, strerror(errno));
        *folder->path = '\0';
        return false;
    }
    /* the lock is taken before it has its name, so that no other process sweeps this folder */
    snprintf(fresh, sizeof fresh, "%s/runs.db", folder->path);
    snprintf(lock, sizeof lock, "%s/lock", folder->path);
    folder->lock_fd = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (folder->lock_fd < 0 || flock(folder->lock_fd, LOCK_EX | LOCK_NB) != 0 || rename(fresh, lock) != 0) {
        snprintf(err->text, sizeof err->text, "cannot write in %s: %s", folder->path, strerror(errno));
        return false;
    }
    return true;
}

void rm_folder_remove(rm_folder *folder) {
    if (*folder->path)
        remove_files(folder->path);
    if (folder->lock_fd >= 0)
        close(folder->lock_fd);
    *folder = (rm_folder){.lock_fd = -1};
}
