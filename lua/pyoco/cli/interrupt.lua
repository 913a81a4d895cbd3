--- Ctrl-C for command lines: seen by waits, turned into exit code 130 by the caller.
local uv = require "luv"

local M = {}

--- Catches SIGINT, SIGTERM and SIGHUP from now on.
---@return table with `seen` (false or the signal's name), `sleep` and `close`
function M.catch()
  local self = { seen = false }
  local timer, handles = uv.new_timer(), {}
  for _, name in ipairs { "sigint", "sigterm", "sighup" } do
    local handle = uv.new_signal()
    handle:start(name, function()
      self.seen = self.seen or name
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
