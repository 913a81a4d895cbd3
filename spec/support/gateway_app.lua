--- The gateway's app on a memory store, with no socket: for specs of routes and services.
local config = require "pyoco.config"
local http_app = require "pyoco.http.app"
local memory = require "pyoco.store.memory"
local openapi_check = require "spec.support.openapi_check"

local M = {}

--- A new app with the standard routes.
---@param settings table|nil short name -> value, over the defaults
---@return table app with store (store/memory)
function M.new(settings)
  local cfg = assert(config.load { env = {}, cwd = "/nonexistent" })
  for name, value in pairs(settings or {}) do cfg[name] = value end
  local app = http_app.new { config = cfg }
  app.store = memory.open(cfg)
  require("pyoco.gateway.authenticate").mount(app)
  for _, name in ipairs(require("pyoco.gateway").ROUTES) do app:mount(require(name)) end
  local simulate = app.simulate

  --- As the app's, and each answer is checked against our OpenAPI document.
  function app.simulate(self, opts)
    local answer = simulate(self, opts)
    if answer.status and not self.is_custom then
      local method = opts.method or ((opts.json ~= nil or opts.form or opts.body) and "POST" or "GET")
      openapi_check.check(method, opts.path:match("^[^?]*"), answer)
    end
    return answer
  end
  return app
end

--- A multipart body with one workflow file.
---@param document string
---@param fields table|nil further fields; default flow_name
---@return table what app:simulate takes as `form`
function M.form(document, fields)
  local list = {}
  for name, value in pairs(fields or { flow_name = "hello" }) do list[#list + 1] = { name, value } end
  return { list, {
    { name = "workflow", filename = "flow.yaml", content_type = "application/x-yaml", data = document },
  } }
end

return M
