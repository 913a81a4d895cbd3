--- The administrator's command line: its table of commands. What a command does is in cli/admin_<subject>.lua.
local command = require "pyoco.cli.command"
local output = require "pyoco.cli.output"
local program = require "pyoco.cli.program"

local M = {}

local JSON_OUTPUT = { "--output", choices = { "json" }, doc = "JSON also on a terminal." }

--- The program. `run` is { module, function }, loaded when the command is used. The function is called with an app
--- { config, origins, warnings, connect, store } as services take it; `store` is there, connected and with its
--- resources made, for rows
--- with `uses_store`.
M.program = {
  name = "admin.lua",
  doc = "Looks after what the gateway and the workers keep in NATS, and says what is wrong. Needs NATS, not the "
    .. "gateway.",
  epilog = "Exit codes: 0 done, 1 failed (the reason and what to do next are on standard error), 130 interrupted.",
  config = { "nats_url", "server_url", "api_key" },
  groups = { ["api-key"] = "API keys of the gateway.", runs = "Stored runs.", wheel = "Packages of flows and tasks." },
  commands = {
    { "api-key create", doc = "Make a key. It is shown this once.", run = { "admin_keys", "create" }, uses_store = true,
      options = { { "--tenant", required = true, metavar = "<tenant>",
        doc = "Whose key it is: its holder sees the runs of this tenant only." }, JSON_OUTPUT } },
    { "api-key list", doc = "List keys, newest first.", run = { "admin_keys", "list" }, uses_store = true,
      options = { { "--output", choices = { "json", "table" }, doc = "Table on a terminal, else a line of JSON." } } },
    { "api-key revoke", doc = "Make a key useless, at once and for good.", run = { "admin_keys", "revoke" },
      uses_store = true,
      options = { { "--key-id", required = true, not_empty = true, metavar = "<key-id>",
        doc = "The part of a key between pyoco_ and its dot." }, JSON_OUTPUT } },
    { "config", doc = "Show the effective value of every option, and where it comes from.",
      run = { "admin_config", "show" },
      options = { { "--output", choices = { "json", "table" }, doc = "Table on a terminal, else a line of JSON." } } },
    { "doctor", doc = "Say whether this set-up works, and what to do when it does not. Changes nothing.",
      run = { "doctor", "run" },
      options = { { "--output", choices = { "text", "json" }, default = "text",
        doc = "json: one line { status, checks: [{ name, status, message, remedy }] }." } } },
    { "runs prune", doc = "Remove runs that have ended, their outputs and logs, and what nobody refers to any more.",
      run = { "admin_runs", "prune" }, uses_store = true,
      options = {
        { "--older-than", required = true, type = "duration", metavar = "<age>",
          doc = "Runs whose last update is longer ago: 30d, 12h, 90m, 45s." },
        { "--status", many = true, choices = { "COMPLETED", "FAILED", "CANCELLED" },
          doc = "Only runs of this status. May be repeated; default: all three." },
        { "--dry-run", flag = true, doc = "Only say how many there are." }, JSON_OUTPUT } },
    { "wheel build", doc = "Pack a folder of flows and task modules as a wheel for workers.",
      run = { "admin_wheel", "build" },
      options = {
        { "DIR", doc = "The folder; its wheel.lua says what the wheel is called." },
        { "--out", default = ".", metavar = "<folder>", doc = "Where the wheel goes." },
        { "--name", doc = "Instead of wheel.lua's." },
        { "--version", doc = "Instead of wheel.lua's." },
        { "--tags", metavar = "<lua-abi-platform>",
          doc = "Default: lua54-none-any; with C modules, this machine's." },
      } },
    { "wheel inspect", doc = "Show what is in a wheel, and what workers make of it.",
      run = { "admin_wheel", "inspect" },
      options = {
        { "FILE", doc = "A *.whl file." },
        { "--output", choices = { "json", "table" }, doc = "Table on a terminal, else a line of JSON." },
      } },
  },
}

--- Connects to NATS and makes what is missing there.
local function open_store(cfg, connect)
  local store, message = connect(cfg, { name = "pyoco-admin-cli" })
  local ok = store
  if store then ok, message = store:ensure() end
  if ok then return store end
  if store then store:close() end
  output.fail("connection", message, { ("is NATS at %s running? Name another address with --nats-url URL or "
    .. "PYOCO_NATS_URL"):format(require("pyoco.config").public(cfg.nats_url)) })
end

--- Runs one command line.
---@param argv string[]
---@param connect fun(cfg: table, opts: table): table|nil, string|nil how a store is opened (store.jetstream's connect)
---@return integer exit code: 0 done, 1 failed, 130 interrupted
function M.main(argv, connect)
  local cfg, values, origins, warnings = program.start(M.program, argv)
  if not cfg then return values end
  local row, app = command.row(M.program, values.command), { config = cfg, origins = origins, warnings = warnings,
    connect = connect }
  if row.uses_store then
    app.store = open_store(cfg, connect)
    if not app.store then return 1 end
  end
  local code = command.run(row, cfg, values, app)
  if app.store then app.store:close() end
  return code
end

return M
