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
    "worker_flow_resolver", "worker_allow_commands", "wheel_sync_enabled", "wheel_sync_dir",
    "wheel_sync_interval_sec", "wheel_install_timeout_sec" },
  options = {
    { "--run-once", flag = true, doc = "Take one job at most, then exit." },
    { "--poll-timeout", type = "number", min = 0, default = 1.0, metavar = "<sec>",
      doc = "With --run-once: how long to wait for the job." },
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
  return require("pyoco.worker.program").run(cfg, values, warnings)
end

return M
