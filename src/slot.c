/* The VM of a run comes from its script's chunk (role "slot"), whose result goes to
 * require("pyoco.worker.slot").prepare(result) -> run(head, body), on_frame(type, head, body).
 * It is built once and frozen; after each run it is put back as it was, so every run has a fresh VM. A script that
 * changed, or one whose VM cannot be frozen (it holds a file or a C library), has a new one built for each run.
 * An error that escapes from run is a bug of ours: it is reported with 'E' and the slot ends; the supervisor
 * treats the job as a dead slot's. */
#include "slot.h"
#include "deadline.h"
#include "nats.h"
#include "slots.h"
#include "orphans.h"
#include "interrupt.h"
#include "surroundings.h"
#include "vm.h"
#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ORPHANED = SIGUSR1, /* the signal of our supervisor's death */
    ORPHANED_SEC = 2,
    EXIT_BROKEN = 70,
    END_MAX_SEC = 5,    /* a run that has ended may take so long to clear away: finalisers, files under way */
    LEAKED_MAX = 64,    /* files that runs may leave open; beyond that a new slot takes over */
    GC_HEADROOM_KB = 2048, /* a run may allocate so much before the collector begins: most end before */
};

/* A frame that waits for its run to begin: a job ('R'), or what was said of the job before it. */
typedef struct waiting {
    struct waiting *next;
    char type;
    size_t head_len, body_len;
    char data[]; /* head, then body */
} waiting;

typedef struct slot_vm {
    ph_vm *vm;         /* NULL when there is none */
    int run, on_frame; /* registry references */
    bool is_frozen;    /* ph_vm_thaw makes it fresh again */
    struct timespec script_time; /* of the script that it was built from */
} slot_vm;

struct ph_slot_self {
    uv_loop_t loop;
    ph_channel *channel;
    ph_deadline *deadline;
    ph_nats_loop *nats;
    const char *script;
    char *boot;
    size_t boot_len;
    size_t memory_limit;
    waiting *waits; /* in order, a job first: it may come while the last is still being put away */
    slot_vm vm;
    bool is_running; /* a run is going on in vm */
    bool ended;
};

static pid_t supervisor;

/* The supervisor is gone: so is the right of a run to go on, and of its processes. One that the kernel cannot end
 * does not keep us. */
static _Noreturn void end_orphaned(void) {
    signal(SIGALRM, SIG_DFL);
    alarm(ORPHANED_SEC);
    ph_end_children();
    _exit(0);
}

static char *copy_bytes(const char *p, size_t n) {
    char *copy = malloc(n + 1);
    if (copy) {
        memcpy(copy, p, n);
        copy[n] = '\0';
    }
    return copy;
}

static void keep(ph_slot_self *s, const ph_frame *f) {
    waiting *w = malloc(sizeof *w + f->head_len + f->body_len);
    if (!w)
        return;
    *w = (waiting){.type = f->type, .head_len = f->head_len, .body_len = f->body_len};
    memcpy(w->data, f->head, f->head_len);
    memcpy(w->data + f->head_len, f->body, f->body_len);
    waiting **end = &s->waits;
    while (*end)
        end = &(*end)->next;
    *end = w;
}

/* Takes the first of what waits. The caller frees it. */
static waiting *take(ph_slot_self *s) {
    waiting *w = s->waits;
    s->waits = w->next;
    return w;
}

static void tell_vm(ph_slot_self *s, const ph_frame *f) {
    if (!s->is_running)
        return; /* of a run that has ended: nothing to tell */
    lua_State *L = ph_vm_state(s->vm.vm);
    int top = lua_gettop(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->vm.on_frame);
    lua_pushlstring(L, &f->type, 1);
    lua_pushlstring(L, f->head, f->head_len);
    lua_pushlstring(L, f->body, f->body_len);
    if (ph_vm_call(L, 3, 0) != LUA_OK)
        fprintf(stderr, "pyoco-host: error in a slot: %s\n", lua_tostring(L, -1));
    lua_settop(L, top);
}

