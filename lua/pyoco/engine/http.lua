--- `ctx:http`: an HTTP request that other tasks of the run do not wait for. libcurl does it on the run's event loop
--- (src/http/loop.c), loaded by the first request of a process. A URL may hold a password or a token, so messages name
--- it without user and query.
local json = require "host.json"
local task = require "host.task"
local context = require "pyoco.engine.context"

local format, concat, sort = string.format, table.concat, table.sort
local type, tostring, pairs, ipairs, error = type, tostring, pairs, ipairs, error
local math_type = math.type

local M = {}

local TIMEOUT_SEC = 30
local MAX_TIMEOUT_SEC = 31536000
local MAX_BYTES = 64 << 20
local MAX_MAX_BYTES = 1 << 30
local SHOWN_BYTES = 200 -- of the body of an answer that says what went wrong
local SHOWN_URL = 200

--- Field -> its type, or types.
local FIELDS = {
  url = "string", method = "string", headers = "table", body = "string", json = "any", query = "table",
  timeout_sec = "number", follow = "boolean", check = "boolean", max_bytes = "number", ca_file = "string",
}

--- The URL as messages show it: no user, no password, no query.
---@param url string
---@return string
function M.shown_url(url)
  local shown = url:gsub("^(%a+://)[^/?#]*@", "%1"):gsub("[?#].*$", "")
  return #shown <= SHOWN_URL and shown or shown:sub(1, SHOWN_URL) .. "..."
end

