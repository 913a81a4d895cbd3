/* argv -> script -> exit code; nothing else. */
#include "child.h"
#include "host.h"
#include "slot.h"
#include "vm.h"
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
    "  test.lua     runs specs of your flows and tasks (busted)\n"
    "\n"
    "A script is looked up as given, then in PYOCO_HOME/lua, then in " PH_SHARE "/lua.\n"
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
    fflush(stdout);
    ph_vm_close(vm);
    return rc;
}

int main(int argc, char **argv) {
    ph_signals_init();
    if (argc < 2) {
        fputs(help_text, stderr);
        return 1;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return fputs(help_text, stdout) < 0;
    if (strcmp(argv[1], "--version") == 0)
        return puts("pyoco-host " PH_VERSION) < 0;
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