static void on_frame(void *ctx, const ph_frame *f) {
    ph_slot_self *s = ctx;
    if (f->type == 'B' && !s->boot) {
        s->boot = copy_bytes(f->head, f->head_len);
        s->boot_len = f->head_len;
        return;
    }
    if (f->type == 'R' || s->waits)
        keep(s, f);
    if (f->type != 'R')
        tell_vm(s, f); /* of which job it is, the VM knows */
}

static void on_end(void *ctx, const char *fault) {
    (void)fault;
    ph_slot_self *s = ctx;
    s->ended = true;
    if (s->is_running)
        end_orphaned();
}

static void say_error(ph_slot_self *s, const char *text) {
    cJSON *head = cJSON_CreateObject();
    cJSON_AddStringToObject(head, "error", text);
    char *json = cJSON_PrintUnformatted(head);
    if (json)
        ph_channel_send(s->channel, 'E', json, strlen(json), NULL, 0);
    cJSON_free(json);
    cJSON_Delete(head);
    ph_channel_flush(s->channel);
}

/* --- VMs --- */

/* Runs the script, then the library's prepare; leaves the references in v. */
static bool load_run(lua_State *L, const char *script, slot_vm *v) {
    if (luaL_loadfile(L, script) != LUA_OK)
        return false;
    if (ph_vm_call(L, 0, 1) != LUA_OK)
        return false;
    lua_getglobal(L, "require");
    lua_pushliteral(L, "pyoco.worker.slot");
    if (ph_vm_call(L, 1, 1) != LUA_OK)
        return false;
    lua_getfield(L, -1, "prepare");
    lua_pushvalue(L, -3);
    if (ph_vm_call(L, 1, 2) != LUA_OK)
        return false;
    v->on_frame = luaL_ref(L, LUA_REGISTRYINDEX);
    v->run = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_settop(L, 0);
    return true;
}

static void count_handle(uv_handle_t *handle, void *count) {
    (void)handle;
    ++*(int *)count;
}

/* Open descriptors and handles of the loop: what a VM that is to be frozen must not have added to. */
static int count_open(ph_slot_self *s) {
    int count = 0;
    uv_walk(&s->loop, count_handle, &count);
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}

static struct timespec time_of(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? st.st_mtim : (struct timespec){0};
}

static bool build(ph_slot_self *s, slot_vm *v, ph_error *err) {
    ph_vm_options options = {.role = "slot",
                             .script = s->script,
                             .boot = s->boot,
                             .boot_len = s->boot_len,
                             .memory_limit = s->memory_limit,
                             .is_short_lived = true,
                             .can_freeze = true,
                             .loop = &s->loop};
    struct timespec script_time = time_of(s->script);
    int open_before = count_open(s);
    ph_vm *vm = ph_vm_new(&options, err);
    if (!vm)
        return false;
    lua_State *L = ph_vm_state(vm);
    lua_pushlightuserdata(L, s);
    lua_setfield(L, LUA_REGISTRYINDEX, PH_SLOT_KEY);
    if (!load_run(L, s->script, v)) {
        snprintf(err->text, sizeof err->text, "%s", lua_tostring(L, -1));
        ph_vm_close(vm);
        return false;
    }
    v->vm = vm;
    v->script_time = script_time;
    v->is_frozen = count_open(s) == open_before && ph_vm_freeze(vm);
    return true;
}

static void on_alarm(int signal) {
    (void)signal;
    static const char text[] =
        "pyoco-host: what the last run has left (__gc, files, names) does not end: this slot gives up\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(EXIT_BROKEN + 1);
    _exit(EXIT_BROKEN);
}

/* Ends the last run's VM, and leaves it fresh when it was frozen from the script as it is now. User code has its last
 * say here, in finalisers that no interrupt reaches: so there is a limit to the time, and what they start in the loop
 * is the end of this process, since no next run could be safe from it. */
