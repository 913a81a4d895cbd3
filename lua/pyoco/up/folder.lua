--- The data folder of up.lua, server.lua and `gateway.lua --with-nats`: one program at a time is at work in it.
local host = require "host"
local uv = require "luv"

local M = {}
local Claim = {}
Claim.__index = Claim

local FOLDER_MODE = 493 -- rwxr-xr-x

--- Takes the folder, and makes it when it is missing. The kernel gives it back when we die.
---@param dir string
---@param program string our name, for whoever comes second
---@param is_shared boolean|nil we bring no NATS: gateways run side by side, the folder is only made
---@return table|nil claim with close()
---@return string|nil message
---@return string|nil code "conflict" | "unavailable"
function M.claim(dir, program, is_shared)
  uv.fs_mkdir(dir, FOLDER_MODE) -- that it exists is fine, and any other trouble shows below
  if is_shared then return setmetatable({}, Claim) end
  local path = dir .. "/up.pid"
  local lock, message, code = host.lock(dir .. "/up.lock")
  if not lock and code == "conflict" then
    local file <close> = io.open(path)
    local pid, name = (file and file:read("a") or ""):match("^(%d+)%s+(%S+)")
    return nil, ("%s is at work in %s already (process %s); stop it, or use another --data-dir"):format(
      name or "another program", dir, pid or "unknown"), "conflict"
  end
  if not lock then
    return nil, ("cannot write in %s: %s; choose another --data-dir"):format(dir, message), "unavailable"
  end
  local mine = io.open(path, "w")
  if mine then
    mine:write(math.tointeger(uv.os_getpid()), " ", program, "\n")
    mine:close()
  end
  return setmetatable({ path = path, lock = lock }, Claim)
end

--- Gives the folder back.
function Claim:close()
  if not self.lock then return end
  os.remove(self.path)
  self.lock:close()
end

return M
