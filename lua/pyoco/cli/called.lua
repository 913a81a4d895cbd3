--- How our programs are called here: for hints that can be typed as they stand.
local host = require "host"
local uv = require "luv"

local M = {}

--- Short names of an installation (src/main.c has them).
local SHORT = {
  client = "pyoco-client", server = "pyoco-server", worker = "pyoco-worker", admin = "pyoco-server-admin" }

--- The host as a user types it: its path when it lies below the current folder.
---@return string
function M.host()
  local here = uv.cwd() .. "/"
  return host.exe:sub(1, #here) == here and host.exe:sub(#here + 1) or "pyoco-host"
end

--- One of our programs: by its short name where this one was called by its own.
---@param name string "client", "admin", "up" ...
---@return string as "pyoco-client", "build/pyoco-host client.lua"
function M.program(name)
  return host.command and SHORT[name] or ("%s %s.lua"):format(M.host(), name)
end

return M
