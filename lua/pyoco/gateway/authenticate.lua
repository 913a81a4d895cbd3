--- The app's hook that asks callers for their key, where the configuration wants one.
local address = require "pyoco.http.address"
local auth = require "pyoco.service.auth"
local response = require "pyoco.http.response"

local M = {}

--- Turns the hook on when `http_auth_mode` says so.
---@param app table pyoco.http.app
function M.mount(app)
  local cfg = app.config
  if cfg.http_auth_mode ~= "api_key" then return end
  local header = cfg.api_key_header:lower()
  app:authenticate(function(_, req)
    local caller, message, code, detail = auth.check(app, { key = req.headers[header], derived = req.derived,
      address = address.of(req, cfg.http_trusted_proxies) })
    if not caller then return nil, message, code, detail end
    if caller.derive then return response.derive(caller.derive) end
    req.caller = caller
    return true
  end)
end

return M
