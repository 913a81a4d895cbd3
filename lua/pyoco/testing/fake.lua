--- What stands in for ctx:http and ctx:exec in a spec. The spec of a request is checked as the real ones do, and a
--- failure has the same text, so that a task that passes here meets nothing new outside.
local json = require "host.json"

local M = {}

--- What a spec gave for one call: its function's answer, or the value itself.
local function answer_of(given, ...)
  if type(given) == "function" then return given(...) end
  return given
end

--- Raises, at the line of the task, that a spec has nothing for a call.
local function missing(name, what)
  error(("ctx:%s: this spec has no answer for %s: give %s = function(spec, ctx) ... end to pyoco.testing, "
    .. "or %s = true for the real one"):format(name, what, name, name), 3)
end

--- A response in full: a text is its body, a number its status, a table without any field of a response its JSON.
local function response_of(given)
  if type(given) == "string" then given = { body = given } end
  if type(given) == "number" then given = { status = given } end
  if given.status == nil and given.body == nil and given.json == nil and given.headers == nil then
    given = { json = given }
  end
  local response = { status = given.status or 200, headers = {}, body = given.body }
  for name, text in pairs(given.headers or {}) do response.headers[name:lower()] = text end
  if given.json ~= nil and not given.body then
    response.body = assert(json.encode(given.json))
    response.headers["content-type"] = response.headers["content-type"] or "application/json"
  end
  response.body = response.body or ""
  return response
end

--- Makes ctx:http's stand-in.
---@param given fun(request: table, ctx: table)|table|nil a function whose result is the answer: a response
---  { status = 200, headers, body or json }, a text (its body), a number (its status) or any other table (its JSON);
---  or a table of such answers and functions by URL, or by "METHOD URL"
---@param calls table gets each request: { method, url, headers, body, ... }
---@return fun(spec: table, ctx: table): table
function M.http(given, calls)
  return function(spec, ctx)
    local http = require "pyoco.engine.http"
    local request, message = http.prepare(spec)
    if not request then error("ctx:http: " .. message, 2) end
    request.json = spec.json
    calls[#calls + 1] = request
    local found = given
    if type(given) == "table" then
      found = given[request.method .. " " .. request.url] or given[request.url] or given[spec.url]
    end
    found = answer_of(found, request, ctx)
    local shown = request.method .. " " .. http.shown_url(request.url)
    if found == nil then missing("http", shown) end
    local response = response_of(found)
    message = http.finish(response, spec.check ~= false)
    if message then error(("%s: %s"):format(shown, message), 2) end
    return response
  end
end

--- How a program is said to have ended: a text is its stdout, a number its exit code.
local function ended_of(given)
  if type(given) == "string" then given = { stdout = given } end
  if type(given) == "number" then given = { code = given } end
  local ended = { code = 0, stdout = "", stderr = "" }
  for name, value in pairs(given) do ended[name] = value end
  if ended.signal then ended.code = 128 + ended.signal end
  return ended
end

--- How a command is shown.
local function shown_command(spec)
  if spec.shell then return "'" .. tostring(spec.shell) .. "'" end
  local words = {}
  for i, word in ipairs(spec) do words[i] = tostring(word) end
  return "'" .. table.concat(words, " ") .. "'"
end

--- The answer for a command out of a table by program, or the whole command.
local function for_command(given, spec)
  if type(given) ~= "table" then return given end
  local whole = shown_command(spec):sub(2, -2)
  return given[whole] or spec[1] and given[spec[1]]
end

--- Makes ctx:exec's stand-in.
---@param given fun(spec: table, ctx: table)|table|nil a function whose result says how the command ended: { code = 0,
---  signal = number, stdout, stderr, timed_out }, a text (its stdout) or a number (its exit code); or a table of such
---  results and functions by program, or by whole command
---@param calls table gets each spec
---@return fun(spec: table, ctx: table): table
function M.exec(given, calls)
  return function(spec, ctx)
    local exec = require "pyoco.engine.exec"
    local message = exec.fault(spec)
    if message then error("ctx:exec: " .. message, 2) end
    calls[#calls + 1] = spec
    local found = answer_of(for_command(given, spec), spec, ctx)
    if found == nil then missing("exec", shown_command(spec)) end
    local result = exec.result(spec, ended_of(found))
    if not result.ok and spec.check ~= false then error(result.error, 0) end
    return result
  end
end

return M
