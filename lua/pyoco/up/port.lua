--- Which ports are free, and who is on the others.
local uv = require "luv"
local greeting = require "pyoco.client.greeting"

local M = {}

--- Whether we could listen there.
---@param host string IPv4 address, or localhost; what is none is not ours to judge: who is to listen there says so
---@param port integer
---@return boolean
function M.is_free(host, port)
  if host == "localhost" then host = "127.0.0.1" end
  if not host:find("^%d+%.%d+%.%d+%.%d+$") then return true end
  local socket = uv.new_tcp()
  local fine = socket:bind(host, port) and socket:listen(1, function() end)
  socket:close()
  uv.run("nowait")
  return fine ~= nil and fine ~= false
end

--- A free port: the wanted one, or the first free one of the hundred after it.
---@param host string
---@param wanted integer
---@return integer|nil
function M.first_free(host, wanted)
  for port = wanted, math.min(wanted + 100, 65535) do
    if M.is_free(host, port) then return port end
  end
end

--- Connects and waits a moment for what the other side says of itself.
---@param host string IPv4 address
---@param port integer
---@param seconds number|nil default 1
---@return string|nil its first words ("" if it says nothing); nil when nobody answers
function M.greeting(host, port, seconds) return greeting.of(host, port, seconds or 1) end

return M
