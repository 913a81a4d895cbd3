--- The page at / : index.html with the language put in. Its files come from /static/, without Lua.
local host = require "host"
local response = require "pyoco.http.response"

local CSP = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
  .. "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

local function read(path)
  local file, message = io.open(path, "rb")
  if not file then return nil, message end
  local text = file:read("a")
  file:close()
  return text
end

return {
  { "GET", "/", name = "page", public = true, head = true, doc = "The page for people.",
    run = function(app)
      local html, message = read(host.home .. "/www/index.html")
      if not html then return nil, message, "internal" end
      local page = html:gsub("{{(%l[%l_]*)}}", { lang = app.config.dashboard_lang,
        key_header = app.config.api_key_header })
      return response.new(200, { ["content-type"] = "text/html; charset=utf-8", ["content-security-policy"] = CSP,
        ["x-content-type-options"] = "nosniff", ["referrer-policy"] = "no-referrer" }, page)
    end },
}
