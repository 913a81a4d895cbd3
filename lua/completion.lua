--- Completion for shells: `pyoco-host completion.lua bash pyoco-client` prints the script. `make install` puts those of
--- the short names where shells look for them; for this session: eval "$(pyoco-host completion.lua bash pyoco-client)".
local args = require "pyoco.cli.args"
local output = require "pyoco.cli.output"
local program = require "pyoco.cli.program"

--- Short name -> where its command line is described.
local PROGRAMS = {
  ["pyoco-client"] = function() return require("pyoco.cli.client").program end,
  ["pyoco-server"] = function() return require("pyoco.up.server").program end,
  ["pyoco-worker"] = function() return require("pyoco.worker").PROGRAM end,
  ["pyoco-server-admin"] = function() return require("pyoco.cli.admin").program end,
}

--- pyoco-host takes a script first: its own are offered, then files; behind one of them its own options.
local HOST_BASH = [[
_pyoco-host() {
    local cur="${COMP_WORDS[COMP_CWORD]}" script="${COMP_WORDS[1]##*/}" short=
    local own="up.lua gateway.lua worker.lua client.lua admin.lua server.lua test.lua"
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "$own" -- "$cur") $(compgen -f -X '!*.lua' -- "$cur"))
        return 0
    fi
    case "$script" in
        client.lua) short=pyoco-client ;;
        server.lua) short=pyoco-server ;;
        worker.lua) short=pyoco-worker ;;
        admin.lua) short=pyoco-server-admin ;;
        *) return 0 ;;
    esac
    declare -F "_$short" > /dev/null || . "${BASH_SOURCE[0]%/*}/$short" 2> /dev/null || return 0
    COMP_WORDS=("$short" "${COMP_WORDS[@]:2}")
    COMP_CWORD=$((COMP_CWORD - 1))
    "_$short"
}
complete -F _pyoco-host -o bashdefault -o default pyoco-host
]]

local _, values = program.start({
  name = "completion.lua", doc = "Prints the completion script of a program.", only = { "process" },
  options = {
    { "SHELL", choices = { "bash", "zsh", "fish" }, doc = "For which shell." },
    { "PROGRAM", choices = { "pyoco-client", "pyoco-server", "pyoco-worker", "pyoco-server-admin", "pyoco-host" },
      doc = "Of which program; pyoco-host has one for bash only." },
  },
}, { ... })
if type(values) ~= "table" then return values end
if values.program ~= "pyoco-host" then
  io.stdout:write(args.completion(PROGRAMS[values.program](), values.program, values.shell))
elseif values.shell == "bash" then
  io.stdout:write(HOST_BASH)
else
  output.fail("arguments", "pyoco-host has completion for bash only", { "use the short names, as pyoco-client" })
  return 1
end
