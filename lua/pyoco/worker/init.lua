--- What a worker script calls:
---
---     local worker = require "pyoco.worker"
---     return worker.main({}, ...)
---
--- The script is loaded twice over: by the user, where `main` is the program; and in every slot, for each run, where
--- `main` only gives its first argument back. So nothing heavy is loaded here before it is known which it is.
local host = require "host"

local M = {}

--- The command line (also what --help shows).
M.PROGRAM = {
  name = "worker.lua", doc = "Pulls jobs by tag and runs their flows.",
  config = { "worker_tags", "worker_id", "worker_slots", "nats_url", "worker_drain_sec", "task_path",
    "worker_flow_resolver", "worker_allow_commands", "worker_allow_spawn", "wheel_sync_enabled", "wheel_sync_dir",
    "wheel_sync_interval_sec", "wheel_install_timeout_sec" },
  options = {
    { "--run-once", flag = true, doc = "Take one job at most, then exit." },
    { "--poll-timeout", type = "number", min = 0, default = 1.0, metavar = "<sec>",
      doc = "With --run-once: how long to wait for the job, and for NATS (2 s at least)." },
  },
}

--- The worker's program in the script role; the spec itself in a slot.
---@param spec table { globals = table of more globals for flow files }
---@param ... string command-line arguments
---@return table|integer spec, or the exit code
function M.main(spec, ...)
  if host.role ~= "script" then return spec end
  local cfg, values, _, warnings = require("pyoco.cli.program").start(M.PROGRAM, { ... })
  if not cfg then return values end
  local fine, fault = require("pyoco.flow.resolver").check(cfg.worker_flow_resolver)
  if not fine then
    require("pyoco.cli.output").fail("arguments", fault, { "mend the file, or name another with --flow-resolver" })
    return 1
  end
  return require("pyoco.worker.program").run(cfg, values, warnings)
end

--- A worker for a loop of one's own, in a script of one's own:
---
---     local worker = require "pyoco.worker"
---     local w = assert(worker.connect { tags = { "cpu" }, flow_resolver = function(name) return flows[name] end })
---     while true do
---       local run_id = w:run_once(1.0)
---     end
---
--- Runs go on in a slot process, as a worker's. For a flow_resolver that is a function the slot loads the script too,
--- up to this call, which ends it there: whatever stands before it runs in each slot.
---@param opts table|nil { tags (list), worker_id, flow_resolver (function(name) -> flow or nil, or the text
---  of --flow-resolver), task_path (list of folders), globals (more globals for flow files), config (options by their
---  short name, over the environment's), log (pyoco.log; default: warnings and errors, on standard error),
---  connect_timeout_sec (default 10) }
---@return table|nil worker run_once(timeout_sec), close()
---@return string|nil message
---@return string|nil code "invalid" | "unavailable" | "timeout"
function M.connect(opts)
  opts = opts or {}
  if host.role ~= "script" then
    M.connected = opts
    error("worker.connect: in a slot the script ends here", 0)
  end
  return require("pyoco.worker.own").connect(opts)
end

return M
