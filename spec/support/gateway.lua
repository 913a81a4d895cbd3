--- A real gateway process for specs: its port, requests to it, its end.
local http = require "host.http"
local json = require "host.json"
local openapi_check = require "spec.support.openapi_check"
local process = require "spec.support.process"

local M = {}
local Gateway = {}
Gateway.__index = Gateway

--- Sends a request; a JSON answer is decoded into `.json`. Each is checked against our OpenAPI document, unless the
--- gateway's script is the spec's own.
---@param path string
---@param opts table|nil as host.http.request (method, headers, body, timeout_sec); json = value to send
---@return table|nil answer { status, headers, body, json }
---@return string|nil message
function Gateway:fetch(path, opts)
  process.settle() -- reads what it has logged: a full pipe would hold it up
  local request = { url = self.url .. path, timeout_sec = 30 }
  for key, value in pairs(opts or {}) do request[key] = value end
  if request.json ~= nil then
    request.headers, request.body = { ["content-type"] = "application/json" }, assert(json.encode(request.json))
    request.method, request.json = request.method or "POST", nil
  end
  local answer, message = http.request(request)
  if not answer then return nil, message end
  if not self.is_custom and not request.on_data then
    openapi_check.check(request.method or (request.body and "POST" or "GET"), path:match("^[^?#]*"), answer)
  end
  if (answer.headers["content-type"] or ""):find("^application/json") then answer.json = json.decode(answer.body) end
  return answer
end

--- Posts a workflow document.
---@param document string
---@param fields table[] list of { name, value }
---@return table answer
function Gateway:submit(document, fields)
  local body, kind = http.multipart(fields, { { name = "workflow", filename = "flow.yaml",
    content_type = "application/x-yaml", data = document } })
  return assert(self:fetch("/runs/yaml", { method = "POST", body = body, headers = { ["content-type"] = kind } }))
end

--- Waits until a request is answered as wanted.
---@param path string
---@param fits function (answer) -> any
---@param what string
---@return table answer
function Gateway:wait(path, fits, what)
  return process.wait_for(function()
    local answer = self:fetch(path)
    return answer and fits(answer) and answer
  end, 10000, what)
end

local CRASHES = { [6] = "SIGABRT", [7] = "SIGBUS", [8] = "SIGFPE", [11] = "SIGSEGV" }

--- Ends it gracefully. Raises when it crashes.
---@return integer code
function Gateway:stop()
  http.close()
  if self.process.code == nil then self.process:kill "sigterm" end
  local code, signal = self.process:wait()
  if CRASHES[signal] then error(("the gateway crashed (%s)\n%s"):format(CRASHES[signal], self.process.stderr), 2) end
  return code
end

--- Starts a gateway and waits until it listens.
---@param opts table { nats_url, script = path (default gateway.lua), args, env }
---@return table gateway { url, process }
function M.start(opts)
  local args = { opts.script or "gateway.lua", "--port", "0" }
  for _, arg in ipairs(opts.args or {}) do args[#args + 1] = arg end
  local env = { PYOCO_NATS_URL = opts.nats_url, PYOCO_LOAD_DOTENV = "0" }
  for name, value in pairs(opts.env or {}) do env[name] = value end
  local self = setmetatable({ is_custom = opts.script ~= nil, process = process.host(args, { env = env }) }, Gateway)
  self.url = process.wait_for(function()
    if self.process.code then error("the gateway ended: " .. self.process.stderr .. self.process.stdout) end
    return self.process.stdout:match "listening at (http://[%d.:]+)"
  end, 10000, "the gateway to listen")
  return self
end

return M
