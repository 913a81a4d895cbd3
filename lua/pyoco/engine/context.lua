--- `ctx`, what a task knows of its run: fields, and methods that log, wait, share values and call out. Tables that it
--- hands out are the task's own copies. In a spec any table with the same fields serves; pyoco.testing makes a whole
--- one.
---
--- A ctx belongs to one attempt at one task. Its methods work while that runs, not after, not in another task.
local json = require "host.json"
local task = require "host.task"
local lookup = require "pyoco.engine.lookup"
local output = require "pyoco.engine.output"
local value = require "pyoco.engine.value"

local copy, wait, running = value.copy, task.wait, output.running
local null, require = json.null, require
local format, select, type, error, tostring, pcall = string.format, select, type, error, tostring, pcall
local setmetatable, getmetatable, rawset, rawget = setmetatable, debug.getmetatable, rawset, rawget
local math_type, huge, sort = math.type, math.huge, table.sort
local next, pairs, ipairs = next, pairs, ipairs

local M = {}

local NODE = {} -- the key of the node in a ctx

local methods, meta = {}, { __name = "ctx" }

--- The node that a ctx belongs to. Raises, at the user's call, unless that is the task that runs.
local function owner(ctx, name)
  local node = type(ctx) == "table" and getmetatable(ctx) == meta and rawget(ctx, NODE)
  if not node then
    error(format("ctx:%s: called without its ctx; write ctx:%s(...), with a colon", name, name), 3)
  end
  local now = running()
  if now == node and rawget(ctx, "attempt") == (node.attempt or 1) then return node end
  error(format("ctx:%s: this ctx is task '%s''s, %s: every task has a ctx of its own", name, node.name,
    now == nil and "which does not run" or now == node and "of an attempt that has ended"
      or format("and here runs task '%s'", now.name)), 3)
end

--- Writes a line to the task's log.
---@param pattern string as for string.format when values follow
function methods:log(pattern, ...)
  owner(self, "log")
  local text = pattern
  if select("#", ...) > 0 then
    local ok
    ok, text = pcall(format, pattern, ...)
    if not ok then error("ctx:log: " .. tostring(text), 2) end
  end
  if type(text) ~= "string" then text = tostring(text) end
  task.write(text .. "\n")
end

--- Waits; other tasks of the run go on meanwhile.
---@param seconds number 0 or more
function methods:sleep(seconds)
  local after = owner(self, "sleep").eng.after
  if not math_type(seconds) or seconds ~= seconds or seconds < 0 or seconds == huge then
    error(format("ctx:sleep(seconds): expected a number, 0 or more, got %s", tostring(seconds)), 2)
  end
  wait(function(resume) return after(seconds, resume) end)
end

--- Whether the run is being cancelled. A task that waits or computes is ended without asking; this is for code
--- between two calls into C that take long.
---@return boolean
function methods:cancelled()
  local node = type(self) == "table" and getmetatable(self) == meta and rawget(self, NODE)
  return node and node.eng.cancel_asked or task.cancelled()
end

--- Keeps a value for other tasks of the run: in scratch, among the results, or as a param. The last to write wins.
---@param path string|table "scratch.seen.count"; or a list of steps, of which any may have dots
---@param given any JSON can carry it; copied. nil removes what is there
function methods:set(path, given)
  local node = owner(self, "set")
  local parsed, message = require("pyoco.flow.save_path").parse(path)
  if not parsed then error("ctx:set: " .. message, 2) end
  local copied, problem = copy(given, parsed.text)
  if problem then error("ctx:set: " .. problem, 2) end
  message = require("pyoco.engine.save").set(node.eng, node.scope, parsed, copied)
  if message then error(format("ctx:set '%s': %s", parsed.text, message), 2) end
end

--- Reads what this or another task has kept.
---@param path string|table as for ctx:set; "scratch" alone is all of it
---@param default any? what to return if there is nothing, or null
---@return any value a copy
function methods:get(path, default)
  local node = owner(self, "get")
  local parsed, message = require("pyoco.flow.save_path").parse(path, true)
  if not parsed then error("ctx:get: " .. message, 2) end
  local found = require("pyoco.engine.save").get(node.eng, node.scope, parsed)
  if found == nil then return default end
  return (copy(found))
end

--- Keeps something that the run has made. Small JSON values stand in the task's record; larger ones, bytes and files
--- go to the folder of artifacts, and the record has { path, size, sha256 }.
---@param name string letters, digits, _ - and dots, not first
---@param given any a JSON value, { file = path } or { bytes = text }
---@return any recorded a copy of what the record has
function methods:save_artifact(name, given)
  local recorded, message = require("pyoco.engine.artifact").save(owner(self, "save_artifact"), name, given)
  if message then error("ctx:save_artifact: " .. message, 2) end
  return (copy(recorded))
