--- Ctrl-C for command lines: seen by waits, turned into exit code 130 by the caller.
local uv = require "luv"

local M = {}

--- Catches SIGINT, SIGTERM and SIGHUP from now on.
---@param opts table|nil { once = a second one ends the process as the system does, so that code which never returns
---  cannot hold the terminal }
---@return table with `seen` (false or the signal's name), `sleep`, `close`; `on_signal` = nil | fn called at the first
function M.catch(opts)
  local self = { seen = false }
  local timer, handles = uv.new_timer(), {}
  for _, name in ipairs { "sigint", "sigterm", "sighup" } do
    local handle = uv.new_signal()
    local start = opts and opts.once and uv.signal_start_oneshot or uv.signal_start
    start(handle, name, function()
      local is_first = not self.seen
      self.seen = self.seen or name
      if is_first and self.on_signal then self.on_signal() end
      uv.stop()
    end)
    handle:unref()
    handles[#handles + 1] = handle
  end

  --- Waits, at most until a signal.
  ---@param seconds number
  ---@return boolean false when a signal came
  function self.sleep(seconds)
    timer:start(math.max(0, math.floor(seconds * 1000)), 0, function() uv.stop() end)
    if not self.seen then uv.run() end
    timer:stop()
    return not self.seen
  end

  --- Gives the signals back.
  function self.close()
    timer:close()
    for _, handle in ipairs(handles) do handle:close() end
    uv.run()
  end

  return self
end

return M
