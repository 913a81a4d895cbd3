--- Where flow files and task modules run: an environment of their own, from an allow-list, text chunks only.
--- Globals that nobody declared raise, when read and when written. `require` finds modules of the task roots first
--- (each loaded once per sandbox, in an environment too), then the library's.
local M = {}

--- The globals of a flow file. `debug` without hooks and registry: a hook would switch off the engine's interrupt.
local ALLOWED = { "assert", "collectgarbage", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "print",
  "rawequal", "rawget", "rawlen", "rawset", "select", "setmetatable", "tonumber", "tostring", "type", "warn",
  "xpcall", "_VERSION", "coroutine", "io", "math", "os", "string", "table", "utf8" }
local DEBUG = { "traceback", "getinfo" }

--- What `require` does not give: the library's own globals (`string` and the like are given as copies), and modules by
--- which the program itself talks to its processes.
local REFUSED = { _G = true, package = true, ["host.slot"] = true, ["host.slots"] = true, ["host.task"] = true,
  ["host.httpd"] = true }
--- Functions of luv that leave threads behind, which no end of a run can end.
local THREADS = { "new_thread", "new_work", "queue_work" }

local MODULE = "^[%a_][%w_]*$"

local Sandbox = {}
Sandbox.__index = Sandbox

--- Reads a whole file; nil and a message if that fails.
local function read_file(path)
  local file <close>, message = io.open(path, "rb")
  if not file then return nil, message end
  return file:read("a") -- nil and a message for a directory
end