end

--- Runs a program, or a line for the shell, and waits for its end: see pyoco.engine.exec.
---@param spec table { program, argument, ..., env, cwd, stdin, timeout_sec, check, shell, quiet }
---@return table result { ok, code, signal, stdout, stderr, output, truncated }
function methods:exec(spec)
  local fake = owner(self, "exec").eng.exec
  if fake then return fake(spec, self) end
  return require("pyoco.engine.exec").run(self, spec)
end

--- Sends an HTTP request and waits for its answer: see pyoco.engine.http.
---@param spec table { url, method, headers, body, ... }
---@return table response { status, headers, body, ... }
function methods:http(spec)
  local fake = owner(self, "http").eng.http
  if fake then return fake(spec, self) end
  return require("pyoco.engine.http").run(self, spec)
end

--- Fields that are made when they are first asked for.
local lazy = {
  params = function(eng) return (copy(eng.params)) end,
  results = function(eng, node)
    local scope = node.scope
    return require("pyoco.engine.view").new("results", eng,
      function() return lookup.results(eng, scope) end, function(name) return lookup.result(eng, scope, name) end)
  end,
  scratch = function(eng)
    return require("pyoco.engine.view").new("scratch", eng,
      function() return eng.scratch or {} end, function(name) return eng.scratch and eng.scratch[name] end)
  end,
  env = function(eng) return (copy(eng.env or {})) end,
  run = function(eng)
    local run = { flow_name = eng.flow.name }
    for name, field in next, eng.run do
      if field ~= null then run[name] = copy(field) end
    end
    return run
  end,
  loops = function(_, node) return (copy(json.array(lookup.loops(node.scope)))) end,
}

--- Fields that are looked up each time: they change while the task runs, or are part of another one.
local live = {
  artifacts = function(eng) return (copy(eng.artifacts or {})) end,
  loop = function(_, _, ctx)
    local loops = ctx.loops
    return loops[#loops]
  end,
}

--- The item of the loop that calls it so; nil for a name that is none.
local function aliased(scope, name)
  local found
  if name == "item" then found = lookup.item(scope) else found = lookup.alias(scope, name) end
  if found == null then return nil end
  return found
end

function meta.__index(ctx, key)
  local method = methods[key]
  if method then return method end
  local node = rawget(ctx, NODE)
  local make = lazy[key]
  local made
  if make then
    made = make(node.eng, node)
  elseif live[key] then
    return live[key](node.eng, node, ctx)
  elseif node.scope then
    made = aliased(node.scope, key)
    if type(made) == "table" then made = copy(made) end
  end
  if made == nil then
    node.missing = key -- for the message, if the task fails for the lack of it
  elseif type(made) == "table" then
    rawset(ctx, key, made)
  end
  return made
end

function meta.__newindex(_, key)
  local name = tostring(key)
  error(format("ctx.%s cannot be assigned: keep a value of your own in a local; share one by "
    .. "ctx:set(\"scratch.%s\", value)", name, name), 2)
end

function meta.__pairs(ctx)
  local fields = { attempt = ctx.attempt }
  for name in next, lazy do fields[name] = ctx[name] end
  for name in next, live do fields[name] = ctx[name] end
  return next, fields, nil
end

--- Makes the ctx of one attempt at a task.
---@param eng table the engine
---@param node table
---@return table ctx
function M.new(eng, node) -- luacheck: ignore 212/eng
  return setmetatable({ [NODE] = node, attempt = node.attempt or 1 }, meta)
end

--- Whose ctx it is; for the modules behind ctx's methods, which a user may call with anything.
---@param ctx table
---@return table? eng nil for what is no ctx
---@return table? node
function M.of(ctx)
  local node = type(ctx) == "table" and getmetatable(ctx) == meta and rawget(ctx, NODE)
  if not node then return nil end
  return node.eng, node
end

--- What can be meant by a name that ctx does not have: for the message of a task that failed because of it.
---@param name any
---@return string? text "ctx:sleep" or "ctx.params"; nil when nothing is near
function M.near(name)
  if type(name) ~= "string" then return nil end
  local known = { "attempt", "item" }
  for _, names in ipairs { methods, lazy, live } do
    for each in pairs(names) do known[#known + 1] = each end
  end
  sort(known)
  local near = require("pyoco.nearest").name(name, known)
  return near and (methods[near] and "ctx:" or "ctx.") .. near
end

return M
