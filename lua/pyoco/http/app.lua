--- The gateway's application: rows of routes, what wraps them, and duties. `gateway.lua` makes one and returns it.
---
---   local app = require("pyoco.http.app").new { config = cfg, log = log, services = services }
---   app:mount(require "pyoco.routes.runs")
---   app:get("/hello/:name", function(_, req) return { hello = req.params.name } end)
---   app:wrap("runs.submit", function(next, app, req) ...; return next(app, req) end)
---   app:every(60, "tidy", function(app) ... end)
---
--- A row: { "POST", "/runs/:id/cancel", name = "runs.cancel", doc = "One line.", run = function(app, req) ... end,
---   query = schema, body = schema (JSON), form = schema (multipart), raw = { part = "workflow", types = {["text/yaml"]
---   = true} } (a form that may come as its file alone), upload = { part = "wheel", max = name of the option with the
---   limit in bytes, too_large = text } (its file may be large: then it is a file on disk, { filename, path, size,
---   sha256 } instead of { filename, data }, and path is good while the handler runs), head = true (HEAD is answered
---   too), public = true (needs no key) or
---   function(app) -> boolean }.
--- run returns a value (sent as JSON, 200), a response (pyoco.http.response), or nil, message, code [, errors].
--- Schemas: pyoco.http.validate. What req holds: pyoco.http.pipeline.
local clock = require "host.clock"
local crypto = require "host.crypto"
local json = require "host.json"
local shared = require "host.shared"
local nearest = require "pyoco.nearest"
local pipeline = require "pyoco.http.pipeline"
local response = require "pyoco.http.response"
local router = require "pyoco.http.router"

local M = {}

local App = {}
App.__index = App

--- A log that says nothing, for specs and tools.
local QUIET = setmetatable({}, { __index = function() return function() end end })