--- The first field that is unknown or of the wrong type, as a message.
local function misfit(spec)
  for name, value in pairs(spec) do
    local expected = FIELDS[name]
    if not expected then
      local known = {}
      for each in pairs(FIELDS) do known[#known + 1] = each end
      sort(known)
      return format("unknown field '%s'; %s", tostring(name),
        require("pyoco.nearest").hint(name, known, "it has "))
    end
    if expected ~= "any" and type(value) ~= expected then
      if name == "body" and type(value) == "table" then
        return "body: expected text, got a table; json = sends a value as JSON"
      end
      return format("%s: expected a %s, got a %s", name, expected, type(value))
    end
  end
end

--- Checks the number of a field, given that its type is right.
local function range(name, number, low, high)
  if number == nil or (number == number and number >= low and number <= high) then return nil end
  return format("%s: expected a number from %g to %g, got %s", name, low, high, tostring(number))
end

local function check_url(url)
  if url == nil then return "url is missing" end
  local scheme, rest = url:match("^(%a[%w+.-]*)://(.*)$")
  if not scheme then return format("url: expected http://... or https://..., got '%s'", M.shown_url(url)) end
  scheme = scheme:lower()
  if scheme ~= "http" and scheme ~= "https" then
    return format("url: '%s:' is not supported, only http: and https: are", scheme)
  end
  if url:find("[%c ]") then return "url: it holds a blank or a control character; encode it as %20 and the like" end
  if rest:gsub("^[^/?#]*@", ""):match("^[^/?#]*") == "" then return "url: it has no host" end
end

local function check_headers(headers)
  for name, value in pairs(headers) do
    if type(name) ~= "string" or not name:find("^[%w!#$%%&'*+.^_`|~-]+$") then
      return format("headers: '%s' is no name of a header: letters, digits and -", tostring(name))
    end
    if type(value) ~= "string" and not math_type(value) then
      return format("headers.%s: expected text, got a %s", name, type(value))
    end
    if type(value) == "string" and value:find("[\r\n\0]") then
      return format("headers.%s: a value cannot have line breaks", name)
    end
  end
end

local function escape(text)
  return (tostring(text):gsub("[^%w._~-]", function(c) return format("%%%02X", c:byte()) end))
end

--- The query's pairs, escaped and in order of their names; a list gives its name once for each item.
local function query_text(query)
  local names, parts = {}, {}
  for name in pairs(query) do
    if type(name) ~= "string" then return nil, format("query: names are text, got a %s", type(name)) end
    names[#names + 1] = name
  end
  sort(names)
  for _, name in ipairs(names) do
    local given = query[name]
    for _, value in ipairs(type(given) == "table" and given or { given }) do
      local kind = type(value)
      if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
        return nil, format("query.%s: expected text, a number, a boolean or a list of them, got a %s", name, kind)
      end
      parts[#parts + 1] = escape(name) .. "=" .. escape(value)
    end
  end
  return concat(parts, "&")
end

--- Adds the query to a URL, before its fragment.
local function with_query(url, query)
  if query == "" then return url end
  local base, fragment = url:match("^([^#]*)(.*)$")
  return base .. (base:find("?", 1, true) and "&" or "?") .. query .. fragment
end

local function has_header(headers, wanted)
  for name in pairs(headers) do
    if name:lower() == wanted then return true end
  end
  return false
end

--- Body and headers of a request that sends a value as JSON.
local function add_json(request, value)
  if request.body then return "body and json exclude each other" end
  local text, message = json.encode(value)
  if not text then return "json: " .. message end
  request.body = text
  if not has_header(request.headers, "content-type") then request.headers["Content-Type"] = "application/json" end
end

local function problem_of(spec)
  return misfit(spec) or check_url(spec.url) or check_headers(spec.headers or {})
    or (spec.method and not spec.method:find("^%a+$") and "method: expected a word like GET")
    or range("timeout_sec", spec.timeout_sec, 0.001, MAX_TIMEOUT_SEC)
    or range("max_bytes", spec.max_bytes, 1, MAX_MAX_BYTES)
end

--- Makes what host.http.start takes.
---@param spec table as ctx:http takes it
---@return table? request
---@return string? message what is wrong with spec
function M.prepare(spec)
  if type(spec) ~= "table" then
    return nil, format("expected { url = \"http://...\" }, got a %s", type(spec))
  end
  local message = problem_of(spec)
  if message then return nil, message end
  local timeout_sec = spec.timeout_sec or TIMEOUT_SEC
  local request = { url = spec.url, method = spec.method and spec.method:upper(), body = spec.body, headers = {},
    timeout_sec = timeout_sec, connect_timeout_sec = timeout_sec, follow = spec.follow ~= false,
    max_bytes = spec.max_bytes or MAX_BYTES, ca_file = spec.ca_file }
  for name, value in pairs(spec.headers or {}) do request.headers[name] = tostring(value) end
  if spec.json ~= nil then
    message = add_json(request, spec.json)
    if message then return nil, message end
  end
  if spec.query then
    local query
    query, message = query_text(spec.query)
    if not query then return nil, message end
    request.url = with_query(request.url, query)
  end
  request.method = request.method or (request.body and "POST" or "GET")
  return request
end

--- What is shown of an answer that is an error: the beginning of its body, if that is text.
local function excerpt(answer)
  local kind = answer.headers["content-type"] or ""
  local body = answer.body:gsub("%s+", " ")
  if body == "" or not (kind:find("^text/") or kind:find("json", 1, true)) then return "" end
  if #body <= SHOWN_BYTES then return ": " .. body end
  return ": " .. body:sub(1, SHOWN_BYTES) .. "..."
end

--- Completes an answer: ok, and json when it says that it is JSON.
---@param answer table { status, headers, body }
---@param is_checked boolean whether an error status is a failure
---@return string? message what is wrong with it
function M.finish(answer, is_checked)
  answer.ok = answer.status < 400
  if is_checked and not answer.ok then return format("answered %d%s", answer.status, excerpt(answer)) end
  local kind = (answer.headers["content-type"] or ""):lower()
  if answer.body == "" or not (kind:find("^application/json") or kind:find("^[^;]*%+json")) then return nil end
  local message
  answer.json, message = json.decode(answer.body)
  if is_checked and message then return "answered with JSON that cannot be read: " .. message end
end

--- The text of a request without an answer.
local function no_answer(request, message, code)
  if code ~= "timeout" then return message end
  local host = M.shown_url(request.url):match("^%a+://([^/]*)")
  return format("no answer within %g s from %s", request.timeout_sec, host)
end

--- Sends a request and waits for its answer. For ctx:http, whose `self` is ctx.
---@param ctx table
---@param spec table { url (http or https), method = "GET" ("POST" with a body), headers = { name = text }, body = text
---  or json = value, query = { name = text, number, boolean or list }, timeout_sec = 30 for all of it,
---  follow = true (up to 10 redirects), check = true (a status of 400 and more raises),
---  max_bytes = 64 MB of answer, ca_file (certificates to trust instead of the system's) }
---@return table answer { status, ok (status below 400), headers = { lower-case name = text }, body, json = value, when
---  the answer says that it is JSON }. Raises when there is no answer, or the spec is wrong.
function M.run(ctx, spec)
  local eng = context.of(ctx)
  local request, message = M.prepare(spec)
  if not request then error("ctx:http: " .. message, 2) end
  if eng.before_callout then eng.before_callout() end
  local answer, why, code = task.wait(function(resume)
    local transfer = require("host.http").start(request, resume)
    return function() transfer:stop() end
  end)
  message = not answer and no_answer(request, why, code) or answer and M.finish(answer, spec.check ~= false)
  if message then error(format("%s %s: %s", request.method, M.shown_url(request.url), message), 2) end
  return answer
end

return M
