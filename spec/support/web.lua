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

local Connection = {}
Connection.__index = Connection

--- Opens a connection and sends bytes. What comes back gathers in `.text`; `.closed` says that the server has closed.
--- @param port integer
--- @param bytes string
--- @return table connection with :wait(fn, deadline_ms), :send(bytes), :close()
function M.connect(port, bytes)
  local self = setmetatable({ tcp = uv.new_tcp(), text = "" }, Connection)
  self.tcp:connect("127.0.0.1", port, function(failure)
    self.closed = failure ~= nil
    if failure then return end
    self.tcp:write(bytes)
    self.tcp:read_start(function(_, chunk)
      self.text = self.text .. (chunk or "")
      self.closed = self.closed or not chunk
    end)
  end)
  return self
end

--- Turns the loop until fn(self) is true, the server has closed, or the deadline passes.
--- @param fn function|nil default: wait for the close
--- @param deadline_ms integer|nil default 10000
--- @return boolean whether fn's condition (or the close) came about
function Connection:wait(fn, deadline_ms)
  local deadline = uv.hrtime() + (deadline_ms or 10000) * 1e6
  local tick = uv.new_timer()
  tick:start(2, 2, function() end)
  while uv.hrtime() < deadline and not self.closed and not (fn and fn(self)) do uv.run("once") end
  tick:close()
  return fn and fn(self) and true or not fn and self.closed or false
end

--- Sends more.
function Connection:send(bytes) self.tcp:write(bytes) end

--- Closes it.
function Connection:close()
  self.tcp:close()
  uv.run("nowait")
end

--- Sends bytes on a new connection and collects what comes until the server closes it, `enough(text)` says true,
--- or 10 s have passed.
--- @param port integer
--- @param bytes string
--- @param enough function|nil  text -> boolean
--- @return string text, boolean closed
function M.raw(port, bytes, enough)
  local c = M.connect(port, bytes)
  c:wait(enough and function() return enough(c.text) end)
  c:close()
  return c.text, c.closed
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
