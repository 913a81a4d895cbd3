--- Another NATS client (npm's `nats`, development only) for specs: spec/support/object_peer.js in a process of its own.
local host = require "host"
local json = require "host.json"
local process = require "spec.support.process"

local M = {}

local INSTALL_MS <const>, PEER_MS <const> = 120000, 30000

--- Why the other client is not there; nil when it is.
---@return string|nil
function M.missing()
  local started, make = pcall(process.spawn, "make", { "-s", "-C", host.home, "peer" })
  if not started then return "make: " .. make end
  make:wait(INSTALL_MS)
  if make.code ~= 0 then return "npm's nats cannot be installed: " .. make.stderr:sub(1, 300) end
end

--- Runs a verb of object_peer.js.
---@param url string of NATS
---@param bucket string
---@param ... string verb and its arguments
---@return any value that it printed
function M.run(url, bucket, ...)
  local node = process.spawn("node", { host.home .. "/spec/support/object_peer.js", host.home .. "/build/node", url,
    bucket, ... })
  node:wait(PEER_MS)
  if node.code ~= 0 then error("object_peer.js: " .. node.stderr, 2) end
  return json.decode(node.stdout)
end

return M
