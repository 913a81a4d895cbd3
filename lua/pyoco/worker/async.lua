--- Waiting without blocking, for library code that runs in coroutines on a VM's event loop.
---
--- A coroutine started by `go` may call `sleep`, `wait`, and whatever is built on them; the loop's callbacks resume it.
local uv = require "luv"
local timer = require "pyoco.engine.timer"

local M = {}

local create, resume, running, yield = coroutine.create, coroutine.resume, coroutine.running, coroutine.yield
local traceback = debug.traceback

--- What happens to an error that escapes from a coroutine started by `go`. Replaced by whoever has a log.
---@param text string message with traceback
function M.on_error(text) io.stderr:write("pyoco-host: ", text, "\n") end

local function continue(co, ...)
  local ok, message = resume(co, ...)
  if not ok then M.on_error(traceback(co, tostring(message))) end
end

--- Runs a function in a coroutine of its own, up to its first wait.
---@param fn function
function M.go(fn, ...)
  continue(create(fn), ...)
end

--- Suspends the coroutine until `resume` is called, and returns what it was given.
---@param start fun(resume: fun(...)) registers `resume`, which may be called at once or later; calls after the first
---  do nothing
---@return any ...
function M.wait(start)
  local co = running()
  local answer, suspended, done
  start(function(...)
    if done then return end
    done = true
    if suspended then return continue(co, ...) end
    answer = table.pack(...)
  end)
  if answer then return table.unpack(answer, 1, answer.n) end
  suspended = true
  return yield()
end

--- Calls a function later: after(seconds, fn) -> stop.
M.after = timer.after

--- Calls a function again and again.
---@param seconds number
---@param fn function
---@return fun() stop
function M.every(seconds, fn)
  local handle = uv.new_timer()
  local ms = math.max(1, math.ceil(seconds * 1000))
  handle:start(ms, ms, fn)
  return function()
    if not handle:is_closing() then handle:close() end
  end
end

--- Suspends the coroutine for a time.
---@param seconds number
function M.sleep(seconds)
  M.wait(function(done) M.after(seconds, done) end)
end

return M
