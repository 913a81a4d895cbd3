--- Requests derived from the route table: one that fits each route, and every kind that does not, with the answer that
--- the contract has for it. So a new route is walked as soon as it is mounted.
local http = require "host.http"
local json = require "host.json"

local M = {}

local DOCUMENT = "version: 1\nflow:\n  graph: a\ntasks:\n  a:\n    callable: m:f\n"
local BUNDLE = "version: 1\nworkflows:\n  w:\n    flow:\n      graph: a\n    tasks:\n      a:\n        callable: m:f\n"
  .. "submit:\n  entry_workflow: w\n"

--- Files by the name of their part: name and content.
local FILES = { workflow = { "flow.yaml", DOCUMENT }, bundle = { "bundle.yaml", BUNDLE },
  wheel = { "demo-1.0-lua54-none-any.whl", "PK" } }

--- Values that a type does not take, as JSON, with the fault's type.
local WRONG = {
  string = { 7, "string_type" }, integer = { "x", "int_parsing" }, number = { "x", "float_parsing" },
  boolean = { "maybe", "bool_parsing" }, object = { "x", "dict_type" }, array = { "x", "list_type" },
}

--- A value that fits a row.
local function fitting(row)
  if row[2] == "integer" or row[2] == "number" then return row.ge or (row.gt and row.gt + 1) or 1 end
  if row[2] == "boolean" then return true end
  if row[2] == "object" then return {} end
  if row[2] == "array" then
    return json.array { row.items == "string" and "x" or { flow_name = "f" } }
  end
  return row.choices and row.choices[1] or "x"
end

--- What a form needs beside what it requires, by the route's name.
local ALSO = { ["schedules.create"] = { interval_seconds = 60 } }

--- What could be the value of a variable of a path.
local VALUES = { name = "nosuch.whl", seq = "999999" }

local function path_of(route, value)
  return (route.path:gsub("[:*]([%a_][%w_]*)", function(name) return value or VALUES[name] or "nosuch" end))
end

