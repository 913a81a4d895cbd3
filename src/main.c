/* argv -> script -> exit code; nothing else. */
#include "child.h"
#include "host.h"
#include "slot.h"
#include "vm.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const help_text =
    "usage: pyoco-host SCRIPT.lua [ARGUMENTS...]\n"
    "       pyoco-host -e CODE [ARGUMENTS...]\n"
    "       pyoco-host --version | --help\n"
    "\n"
    "Scripts that come with it (each has --help):\n"
    "  up.lua       NATS, gateway and a worker on this machine, in one command\n"
    "  gateway.lua  HTTP API and dashboard\n"
    "  worker.lua   pulls jobs by tag and runs their flows\n"
    "  client.lua   command line: new, check, run (no server needed); submit, watch, get, cancel\n"
    "  admin.lua    doctor; API keys, wheels, old runs, the effective configuration\n"
    "  server.lua   the command line of pyoco-server: gateway, with NATS and a worker if wanted\n"
    "  test.lua     runs specs of your flows and tasks (busted)\n"
    "\n"
    "A script is looked up as given, then in PYOCO_HOME/lua, which is found\n"
    "from the place of this program when it is not set. Installed, there are short names: pyoco-client,\n"
    "pyoco-server, pyoco-worker, pyoco-server-admin.\n"
    "Any Lua 5.4 script of yours runs with the same modules (require \"host.json\", require \"pyoco\").\n";

static int complain(const char *text) {
    fprintf(stderr, "pyoco-host: %s\n", text);
    return 1;
}

/* Sets the global `arg` as the standalone interpreter does and pushes the arguments. Returns their count. */
static int push_arguments(lua_State *L, const char *name, int argc, char **argv) {
    lua_createtable(L, argc, 1);
    lua_pushstring(L, name);
    lua_rawseti(L, -2, 0);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setglobal(L, "arg");
    luaL_checkstack(L, argc + 4, "too many arguments");
    for (int i = 0; i < argc; i++)
        lua_pushstring(L, argv[i]);
    return argc;
}

/* Runs the loaded chunk on top of the stack. An integer or false that it returns becomes the exit code. */
static int run_chunk(lua_State *L, const char *name, int argc, char **argv) {
    int n = push_arguments(L, name, argc, argv);
    if (ph_vm_call(L, n, 1) != LUA_OK)
        return complain(lua_tostring(L, -1));
    if (lua_isinteger(L, -1))
        return (int)lua_tointeger(L, -1);
    return lua_isboolean(L, -1) && !lua_toboolean(L, -1) ? 1 : 0;
}

/* The exit code: 1 also when what was printed has not got through (a full disk), but not when the reader has gone:
 * `| head` has what it wanted. */
static int finished(int rc) {
    int failed = fflush(stdout) ? errno : 0;
    struct pollfd out = {.fd = 1};
    bool is_alone = poll(&out, 1, 0) == 1 && (out.revents & POLLERR);
    if (rc != 0 || is_alone || (!failed && !ferror(stdout)))
        return rc;
    fprintf(stderr, "pyoco-host: standard output: %s\n", failed ? strerror(failed) : "not all could be written");
    return 1;
}

static int run(const char *script, const char *code, int argc, char **argv) {
    char path[4096] = "-e";
    ph_error err = {0};
    if (script && !ph_find_script(script, path, sizeof path, &err))
        return complain(err.text);
    ph_vm *vm = ph_vm_new(&(ph_vm_options){.role = "script", .script = path}, &err);
    if (!vm)
        return complain(err.text);
    lua_State *L = ph_vm_state(vm);
    int rc = code ? luaL_loadbuffer(L, code, strlen(code), "=-e") : luaL_loadfile(L, path);
    rc = rc != LUA_OK ? complain(lua_tostring(L, -1)) : run_chunk(L, path, argc, argv);
    rc = finished(rc);
    ph_vm_close(vm);
    return rc;
}

/* Names of links to this program that stand for one of its scripts. */
static const char *const short_names[][2] = {
    {"pyoco-client", "client.lua"},
    {"pyoco-server", "server.lua"},
    {"pyoco-worker", "worker.lua"},
    {"pyoco-server-admin", "admin.lua"},
};

/* The path of the script that the program's own name stands for; false for its full name. Never one of the
 * current folder: who types a short name means the program's own script. */
static bool script_of_name(const char *argv0, char *path, size_t n) {
    const char *slash = strrchr(argv0, '/'), *name = slash ? slash + 1 : argv0;
    for (size_t i = 0; i < sizeof short_names / sizeof *short_names; i++) {
        if (strcmp(name, short_names[i][0]) == 0) {
            ph_set_command(name);
            snprintf(path, n, "%s/lua/%s", ph_home(), short_names[i][1]);
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv) {
    ph_streams_init();
    ph_signals_init();
    char own_script[4096];
    if (argc > 0 && script_of_name(argv[0], own_script, sizeof own_script))
        return run(own_script, NULL, argc - 1, argv + 1);
    if (argc < 2) {
        fputs(help_text, stderr);
        return 1;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return finished(fputs(help_text, stdout) < 0);
    if (strcmp(argv[1], "--version") == 0)
        return finished(puts("pyoco-host " PH_VERSION) < 0);
    if (strcmp(argv[1], "-e") == 0) {
        if (argc < 3)
            return complain("-e needs code, as in: pyoco-host -e 'print(1)'");
        return run(NULL, argv[2], argc - 3, argv + 3);
    }
    if (strcmp(argv[1], "--slot") == 0)
        return ph_slot_main(argc, argv);
    if (strcmp(argv[1], "--exec-child") == 0)
        return ph_exec_child(argc - 2, argv + 2);
    if (argv[1][0] == '-')
        return complain("unknown option; see pyoco-host --help");
    return run(argv[1], NULL, argc - 2, argv + 2);
}
