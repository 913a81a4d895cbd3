--- What a NATS server says of itself to whoever connects, before anything is asked: `INFO {...}`.
local uv = require "luv"

local M = {}

--- Connects and waits a moment for the first line.
---@param host string IPv4 address
---@param port integer
---@param seconds number
---@return string|nil its first words ("" if it says nothing); nil when nobody answers
function M.of(host, port, seconds)
  local socket, timer, state = uv.new_tcp(), uv.new_timer(), {}
  timer:start(math.floor(seconds * 1000), 0, function() state.ended = true end)
  socket:connect(host, port, function(err)
    state.text, state.ended = not err and "" or nil, state.ended or err ~= nil
    if err then return end
    socket:read_start(function(read_error, chunk)
      state.text, state.ended = state.text .. (chunk or ""), state.ended or read_error or not chunk
    end)
  end)
  while not state.ended and not (state.text and state.text:find("\n", 1, true)) do uv.run "once" end
  socket:close()
  timer:close()
  uv.run "nowait"
  return state.text
end

--- The same of the first server of a list of addresses.
---@param url string "nats://user:password@host:port,..."
---@param seconds number
---@return string|nil
function M.read(url, seconds)
  local address = url:match("^[^,%s]+"):gsub("^%a+://", ""):gsub("^.*@", "")
  local host, port = address:match "^([^:/]+):?(%d*)"
  local found = host and uv.getaddrinfo(host, nil, { family = "inet", socktype = "stream" })
  return found and found[1] and M.of(found[1].addr, math.tointeger(tonumber(port)) or 4222, seconds) or nil
end

return M
