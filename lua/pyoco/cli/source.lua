--- Flow files as `check` and `run` read them: Lua flow files, flow documents, and modules of tasks. Loading one runs
--- its top level, as a worker would; it can be interrupted.
local task = require "host.task"
local uv = require "luv"
local engine = require "pyoco.engine"
local lint = require "pyoco.cli.lint"
local problems = require "pyoco.cli.problems"
local sandbox = require "pyoco.flow.sandbox"

local M = {}

local SLOW_SEC = 3 -- what loads for longer is said to
local DOCUMENT_KEYS = { "flow", "tasks", "workflows", "graph" }

---@param path string
---@return boolean whether the name is that of a document
function M.is_yaml(path) return path:find("%.ya?ml$") ~= nil end

local function is_folder(path)
  local stat = uv.fs_stat(path)
  return stat ~= nil and stat.type == "directory"
end

--- Folders in which a file's modules and callables are looked for: those given, else those of the task path that
--- exist, and the file's own.
---@param path string the flow file
---@param given string[]|nil folders of --tasks
---@param task_path string[] the configured ones
---@return string[] roots
function M.roots(path, given, task_path)
  local roots, seen = {}, {}
  local function add(root)
    local real = is_folder(root) and uv.fs_realpath(root)
    if real and not seen[real] then
      seen[real] = true
      roots[#roots + 1] = root
    end
  end
  for _, root in ipairs(given or task_path) do add(root) end
  if not given then add(path:match("^(.*)/[^/]*$") or ".") end
  return roots
end

--- Runs user code: ended by Ctrl-C, and without harm to us.
local function guarded(fn, ...)
  task.attach()
  local alive, seconds = uv.new_timer(), 0 -- a loop that has nothing to wait for does not look for signals
  alive:start(1000, 1000, function()
    seconds = seconds + 1
    if seconds == SLOW_SEC then io.stderr:write("still running what stands outside of the tasks; Ctrl-C ends it\n") end
  end)
  local _ <close> = setmetatable({}, { __close = function()
    alive:close()
    task.detach()
  end })
  return engine.guard(fn, ...)
end

--- Names of the functions in a module's table.
local function function_names(value)
  local names = {}
  for key, item in pairs(type(value) == "table" and value or {}) do
    if type(key) == "string" and (type(item) == "function" or require("pyoco").function_of(item)) then
      names[#names + 1] = key
    end
  end
  table.sort(names)
  return names
end

local function stamp(list, path)
  for _, problem in ipairs(list) do problem.file = problem.file or path end
  return list
end

--- Adds a flow, and what there is to say about it.
local function add_flow(found, name, graph, flow, place_of)
  local entry = { name = name, graph = graph, flow = flow, params = {}, commands = {}, spawns = {} }
  found.flows[#found.flows + 1] = entry
  if not flow then return end
  flow.file = found.path
  local seen = lint.look(flow)
  entry.params, entry.commands, entry.spawns = seen.params, seen.commands, seen.spawns
  for _, warning in ipairs(seen.warnings) do
    local place = place_of and place_of(warning.task, warning.option)
    if place then warning.line, warning.column = place.line, place.column end
    found.warnings[#found.warnings + 1] = warning
  end
end

--- Adds the flows of what a Lua file returned.
local function add_lua_flows(found, value)
  local problem = require "pyoco.flow.problem"
  for _, flow in ipairs(require("pyoco").flows_of(value)) do
    for _, warning in ipairs(problem.finish(flow.warnings or {})) do
      found.warnings[#found.warnings + 1] = warning
    end
    add_flow(found, flow.name, flow.graph, flow)
  end
end

--- Warns of tasks that spawn a flow which neither this file nor another one of the roots declares.
local function check_spawns(found, roots, globals)
  local known = {}
  for _, entry in ipairs(found.flows) do known[entry.name] = true end
  for _, entry in ipairs(found.flows) do
    for _, node in ipairs(entry.graph.nodes) do
      local target = node.spawn and node.spawn.workflow
      if target and known[target] == nil then
        local ok, flow, message = guarded(require("pyoco.flow.load").flow, target, roots, { globals = globals })
        known[target] = ok and flow ~= nil and true or tostring(ok and message or flow)
      end
      if target and known[target] ~= true then
        found.warnings[#found.warnings + 1] = { file = node.file, line = node.line,
          message = ("task '%s' spawns '%s': %s"):format(node.name, target, known[target]) }
      end
    end
  end
end

local function read_lua(found, roots, globals, text)
  local box = sandbox.new(roots, globals)
  local ok, fine, value = guarded(box.run, box, found.path, text)
  found.files = box.files
  if not ok or not fine then
    found.errors = problems.of_message(tostring(ok and value or fine), found.path)
    return
  end
  add_lua_flows(found, value)
  check_spawns(found, roots, globals)
  stamp(found.warnings, found.path)
  if #found.flows > 0 then return end
  local is_fragment = require("pyoco.flow.fragment").is_fragment(value)
  found.functions = is_fragment and {} or function_names(value)
  if #found.functions == 0 then
    local kind = value == nil and "nothing" or "a " .. type(value)
    found.errors[1] = { file = found.path, message = is_fragment and "it returns tasks without a flow around them"
      or ("it returns %s: neither a flow nor a module of tasks"):format(kind),
      hint = "end a flow file with: return flow(\"name\", first >> second)" }
  end
end

--- Finds the functions of a document's tasks.
local function resolve(found, doc, roots, globals)
  local box = sandbox.new(roots, globals)
  local load, message, list = require("pyoco.flow.load"), nil, nil
  local ok, flow, why = guarded(function()
    local made, _
    made, message, _, list = load.document(doc, roots, { box = box })
    return made, message
  end)
  table.move(box.files, 1, #box.files, #found.files + 1, found.files)
  for _, problem in ipairs(list or {}) do
    local place = doc.place_of(problem.task, "callable")
    local is_missing = problem.message:find("no module", 1, true)
    found.errors[#found.errors + 1] = { file = found.path, line = place.line, column = place.column,
      message = ("task '%s': %s"):format(problem.task, problem.message),
      hint = is_missing and "write that file, or name its folder with --tasks DIR (PYOCO_TASK_PATH on workers)" or nil }
  end
  if not ok then
    for _, problem in ipairs(problems.of_message(tostring(flow or why), found.path)) do
      found.errors[#found.errors + 1] = problem
    end
  end
  return ok and flow or nil
end

--- Adds the workflows of a bundle; a run starts the entry workflow, with the submit's inputs.
local function read_bundle(found, roots, globals, text)
  local bundle, message, _, errors = require("pyoco.flow.bundle").read(text)
  if not bundle then
    found.errors = stamp(errors or { { message = message } }, found.path)
    return
  end
  found.warnings, found.entry = bundle.warnings, bundle.entry_workflow
  for _, name in ipairs(bundle.names) do
    local workflow = bundle.workflows[name]
    local doc = { graph = workflow.graph, expose_env = workflow.expose_env,
      defaults = name == bundle.entry_workflow and bundle.inputs or {},
      place_of = function(...) return bundle.place_of(name, ...) end }
    add_flow(found, name, doc.graph, resolve(found, doc, roots, globals), doc.place_of)
  end
  stamp(found.warnings, found.path)
end

local function read_yaml(found, roots, globals, text)
  if require("pyoco.flow.bundle").is_bundle(text) then
    found.files = { found.path }
    return read_bundle(found, roots, globals, text)
  end
  local name = found.path:match("([^/]*)%.ya?ml$")
  local doc, message, _, errors = require("pyoco.flow.document").read(text, { name = name, places = true })
  found.files = { found.path }
  if not doc then
    found.errors = stamp(errors or { { message = message } }, found.path)
    return
  end
  found.warnings = doc.warnings or {}
  add_flow(found, name, doc.graph, resolve(found, doc, roots, globals), doc.place_of)
  stamp(found.warnings, found.path)
end

--- Whether a YAML file looks like a flow document; others of a folder are none of our business.
---@param text string
---@return boolean
function M.looks_like_document(text)
  local root = require("host.yaml").decode(text, { duplicate = "last" })
  if root == nil then return true end -- broken: better said than passed over
  for _, key in ipairs(DOCUMENT_KEYS) do
    if type(root) == "table" and root[key] ~= nil then return true end
  end
  return false
end

--- Reads a flow file.
---@param path string
---@param opts table { roots = folders of modules, globals = more globals for user code }
---@return table|nil found { path, text, flows = { { name, graph, flow = flow object, nil after an error, params,
---  commands, spawns = see cli/lint.lua } }, entry = name of the workflow that a
---  bundle starts, functions = names when it is a module of tasks, errors, warnings = lists of
---  { file, line, column, message, caret, hint }, files = paths of all that was read }
---@return string|nil message the file cannot be read
---@return string|nil code "not_found"
function M.read(path, opts)
  local text, message = sandbox.read_file(path)
  if not text then return nil, (message:find(path, 1, true) and "" or path .. ": ") .. message, "not_found" end
  local found = { path = path, text = text, flows = {}, errors = {}, warnings = {}, files = { path } }
  local read = M.is_yaml(path) and read_yaml or read_lua
  read(found, opts.roots, opts.globals, text)
  return found
end

return M
