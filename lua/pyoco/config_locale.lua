--- The language of the pages.
local uv = require "luv"

local M = {}

--- Variables that name the server's language, most important first.
local VARIABLES = { "LC_ALL", "LANGUAGE", "LC_MESSAGES", "LANG" }

--- The language code for a wish: values that begin with ja or en decide, anything else leaves it to the server's
--- locale (CONTRACT 2, PYOCO_DASHBOARD_LANG).
---@param wish string|nil
---@param env table|nil variables; default: the process's
---@return string "ja" | "en"
function M.language(wish, env)
  env = env or uv.os_environ()
  local candidates = { wish or "" }
  for _, name in ipairs(VARIABLES) do candidates[#candidates + 1] = env[name] end
  for _, text in ipairs(candidates) do
    local code = text:lower():match("^%s*(%a%a)")
    if code == "ja" or code == "en" then return code end
  end
  return "en"
end

return M
