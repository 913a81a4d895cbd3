--- A server over an app's script, with a NATS and a bucket of runs, all in this process: for what C answers by itself.
local http = require "host.http"
local httpd = require "host.httpd"
local nats = require "host.nats"
local jetstream = require "pyoco.nats.jetstream"
local kv = require "pyoco.nats.kv"
local rpc = require "pyoco.nats.rpc"
local support = require "spec.support.nats"
local web = require "spec.support.web"

local M = {}
local Served = {}
Served.__index = Served

--- Starts all of it.
---@param script string text of the script that returns the app
---@param options table|nil of httpd.serve, beside those that are the same for all
---@return table served .server .bus (NATS) .conn .bucket; a spec that stops the server itself sets .server to nil
function M.start(script, options)
  local it = setmetatable({ bus = support.start() }, Served)
  it.conn = assert(nats.connect { url = it.bus.url })
  nats.share(it.conn)
  it.bucket = assert(kv.new(jetstream.new(rpc.blocking(it.conn)), "runs"))
  assert(it.bucket:ensure {})
  local dir
  dir, it.remove = web.folder()
  web.write(dir .. "/app.lua", script)
  local all = { script = dir .. "/app.lua", port = 0, threads = 8, service = false, runs_bucket = "runs" }
  for key, value in pairs(options or {}) do all[key] = value end
  it.server = assert(httpd.serve(all))
  return it
end

--- Ends all of it.
function Served:stop()
  http.close()
  if self.server then self.server:stop(5) end
  nats.share(nil)
  self.conn:close()
  self.bus:stop()
  self.remove()
end

return M
