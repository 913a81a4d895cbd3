--- Runs a flow in this process, on this VM's loop, with no server: for `client.lua run`, for specs, for trying out.
local task = require "host.task"
local uv = require "luv"
local engine = require "pyoco.engine"

local M = {}

--- Turns the loop until something has happened.
local function turn(eng)
  if not uv.loop_alive() then eng:cancel() end -- what the tasks wait for can no longer come
  uv.run("once")
end

--- Pumps a run, and those beside it, until none can go on without waiting; true when all have ended. A round in which
--- something moved may have run code, and callbacks of the loop with it, so there is another one.
local function pump(eng, beside)
  if not beside then return (eng:pump()) end
  local ended, moved, others_moved
  repeat
    ended, moved = eng:pump()
    others_moved = beside:pump(eng)
  until not (moved or others_moved)
  return ended and beside:is_idle()
end

--- Runs a flow to its end, and that of the runs beside it.
---@param flow table flow object
---@param opts table? as for engine.new, but commands are allowed unless allow_commands is false; and
---  on_start = fn(engine), memory_limit = bytes, turn = fn(engine) that waits for something to happen, beside = its
---  child runs (local/children.lua): { pump(engine) -> has_moved, is_idle() }
---@return table engine with status, error, tasks, records; nil, message, "unavailable" without interrupts
function M.run(flow, opts)
  opts = opts or {}
  local ok, message, code = task.attach()
  if not ok then return nil, message, code end
  local before = task.memory_limit()
  if opts.memory_limit then task.memory_limit(opts.memory_limit) end
  local _ <close> = setmetatable({}, { __close = function()
    task.memory_limit(before)
    task.detach()
  end })
  local eng = engine.new(flow, setmetatable({ allow_commands = opts.allow_commands ~= false }, { __index = opts }))
  if opts.on_start then opts.on_start(eng) end
  local wait = opts.turn or turn
  while not pump(eng, opts.beside) do wait(eng) end
  return eng
end

return M