--- Makes an app without routes.
---@param opts table|nil { config = plain table of values, log = logger of pyoco.log, services = what handlers call }
---@return table app with config, log, services, steps (a copy of the pipeline's list); on_handled = nil | called after
---  each request that a route took: on_handled(row's name, status, monotonic seconds of its start)
function M.new(opts)
  opts = opts or {}
  return setmetatable({ config = opts.config or {}, log = opts.log or QUIET, services = opts.services or {},
    router = router.new(), names = {}, duties = {}, steps = { table.unpack(pipeline.steps) }, wrappers = {} }, App)
end

--- Puts off what makes the app until somebody uses it: whatever a script does with it comes after fn.
---@param fn function()
---@return table app
function App:later(fn)
  self.made_later = fn
  return self
end

--- Does what was put off.
local function complete(app)
  local fn = app.made_later
  if not fn then return end
  app.made_later = nil
  fn()
end

local ROW_KEYS = { name = true, doc = true, run = true, query = true, body = true, form = true, raw = true,
  upload = true, public = true, gives = true, fails = true, head = true }

local function check_row(row, path)
  local where = ("route %s %s"):format(row[1], path)
  for key in pairs(row) do
    if type(key) == "string" and not ROW_KEYS[key] then error(("%s: unknown field %s"):format(where, key), 4) end
  end
  if type(row.run) ~= "function" then error(where .. ": run must be a function", 4) end
  if row.body and row.form then error(where .. ": has both body and form; a route takes one of them", 4) end
end

local function add(app, source, path)
  local row = {}
  for key, value in pairs(source) do row[key] = value end
  check_row(row, path)
  row.method, row.path, row.name = row[1], path, row.name or (row[1] .. " " .. path)
  if app.names[row.name] then error(("two routes are called %s"):format(row.name), 3) end
  local info = debug.getinfo(row.run, "S") -- where the log says that it failed
  row.place = { pathname = info.short_src, lineno = info.linedefined, func = row.name }
  app.router:add(row.method, path, row)
  app.names[row.name] = row
  for _, wrapper in ipairs(app.wrappers) do wrapper(row) end
end

--- Adds the rows of a route module: a list of rows, with `prefix` before their paths.
---@param rows table
---@return table app
function App:mount(rows)
  complete(self)
  for _, row in ipairs(rows) do
    if not row.name or not row.doc then
      error(("route %s %s: a mounted row needs name and doc"):format(row[1], row[2]), 2)
    end
    local path = (rows.prefix or "") .. row[2]
    add(self, row, #path > 1 and path:gsub("/$", "") or path)
  end
  return self
end

for _, method in ipairs { "get", "post", "put", "patch", "delete" } do
  App[method] = function(self, path, run, row)
    complete(self)
    local full = { method:upper(), path, run = run }
    for key, value in pairs(row or {}) do full[key] = value end
    add(self, full, path)
    return self
  end
end

local function named(app, name)
  local row = app.names[name]
  if row then return row end
  local known = {}
  for other in pairs(app.names) do known[#known + 1] = other end
  local near = nearest.name(name, known)
  error(("no route is called %s%s"):format(name, near and "; did you mean " .. near .. "?" or ""), 3)
end

--- Puts a function around a route's handler, or with "*" around all, those added later too.
---@param name string the row's name
---@param fn function fn(next, app, req); call next(app, req) to go on, and return what it returns or something else
---@return table app
function App:wrap(name, fn)
  complete(self)
  local function wrap_row(row)
    local inner = row.run
    row.run = function(app, req) return fn(inner, app, req) end
  end
  if name ~= "*" then
    wrap_row(named(self, name))
    return self
  end
  for _, row in pairs(self.names) do wrap_row(row) end
  self.wrappers[#self.wrappers + 1] = wrap_row
  return self
end

--- Gives a route another handler; its checks of the request stay.
---@param name string the row's name
---@param run function(app, req)
---@return table app
function App:replace(name, run)
  complete(self)
  named(self, name).run = run
  return self
end

--- Sets who may call: the hook runs for every row that is not public, after the request's shape was checked.
---@param fn function(app, req) -> true (after setting req.caller) | a response | nil, message, code, detail
---@return table app
function App:authenticate(fn)
  complete(self)
  self.authenticate_fn = fn
  return self
end

--- Runs fn about every `sec` seconds in the one service VM, the first time at its start. An error is logged, shown on
--- /health as duty.<name>, and the next time comes as usual. Duties run one after the other: one that has much to do
--- does a part each time.
---@param sec number
---@param name string
---@param fn function(app) may return the seconds after which it wants to run again, when that is sooner
---@param opts table|nil wakes = true: it runs also whenever the host wakes the duties (a followed bucket has changed)
---@return table app
function App:every(sec, name, fn, opts)
  complete(self)
  if type(sec) ~= "number" or sec <= 0 then error("every: sec must be above 0", 2) end
  self.duties[#self.duties + 1] = { name = name, every_sec = sec, fn = fn, next_at = 0,
    wakes = opts ~= nil and opts.wakes == true }
  return self
end

local function with_traceback(failure)
  return { message = tostring(failure), traceback = debug.traceback(tostring(failure), 2) }
end

--- Runs a duty; gives the seconds until its next time.
local function run_duty(app, duty)
  local ok, failure = xpcall(duty.fn, with_traceback, app)
  local key = "health.duty." .. duty.name
  if ok then
    if duty.failed then shared.delete(key) end
  else
    app.log:error("duty failed: " .. duty.name, { duty = duty.name }, failure)
    shared.set(key, json.encode { error = failure.message, at = clock.wall() } or "{}")
  end
  duty.failed = not ok
  local sooner = ok and type(failure) == "number" and math.max(0, failure) or duty.every_sec
  return math.min(sooner, duty.every_sec)
end

--- Runs the duties that are due. Called by the service VM.
---@param is_woken boolean|nil those with `wakes` are
---@return number|nil delay_sec until the next one; nil when there are none
function App:run_duties(is_woken)
  complete(self)
  local delay
  for _, duty in ipairs(self.duties) do
    if duty.next_at <= clock.monotonic() or is_woken and duty.wakes then
      local delay_sec = run_duty(self, duty)
      duty.next_at = clock.monotonic() + delay_sec
    end
  end
  for _, duty in ipairs(self.duties) do
    local left = math.max(0, duty.next_at - clock.monotonic())
    delay = math.min(delay or left, left)
  end
  return delay
end

--- What is done with every answer: an error becomes 500.
local function answered(app, req, ok, answer, started_at)
  if not ok then
    app.log:error("request failed", { request_id = req.id, method = req.method, path = req.path }, answer)
    answer = response.text("Internal Server Error", 500)
  end
  if answer.headers and req.id then answer.headers["x-request-id"] = req.id end
  if app.on_handled and req.row then app.on_handled(req.row.name, answer.status or 200, started_at) end
  return answer
end

--- Answers a request. Never raises: what a handler raises is logged and becomes 500.
---@param req table { method, raw_path, path, query_string, headers, body, remote_addr, scheme }
---@return table response { status, headers, body } or { stream = ... }
function App:handle(req)
  complete(self)
  local started_at = clock.monotonic()
  local ok, answer = xpcall(pipeline.run, with_traceback, self, pipeline.request(req))
  return answered(self, req, ok, answer, started_at)
end

--- Whether a request may come as an upload; asked by the host before it reads a large form (pipeline.admit). Never
--- raises.
---@param req table as handle, without its body
---@return table|nil
function App:admit(req)
  complete(self)
  local started_at = clock.monotonic()
  local ok, answer = xpcall(pipeline.admit, with_traceback, self, pipeline.request(req))
  if ok and (answer == nil or answer.upload) then return answer end
  return answered(self, req, ok, answer, started_at)
end

--- All rows as data, for lists, documentation and checks, in the order they were added.
---@return table list of { method, path, name, doc, query, body, form, raw, public, gives }
function App:routes()
  complete(self)
  local list = {}
  for i, row in ipairs(self.router.rows) do
    list[i] = { method = row.method, path = row.path, name = row.name, doc = row.doc, query = row.query,
      body = row.body, form = row.form, raw = row.raw, public = row.public, gives = row.gives }
  end
  return list
end

--- Sends a request through the app with no socket.
---@param opts table { method = "GET", path (may have ?query), headers, body = text, json = value,
---   form = { fields, files } as host.http.multipart takes them, remote_addr }
---@return table response with .json, its decoded body, when it is JSON
function App:simulate(opts)
  local raw_path, query = opts.path:match("^([^?]*)%??(.*)$")
  local headers = { host = "localhost" }
  local body = opts.body or ""
  if opts.json ~= nil then body, headers["content-type"] = assert(json.encode(opts.json)), "application/json" end
  if opts.form then body, headers["content-type"] = require("host.http").multipart(opts.form[1], opts.form[2]) end
  for name, value in pairs(opts.headers or {}) do headers[name:lower()] = value end
  local method = opts.method or ((opts.json ~= nil or opts.form or opts.body) and "POST" or "GET")
  local function send(derived)
    return self:handle { method = method, raw_path = raw_path, path = router.unescape(raw_path),
      query_string = query, headers = headers, body = body, remote_addr = opts.remote_addr or "127.0.0.1",
      scheme = "http", derived = derived }
  end
  local answer = send()
  local wanted = answer.derive
  if wanted then answer = send(crypto.pbkdf2(wanted.secret, wanted.salt, wanted.iterations, 32)) end
  if answer.body and (answer.headers["content-type"] or ""):find("^application/json") then
    answer.json = json.decode(answer.body)
  end
  return answer
end

return M
