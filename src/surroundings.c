/* setenv and unsetenv replace or move pointers of environ, so comparing the pointers finds every change. */
#include "surroundings.h"
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
enum { SIGNALS = sizeof signals / sizeof *signals };

static struct {
    int folder; /* descriptor; -1: none */
    struct stat folder_stat;
    char **pointers; /* of environ, as it was put */
    char **texts;    /* what they said */
    size_t count;
    char *locale;
    struct sigaction actions[SIGNALS];
    int free_file; /* the lowest free descriptor */
} noted = {.folder = -1};

static size_t count_environment(void) {
    size_t n = 0;
    while (environ && environ[n])
        n++;
    return n;
}

static int lowest_free_file(void) {
    int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0)
        close(fd);
    return fd;
}

static bool note_environment(void) {
    noted.count = count_environment();
    noted.pointers = calloc(noted.count + 1, sizeof *noted.pointers);
    noted.texts = calloc(noted.count + 1, sizeof *noted.texts);
    if (!noted.pointers || !noted.texts)
        return false;
    for (size_t i = 0; i < noted.count; i++) {
        noted.pointers[i] = environ[i];
        if (!(noted.texts[i] = strdup(environ[i])))
            return false;
    }
    return true;
}

bool ph_surroundings_note(void) {
    noted.folder = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (noted.folder >= 0)
        fstat(noted.folder, &noted.folder_stat);
    noted.locale = strdup(setlocale(LC_ALL, NULL));
    for (int i = 0; i < SIGNALS; i++)
        sigaction(signals[i], NULL, &noted.actions[i]);
    noted.free_file = lowest_free_file();
    return noted.locale && note_environment();
}

static void restore_folder(void) {
    struct stat st;
    bool is_there = stat(".", &st) == 0 && st.st_dev == noted.folder_stat.st_dev && st.st_ino == noted.folder_stat.st_ino;
    if (noted.folder >= 0 && !is_there && fchdir(noted.folder) != 0)
        return; /* it is gone: nothing that we could do */
}

static void restore_environment(void) {
    if (count_environment() == noted.count && memcmp(environ, noted.pointers, noted.count * sizeof *environ) == 0)
        return;
    clearenv();
    for (size_t i = 0; i < noted.count; i++)
        putenv(noted.texts[i]); /* uses the text itself */
    for (size_t i = 0; i < noted.count; i++)
        noted.pointers[i] = environ[i];
}

void ph_surroundings_restore(void) {
    restore_folder();
    restore_environment();
    if (strcmp(setlocale(LC_ALL, NULL), noted.locale) != 0)
        setlocale(LC_ALL, noted.locale);
    for (int i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &noted.actions[i], NULL);
}

int ph_surroundings_leaked_files(void) {
    return lowest_free_file() - noted.free_file;
}
