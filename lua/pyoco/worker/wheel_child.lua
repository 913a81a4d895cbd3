--- Runs pyoco.wheel.install in a process of its own, which ends with us.
local host = require "host"
local uv = require "luv"
local async = require "pyoco.worker.async"

local M = {}

local SIGKILL = 9
local STDERR_BYTES = 2000 -- what a failure's text has of it (CONTRACT 8.8)
local CODE = 'return require("pyoco.wheel.install").main(...)'

--- Reads a pipe to its end, keeping the last of it.
local function keep_end(pipe, done)
  local text = ""
  pipe:read_start(function(_, chunk)
    if chunk then
      text = (text .. chunk):sub(-STDERR_BYTES)
      return
    end
    pipe:close()
    done(text)
  end)
end

--- Starts a command and waits for its end. In a coroutine.
---@param command string[] command and arguments of pyoco.wheel.install
---@param timeout_sec number|nil it is killed after that
---@param on_start fun(kill: fun())|nil gets what ends it early
---@return table result { code, signal, stderr (its end), is_late (the time was up) }
---@return string|nil message when it cannot be started: then result is nil
function M.run(command, timeout_sec, on_start)
  local result, pipe = {}, uv.new_pipe(false)
  local arguments = { "--exec-child", tostring(SIGKILL), tostring(math.tointeger(uv.os_getpid())), host.exe, "-e", CODE,
    table.unpack(command) }
  return async.wait(function(done)
    local handle, pid, stop_timer
    local function end_of(part, value)
      result[part] = value
      if not (result.code and result.stderr) then return end
      if stop_timer then stop_timer() end
      done(result)
    end
    -- in our session: what has one of its own is killed as what a dead slot has left
    handle, pid = uv.spawn(host.exe, { args = arguments, stdio = { nil, nil, pipe },
      env = { "PYOCO_HOME=" .. host.home } }, function(code, signal)
        handle:close()
        result.signal = signal
        end_of("code", code)
      end)
    if not handle then
      pipe:close()
      return done(nil, ("cannot start a process: %s"):format(pid))
    end
    local function kill() if not handle:is_closing() then handle:kill("sigkill") end end
    if timeout_sec then
      stop_timer = async.after(timeout_sec, function()
        result.is_late = true
        kill()
      end)
    end
    if on_start then on_start(kill) end
    keep_end(pipe, function(text) end_of("stderr", text) end)
  end)
end

return M
