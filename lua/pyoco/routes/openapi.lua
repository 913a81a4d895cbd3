--- The API described by itself: /openapi.json, and /docs, a page with the list of its calls.
local host = require "host"
local json = require "host.json"
local openapi = require "pyoco.http.openapi"
local response = require "pyoco.http.response"
local gives = require "pyoco.routes.gives"

local TITLE = "pyoco-server (HTTP gateway)" -- the reference's: clients may look for it
local ABOUT = "Runs of flows: submit, follow, cancel; schedules, workers, wheels. Failures are {\"detail\": ...}."

local CSP = "default-src 'none'; style-src 'unsafe-inline'"

local made = setmetatable({}, { __mode = "k" }) -- app -> text; a VM has one app, whose rows are all there by now

--- The rows of an app with what they give.
local function rows_of(app)
  local rows = app:routes()
  for _, row in ipairs(rows) do row.gives = row.gives or gives.routes[row.name] end
  return rows
end

local function document(app)
  return openapi.document(rows_of(app), { title = TITLE, version = host.version, description = ABOUT,
    schemas = gives.schemas, key_header = app.config.http_api_key_header, also = gives.also })
end

local function text_of(app)
  made[app] = made[app] or assert(json.encode(document(app), { sort = true }))
  return made[app]
end

local PAGE = [[<!doctype html><html lang="en"><meta charset="utf-8"><title>%s</title>
<style>body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
td{padding:.2rem .8rem .2rem 0;vertical-align:top}code{white-space:nowrap}</style>
<h1>%s</h1><p>%s The whole description, for tools: <a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1).</p>
<table>%s</table></html>
]]

local ESCAPES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }
local function escaped(text) return (text:gsub('[&<>"]', ESCAPES)) end

local function page(app)
  local lines = {}
  for _, list in ipairs { gives.also, app:routes() } do
    for _, row in ipairs(list) do
      lines[#lines + 1] = ("<tr><td><code>%s</code><td><code>%s</code><td>%s"):format(row.method, escaped(row.path),
        escaped(row.doc or ""))
    end
  end
  return PAGE:format(TITLE, TITLE, escaped(ABOUT), table.concat(lines, "\n"))
end

return {
  { "GET", "/openapi.json", name = "openapi", public = true, doc = "This API as an OpenAPI 3.1 document.",
    run = function(app) return response.json_text(text_of(app)) end },
  { "GET", "/docs", name = "docs", public = true, doc = "The list of calls, for people.",
    run = function(app)
      return response.new(200, { ["content-type"] = "text/html; charset=utf-8", ["content-security-policy"] = CSP },
        page(app))
    end },
  { "GET", "/redoc", name = "redoc", public = true, doc = "As the reference has it: see /docs.",
    run = function() return response.redirect "/docs" end },
}
