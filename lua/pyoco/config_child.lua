--- The environment that programs started by flows get: ours without what is secret.
local uv = require "luv"
local schema = require "pyoco.config_schema"

local M = {}

--- The process's environment for a program that is not ours: variables of secret options are left out, and so are
--- user and password in addresses of NATS.
---@return table NAME = text
function M.environment()
  local env = uv.os_environ()
  for _, section in ipairs(schema.sections) do
    for i = 3, #section do
      local row = section[i]
      local name = row.env
      if name and row.secret then
        env[name] = nil
      elseif name and env[name] and row[2]:find("_url$") then
        env[name] = env[name]:gsub("//[^/%s,]*@", "//")
      end
    end
  end
  return env
end

return M