--- A table of functions is handed out as a copy: a flow that spoils it spoils only its own, never the library that
--- runs it.
local function own(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, item in pairs(value) do copy[key] = item end
  return copy
end

local function is_library(name) return name:find("^pyoco%f[.%z]") or name:find("^host%f[.%z]") end

--- The names that code at a level of its caller can have meant: its locals, what encloses it, the globals.
local function names_at(level, base)
  local names, fn, i = {}, debug.getinfo(level + 1, "f").func, 1
  while debug.getlocal(level + 1, i) do
    names[i], i = debug.getlocal(level + 1, i), i + 1
  end
  i = 1
  while debug.getupvalue(fn, i) do
    names[#names + 1], i = debug.getupvalue(fn, i), i + 1
  end
  for name in pairs(base) do names[#names + 1] = name end
  return names
end

--- The globals of a sandbox.
local function new_base(globals)
  local base = {}
  for _, name in ipairs(ALLOWED) do base[name] = own(_G[name]) end
  base.debug = {}
  for _, name in ipairs(DEBUG) do base.debug[name] = debug[name] end
  for name, value in pairs(globals or {}) do base[name] = value end
  return base
end

local prepared = setmetatable({}, { __mode = "k" }) -- globals -> base of the next sandbox with these globals

--- Makes what the next sandbox with these globals needs, for where there is time now and none later.
---@param globals table as M.new's
function M.prepare(globals) prepared[globals] = new_base(globals) end

--- Makes a sandbox.
---@param roots table list of task root folders
---@param globals table|nil globals that replace the allowed ones (the engine's print, for example)
---@return table sandbox; its `files` lists the paths of all files that it ran, also those that failed
function M.new(roots, globals)
  local base = globals and prepared[globals] or new_base(globals)
  if globals then prepared[globals] = nil end -- the next one gets copies of its own
  debug.getmetatable("").__metatable = "string" -- its __index is the library's own `string`
  local self = setmetatable({ roots = roots, base = base, loaded = {}, loading = {}, copies = {}, files = {} }, Sandbox)
  base.require = function(name)
    local module = self:require(name)
    return module -- no tail call: errors have the user's line
  end
  base.load = function(chunk, name, _, env) return load(chunk, name, "t", env or self:environment()) end
  setmetatable(base, { __index = function(_, name)
    local near = type(name) == "string" and require("pyoco.nearest").name(name, names_at(2, base))
    error(("undeclared global '%s'%s"):format(tostring(name), near and ("; did you mean %s?"):format(near) or ""), 2)
  end })
  return self
end

--- A fresh environment on top of the allowed globals.
function Sandbox:environment()
  local env = setmetatable({}, { __index = self.base, __newindex = function(_, name)
    error(("assignment to undeclared global '%s': declare it with local"):format(tostring(name)), 2)
  end })
  rawset(env, "_G", env)
  return env
end

--- An error that has no place. `return flow(...)` is a tail call, which leaves no trace: what it raised belongs to the
--- file's last return.
local function with_place(path, text, message)
  local number, found = 0, nil
  for line in (text .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    if line:find("^return%f[^%w_]") then found = number end
  end
  local is_ours = message:find("^flow[: ]") or message:find("^switch[: ]")
  return found and is_ours and ("%s:%d: %s"):format(path, found, message) or ("%s: %s"):format(path, message)
end

--- Runs a file and returns its results.
---@param path string
---@param text string|nil its text, if it was read before
---@return boolean ok, any value what the file returned, or its error as text, string|nil code "invalid"|"not_found"
function Sandbox:run(path, text, ...)
  local message
  self.files[#self.files + 1] = path
  if not text then
    text, message = read_file(path)
    if not text then return false, message, "not_found" end
  end
  local chunk
  chunk, message = load(text:gsub("^\u{FEFF}", ""):gsub("^#[^\n]*", ""), "@" .. path, "t", self:environment())
  if not chunk then return false, message, "invalid" end
  local ok, value = pcall(chunk, ...)
  if not ok then
    value = type(value) == "string" and value or ("raised a %s"):format(type(value))
    if not value:find("^[^\n]-%.lua:%d+: ") then value = with_place(path, text, value) end
    return false, value, "invalid"
  end
  return true, value
end

--- Finds a module of the task roots.
---@param name string dotted; each part a plain name, so that no module name can leave the roots
---@return string|nil path, string|nil text_or_message, string|nil code "invalid"|"not_found": then `path` is nil
function Sandbox:find(name)
  for part in (name .. "."):gmatch("([^.]*)%.") do
    if not part:find(MODULE) then return nil, ("'%s' is not a module name"):format(name), "invalid" end
  end
  local relative = name:gsub("%.", "/")
  for _, root in ipairs(self.roots) do
    for _, suffix in ipairs { ".lua", "/init.lua" } do
      local path = ("%s/%s%s"):format(root, relative, suffix)
      local text = read_file(path)
      if text then return path, text end
    end
  end
  return nil, ("no module '%s' in %s"):format(name, table.concat(self.roots, ", ")), "not_found"
end

--- A module of the task roots; loaded at the first call.
---@param name string
---@return any value
---@return string|nil message, string|nil code "invalid"|"not_found": then `value` is nil
function Sandbox:module(name)
  local done = self.loaded[name]
  if done then return done.value, done.message, done.code end
  local path, text, code = self:find(name)
  if not path then return nil, text, code end
  if self.loading[name] then return nil, ("%s requires itself"):format(path), "invalid" end
  self.loading[name] = true
  local ok, value
  ok, value, code = self:run(path, text, name, path)
  self.loading[name] = nil
  if ok and value == nil then value = true end
  done = ok and { value = value } or { message = value, code = code }
  self.loaded[name] = done
  return done.value, done.message, done.code
end

--- A module that is not of the task roots, as flow files get it: the library's own ones as copies.
function Sandbox:foreign(name)
  if REFUSED[name] then error(("module '%s' is not for flows"):format(name), 3) end
  local library = rawget(self.base, name)
  if type(library) == "table" then return library end -- string, table, debug, ...
  if self.copies[name] then return self.copies[name] end
  local found, module = pcall(require, name)
  if not found and tostring(module):find("module '" .. name .. "' not found", 1, true) then
    error(("module '%s' not found: not in %s, nor is one installed"):format(name, table.concat(self.roots, ", ")), 3)
  elseif not found then
    error(module, 0)
  end
  if type(module) ~= "table" or not (is_library(name) or name == "luv") then return module end
  local copy = setmetatable(own(module), getmetatable(module))
  for _, key in ipairs(name == "luv" and THREADS or {}) do
    copy[key] = function() error("luv." .. key .. ": a flow cannot start threads; use ctx:exec", 2) end
  end
  self.copies[name] = copy
  return copy
end

--- `require` as flow files see it.
function Sandbox:require(name)
  if type(name) ~= "string" then error("require: expected a module name, got a " .. type(name), 3) end
  if is_library(name) then return self:foreign(name) end -- never shadowed
  local value, message, code = self:module(name)
  if value ~= nil then return value end
  if code == "invalid" and name:find("^[%w_.]+$") and self:find(name) then error(message, 0) end
  return self:foreign(name)
end

M.read_file = read_file

--- Names of a loaded function's parameters, in order: a task's arguments are wired by them.
---@param fn function
---@return table list of names; empty for C functions
function M.parameters(fn)
  local names = {}
  while true do
    local name = debug.getlocal(fn, #names + 1)
    if not name then return names end
    names[#names + 1] = name
  end
end

return M
