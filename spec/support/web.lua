--- Helpers for specs of the HTTP side: an app script in a folder of its own, a server over it, raw connections.
local uv = require "luv"

local M = {}

-- libuv opens one descriptor for good with a loop's first stream: not a leak of the spec that happens to make it.
uv.new_tcp():close()
uv.run("nowait")

--- Writes text to path as an editor does that saves in place.
function M.write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

--- A new empty folder and the function that removes it with what is in it.
--- @return string, function
function M.folder()
  local dir = assert(uv.fs_mkdtemp("/tmp/pyoco-web-XXXXXX"))
  return dir, function()
    local scan = uv.fs_scandir(dir)
    while scan do
      local name = uv.fs_scandir_next(scan)
      if not name then break end
      uv.fs_unlink(dir .. "/" .. name)
    end
    uv.fs_rmdir(dir)
  end
end

--- Sends bytes on a new connection and collects what comes until the server closes it, `enough(text)` says true,
--- or the deadline passes.
--- @param port integer
--- @param bytes string
--- @param enough function|nil  text -> boolean
--- @param deadline_ms integer|nil  default 10000
--- @return string text, boolean closed
function M.raw(port, bytes, enough, deadline_ms)
  local tcp, text, closed, over = uv.new_tcp(), "", false, false
  local timer = uv.new_timer()
  timer:start(deadline_ms or 10000, 0, function() over = true end)
  tcp:connect("127.0.0.1", port, function(failure)
    if failure then
      over = true
      return
    end
    tcp:write(bytes)
    tcp:read_start(function(_, chunk)
      text = text .. (chunk or "")
      closed = closed or not chunk
      over = over or closed or (enough and enough(text)) or false
    end)
  end)
  while not over do uv.run("once") end
  tcp:close()
  timer:close()
  uv.run("nowait")
  return text, closed
end

--- Calls probe until it returns something true; fails after 10 s.
--- @param probe function
function M.wait_for(probe)
  local deadline = uv.hrtime() + 10e9
  local timer = uv.new_timer()
  timer:start(2, 2, function() end)
  local result = probe()
  while not result and uv.hrtime() < deadline do
    uv.run("once")
    result = probe()
  end
  timer:close()
  uv.run("nowait")
  return assert(result, "condition not met within 10 s")
end

return M