static bool clear_away(ph_slot_self *s, ph_error *err) {
    slot_vm *v = &s->vm;
    if (!v->vm)
        return true;
    struct timespec now = time_of(s->script);
    bool is_current = now.tv_sec == v->script_time.tv_sec && now.tv_nsec == v->script_time.tv_nsec;
    ph_channel_flush(s->channel);
    signal(SIGALRM, on_alarm);
    alarm(END_MAX_SEC);
    ph_end_children(); /* io.popen's files wait for them */
    if (!v->is_frozen || !is_current || !ph_vm_thaw(v->vm)) {
        ph_vm_close(v->vm);
        *v = (slot_vm){0};
    }
    alarm(0);
    if (!ph_vm_is_quiet(&s->loop)) {
        snprintf(err->text, sizeof err->text, "a finaliser (__gc) of the last run has started something in the loop");
        say_error(s, err->text);
        _exit(EXIT_BROKEN); /* nothing here may turn the loop again */
    }
    ph_surroundings_restore();
    int leaked = ph_surroundings_leaked_files();
    if (leaked > LEAKED_MAX)
        snprintf(err->text, sizeof err->text, "its runs have left %d files open", leaked);
    return leaked <= LEAKED_MAX;
}

/* A fresh VM for the next run. */
static bool renew(ph_slot_self *s, ph_error *err) {
    if (!clear_away(s, err))
        return false;
    ph_end_children();
    return s->vm.vm || build(s, &s->vm, err);
}

bool ph_slot_self_send(ph_slot_self *s, char type, const char *head, size_t head_len, const char *body,
                       size_t body_len) {
    return ph_channel_send(s->channel, type, head, head_len, body, body_len);
}

void ph_slot_self_deadline(ph_slot_self *s, double at, double seconds, const char *task) {
    ph_deadline_set(s->deadline, at, seconds, task);
}

ph_nats_loop *ph_slot_self_nats(ph_slot_self *s) {
    return s->nats;
}

/* --- runs --- */

/* Gives the VM what was said of its job before it has begun. */
static void tell_kept(ph_slot_self *s) {
    while (s->waits && s->waits->type != 'R') {
        waiting *w = take(s);
        tell_vm(s, &(ph_frame){w->type, w->data, w->head_len, w->data + w->head_len, w->body_len});
        free(w);
    }
}

static bool run_job(ph_slot_self *s, ph_error *err) {
    waiting *job = take(s);
    lua_State *L = ph_vm_state(s->vm.vm);
    bool ok = ph_vm_attach(s->vm.vm, err);
    if (ok) {
        s->is_running = true;
        lua_gc(L, LUA_GCRESTART);
        lua_gc(L, LUA_GCSTEP, -GC_HEADROOM_KB);
        tell_kept(s);
        lua_rawgeti(L, LUA_REGISTRYINDEX, s->vm.run);
        lua_pushlstring(L, job->data, job->head_len);
        lua_pushlstring(L, job->data + job->head_len, job->body_len);
        ok = ph_vm_call(L, 2, 0) == LUA_OK;
        if (!ok)
            snprintf(err->text, sizeof err->text, "%s", lua_tostring(L, -1));
        s->is_running = false;
        ph_deadline_set(s->deadline, 0, 0, "");
    }
    free(job);
    return ok;
}

/* Serves jobs until the supervisor is gone. False and err when the slot cannot work any more. */
static bool serve(ph_slot_self *s, ph_error *err) {
    while (!s->ended) {
        if (!renew(s, err))
            return false;
        ph_channel_send(s->channel, 'I', "{}", 2, NULL, 0);
        while (!s->waits && !s->ended)
            uv_run(&s->loop, UV_RUN_ONCE);
        if (s->waits && !s->ended && !run_job(s, err))
            return false;
    }
    return true;
}

/* --- start --- */

static const char *text_of(const cJSON *object, const char *key) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