local function form_request(route, change)
  local fields, files = {}, {}
  for _, row in ipairs(route.form) do
    local given = change and change[row[1]]
    if given == nil then given = (ALSO[route.name] or {})[row[1]] end
    if row[2] == "file" then
      local file = FILES[row[1]] or { "x", "x" }
      if given == nil then
        files[#files + 1] = { name = row[1], filename = file[1], data = file[2] }
      elseif given ~= false then
        fields[#fields + 1] = { row[1], given }
      end
    elseif given ~= nil or row.required then
      local value = given
      if value == nil then value = fitting(row) end
      if value ~= false then fields[#fields + 1] = { row[1], tostring(value) } end
    end
  end
  local body, kind = http.multipart(fields, files)
  return { method = route.method, body = body, headers = { ["content-type"] = kind } }
end

local function body_value(route)
  local value = {}
  for _, row in ipairs(route.body) do
    if row.required then value[row[1]] = fitting(row) end
  end
  return value
end

local function json_request(route, text, kind)
  return { method = route.method, body = text, headers = { ["content-type"] = kind or "application/json" } }
end

--- A request that fits a route.
---@param route table of app:routes()
---@param value string|nil of the path's variables
---@return string path
---@return table request as Gateway:fetch takes it
function M.good(route, value)
  local path = path_of(route, value)
  if route.form then return path, form_request(route) end
  if route.body then return path, json_request(route, assert(json.encode(body_value(route)))) end
  return path, { method = route.method }
end

--- The bad values of a query or form parameter: list of { text, type of the fault }.
local function bad_texts(row)
  local list = {}
  local wrong = WRONG[row[2]]
  if row[2] ~= "string" and wrong then list[1] = wrong end
  if row.ge then list[#list + 1] = { row.ge - 1, "greater_than_equal" } end
  if row.gt then list[#list + 1] = { row.gt, "greater_than" } end
  if row.le then list[#list + 1] = { row.le + 1, "less_than_equal" } end
  if row.choices then list[#list + 1] = { "zzz", "literal_error" } end
  if row.max_length then list[#list + 1] = { ("x"):rep(row.max_length + 1), "string_too_long" } end
  if row.pattern and row[2] == "string" and not ("a\1b"):find(row.pattern) then
    list[#list + 1] = { "a%01b", "string_pattern_mismatch", form = "a\1b" }
  end
  return list
end

local function query_cases(route, add)
  for _, row in ipairs(route.query or {}) do
    for _, bad in ipairs(bad_texts(row)) do
      local path, request = M.good(route)
      add(("query %s=%s"):format(row[1], tostring(bad[1]):sub(1, 20)), path .. ("?%s=%s"):format(row[1], bad[1]),
        request, 422, bad[2], { "query", row[1] })
    end
  end
end

local function form_cases(route, add)
  local path = path_of(route)
  for _, row in ipairs(route.form) do
    local name = row[1]
    if row.required then
      add("without " .. name, path, form_request(route, { [name] = false }), 422, "missing", { "body", name })
    end
    if row[2] == "file" then
      add(name .. " as a field", path, form_request(route, { [name] = "text" }), 422, "value_error", { "body", name })
    else
      for _, bad in ipairs(bad_texts(row)) do
        add(("field %s"):format(name), path, form_request(route, { [name] = bad.form or bad[1] }), 422, bad[2],
          { "body", name })
      end
    end
  end
  add("no body", path, { method = route.method }, 422, "missing")
  add("another content type", path, { method = route.method, body = "{}",
    headers = { ["content-type"] = "application/json" } }, 415)
  add("a broken form", path, { method = route.method, body = "--x\r\nnonsense",
    headers = { ["content-type"] = "multipart/form-data; boundary=x" } }, { 400, 422 })
end

local function body_cases(route, add)
  local path, requires = path_of(route), false
  local function encoded(change)
    local value = body_value(route)
    for key, field in pairs(change) do value[key] = field end
    return json_request(route, assert(json.encode(value)))
  end
  for _, row in ipairs(route.body) do
    local name, wrong = row[1], WRONG[row[2]]
    requires = requires or row.required
    if row.required then
      local value = body_value(route)
      value[name] = nil
      add("without " .. name, path, json_request(route, assert(json.encode(value))), 422, "missing", { "body", name })
    end
    if wrong then add("wrong " .. name, path, encoded { [name] = wrong[1] }, 422, wrong[2], { "body", name }) end
    if wrong and not row.nullable then add("null " .. name, path, encoded { [name] = json.null }, 422) end
    if row.min_length == 1 then
      add("empty " .. name, path, encoded { [name] = "" }, 422, "string_too_short", { "body", name })
    end
    if row.items == "string" then
      add("wrong item of " .. name, path, encoded { [name] = json.array { 7 } }, 422, "string_type")
    end
  end
  if requires then add("no body", path, { method = route.method }, 422, "missing", { "body" }) end
  add("broken JSON", path, json_request(route, '{"a":'), 422, "json_invalid")
  add("a list", path, json_request(route, "[1]"), 422)
  add("another content type", path, json_request(route, "a=1", "text/plain"), 415)
end

--- Every bad request to the routes.
---@param routes table[] app:routes()
---@return table[] cases { name, path, request, status (or list of them), fault (type of a pydantic item), loc }
function M.cases(routes)
  local cases = {}
  for _, route in ipairs(routes) do
    local function add(what, path, request, status, fault, loc)
      cases[#cases + 1] = { name = ("%s %s: %s"):format(route.method, route.path, what), path = path,
        request = request, status = status, fault = fault, loc = loc, route = route }
    end
    query_cases(route, add)
    if route.form then form_cases(route, add) end
    if route.body then body_cases(route, add) end
  end
  return cases
end

return M
