---@meta pyoco.worker

--- Workers: the program, or a loop of one's own.
---@class pyoco.worker
---@field PROGRAM table the command line of worker.lua
local M = {}

---@class pyoco.worker.Worker
local Worker = {}

--- The worker's program in the script role; the spec itself in a slot.
---@param spec table { globals = table of more globals for flow files }
---@param ... string command-line arguments
---@return table|integer spec, or the exit code
function M.main(spec, ...) end

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
---@return pyoco.worker.Worker? worker run_once(timeout_sec), close()
---@return string|nil message
---@return string|nil code "invalid" | "unavailable" | "timeout"
function M.connect(opts) end

--- Waits for one job of any of the tags and runs it to its end. A run that waits for nothing is not cut off by the
--- timeout: that is only for the job to come.
---@param timeout_sec number|nil default 1.0
---@return string|nil run_id of the job that was settled ("" if it had none)
---@return string|nil outcome as in pyoco.worker.outcome: "completed", "failed", "cancelled", ...; or message
---@return string|nil code "timeout": no job came; "unavailable": NATS does not answer
function Worker:run_once(timeout_sec) end

--- Says good-bye in the registry and ends slot and connection.
function Worker:close() end

return M