/* Connects as the boot text says: {"nats": {url, name, user, ...}, "memory_limit_bytes": n, ...}. */
static bool start_nats(ph_slot_self *s, ph_error *err) {
    cJSON *boot = cJSON_Parse(s->boot);
    const cJSON *nats = cJSON_GetObjectItemCaseSensitive(boot, "nats");
    const cJSON *limit = cJSON_GetObjectItemCaseSensitive(boot, "memory_limit_bytes");
    if (cJSON_IsNumber(limit) && limit->valuedouble > 0)
        s->memory_limit = (size_t)limit->valuedouble;
    ph_nats_options options = {
        .url = text_of(nats, "url"),
        .name = text_of(nats, "name"),
        .user = text_of(nats, "user"),
        .password = text_of(nats, "password"),
        .token = text_of(nats, "token"),
        .creds = text_of(nats, "creds"),
        .tls_ca = text_of(nats, "tls_ca"),
        .tls_cert = text_of(nats, "tls_cert"),
        .tls_key = text_of(nats, "tls_key"),
    };
    bool ok = ph_nats_loop_connect(&s->nats, &s->loop, &options, err) == NULL;
    cJSON_Delete(boot);
    return ok;
}

static void on_signal(int signal) {
    (void)
        signal; /* the supervisor decides when a slot ends; a handler, since an ignored signal is inherited */
}

/* What the kernel sends when the supervisor has died; wherever we are, blocked in a C function too. */
static void on_orphaned(int signal) {
    (void)signal;
    if (getppid() != supervisor)
        end_orphaned();
}

/* Ties this process to its supervisor. False when the supervisor has died already. */
static bool adopt_role(const char *parent) {
    struct sigaction orphaned = {.sa_handler = on_orphaned};
    sigfillset(&orphaned.sa_mask);
    sigdelset(&orphaned.sa_mask, SIGALRM);
    supervisor = (pid_t)strtol(parent, NULL, 10);
    sigaction(ORPHANED, &orphaned, NULL);
    prctl(PR_SET_PDEATHSIG, ORPHANED);
    if (getppid() != supervisor)
        return false;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    fcntl(PH_SLOT_FD, F_SETFD, FD_CLOEXEC);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    return true;
}

static bool live(ph_slot_self *s, ph_error *err) {
    s->deadline = ph_deadline_map(PH_SLOT_DEADLINE_FD);
    close(PH_SLOT_DEADLINE_FD);
    if (!s->deadline) {
        snprintf(err->text, sizeof err->text, "cannot map the memory shared with the supervisor");
        return false;
    }
    s->channel = ph_channel_open(&s->loop, PH_SLOT_FD, (ph_channel_handlers){on_frame, on_end}, s, err);
    if (!s->channel)
        return false;
    while (!s->boot && !s->ended)
        uv_run(&s->loop, UV_RUN_ONCE);
    if (!ph_surroundings_note()) {
        snprintf(err->text, sizeof err->text, "out of memory");
        return false;
    }
    return s->ended || (start_nats(s, err) && serve(s, err));
}

int ph_slot_main(int argc, char **argv) {
    if (argc != 4) {
        fputs("pyoco-host: --slot is for a worker's own use; start worker.lua instead\n", stderr);
        return 1;
    }
    if (!adopt_role(argv[2]))
        return 0;
    ph_slot_self *s = calloc(1, sizeof *s);
    ph_error err = {0};
    if (!s || uv_loop_init(&s->loop) != 0)
        return 1;
    mallopt(M_TRIM_THRESHOLD, 64 << 20); /* VMs come and go: their pages stay ours */
    mallopt(M_TOP_PAD, 4 << 20);
    s->script = argv[3];
    bool ok = live(s, &err);
    if (!ok) {
        if (s->channel)
            say_error(s, err.text);
        else
            fprintf(stderr, "pyoco-host: %s\n", err.text);
    }
    ph_vm_close(s->vm.vm);
    while (s->waits)
        free(take(s));
    ph_nats_loop_close(s->nats);
    ph_channel_close(s->channel);
    while (uv_run(&s->loop, UV_RUN_NOWAIT))
        ;
    uv_loop_close(&s->loop);
    ph_deadline_unmap(s->deadline);
    free(s->boot);
    free(s);
    return ok ? 0 : EXIT_BROKEN;
}
