--- One workflow as YAML has it: its tasks, flow and runtime, read, checked and compiled. A flow document is one such
--- section; a bundle has one for each of its workflows. Both readers share what is here, and with it every error.
---
--- A reader `d`: { text = the document, marks = yaml's, errors = list that all readers of the document share,
--- root = the section's mapping, prefix = path of the section ("" or "workflows.NAME."), place = mark of the section,
--- codes = { code = what a bundle calls it }, kind = "document" | "bundle" }.
local json = require "host.json"
local yaml = require "host.yaml"
local compile = require "pyoco.flow.compile"
local options = require "pyoco.flow.options"
local text_parser = require "pyoco.flow.text"

local M = {}

local MAX_PROBLEMS = 200 -- hostile documents have any number
local SMALL_TASK = 30    -- bytes of a document that a task takes at least

--- The keys of a mapping: { names = in order, rows = name -> row of flow/options.lua }.
---@param rows table list of rows
---@return table keys
function M.keys_of(rows)
  local names, by_name = options.names(rows, "yaml")
  return { names = names, rows = by_name }
end
local FLOW, RUNTIME = M.keys_of(options.FLOW), M.keys_of(options.RUNTIME)
local TASK = { document = M.keys_of(options.TASK), bundle = M.keys_of(options.BUNDLE_TASK) }

local describe = options.describe

---@param value any
---@return boolean
function M.is_mapping(value) return type(value) == "table" and not json.is_array(value) end
local is_mapping = M.is_mapping

--- What YAML writers leave empty: absent, null, false, "", 0 and [] all mean "none".
local function is_empty(value)
  return value == nil or value == json.null or value == false or value == "" or value == 0
    or (type(value) == "table" and next(value) == nil)
end

--- Records an error at an entry of a mapping: at its key, or at its value. An absent entry is reported at the mapping.
---@param d table the reader
---@param at table { map, key, is_key = point at the key, fallback = mark }
---@param path string below the section
---@param code string
---@param message string
---@param more table|nil further fields of the problem
function M.fail(d, at, path, code, message, more)
  if #d.errors >= MAX_PROBLEMS then return end
  local mark = at.key ~= nil and d.marks(at.map, at.key) or at.fallback or d.place or d.marks()
  local is_key = at.is_key or not mark.value_line
  local problem = { code = d.codes and d.codes[code] or code, path = d.prefix .. path, message = message,
    line = is_key and mark.line or mark.value_line, column = is_key and mark.column or mark.value_column }
  for name, value in pairs(more or {}) do problem[name] = value end
  d.errors[#d.errors + 1] = problem
end
local fail = M.fail

--- Reports the keys of a mapping that have no row, nor were `judged` already.
---@param d table
---@param map table
---@param path string of the mapping, with its dot
---@param known table from keys_of
---@param code string
---@param judged table|nil keys that have an error of their own
function M.check_keys(d, map, path, known, code, judged)
  for key in pairs(map) do
    if not known.rows[key] and not (judged and judged[key]) then
      local meant = options.meant(known.rows, key)
      fail(d, { map = map, key = key, is_key = true }, path .. key, code, ("unknown key '%s'; known: %s"):format(key,
        table.concat(known.names, ", ")), { got = not meant and key or nil, names = known.names, hint = meant })
    end
  end
end
local check_keys = M.check_keys

--- The mapping at map[key], an empty one if there is none; nil, after an error, if it is anything else.
local function mapping_at(d, map, key, path, code)
  local value = map[key]
  if is_empty(value) then return {} end
  if is_mapping(value) then return value end
  fail(d, { map = map, key = key }, path, code, ("%s must be a mapping, got %s"):format(path, describe(value)),
    { hint = json.is_array(value) and "write name: value lines below it, without dashes" or nil })
end

--- The value of one option, checked; nil if there is none, or after an error.
---@param d table
---@param map table
---@param row table of flow/options.lua
---@param path string
---@param code string
---@return any
function M.option_at(d, map, row, path, code)
  local value = map[row.name]
  local lenient = row.type == "inputs" or row.type == "params"
  if value == json.null and row.type ~= "callable" then return nil end
  if value == nil or (lenient and is_empty(value)) then return nil end
  local expected, got, hint = options.check(row, value)
  if not expected then return value end
  fail(d, { map = map, key = row.name }, path, code, ("%s must be %s, got %s"):format(path, expected, got),
    { hint = hint })
end
local option_at = M.option_at

--- Reports options of one task that contradict each other.
local function check_conflicts(d, config, path, name, given)
  for _, conflict in ipairs(options.conflicts(given)) do
    fail(d, { map = config, key = conflict.name, is_key = true }, path .. "." .. conflict.name,
      "invalid_task_" .. conflict.name, ("task '%s' %s"):format(name, conflict.message), { hint = conflict.hint })
  end
end

--- A task of a bundle says exactly once what it does. One whose value was refused has its error already.
local function check_kind(d, tasks, name, config, path)
  local kinds = {}
  for _, kind in ipairs { "callable", "run", "spawn" } do
    if config[kind] ~= nil and config[kind] ~= json.null then kinds[#kinds + 1] = kind end
  end
  if #kinds == 1 then return end
  fail(d, { map = tasks, key = name, is_key = true }, path, "invalid_task_kind",
    ("task '%s' has %s; it needs exactly one of callable, run and spawn"):format(name,
      #kinds == 0 and "nothing to do" or table.concat(kinds, " and ")))
end

--- One task's row for the compiler.
local function read_task(d, tasks, name)
  local config, path, mark = tasks[name], "tasks." .. name, d.marks(tasks, name)
  if not name:find("%S") then
    fail(d, { map = tasks, key = name, is_key = true }, path, "invalid_task_name", "a task's name must not be blank")
  end
  if not is_mapping(config) then
    fail(d, { map = tasks, key = name }, path, "invalid_task_config",
      ("%s must be a mapping, got %s"):format(path, describe(config)),
      { hint = "write callable: module:function below it" })
    return { name = name, line = mark.line, column = mark.column }
  end
  local known = TASK[d.kind]
  check_keys(d, config, path .. ".", known, "unknown_task_keys")
  if d.kind == "bundle" then check_kind(d, tasks, name, config, path) end
  local given = {}
  for key in pairs(config) do
    local row = known.rows[key]
    if row then given[key] = option_at(d, config, row, path .. "." .. key, "invalid_task_" .. key) end
  end
  if given.run ~= nil or given.env ~= nil or given.cwd ~= nil or given.fail_on ~= nil then
    check_conflicts(d, config, path, name, given)
  end
  return options.row(given, name, mark.line, mark.column)
end

--- Rows of all tasks, in the order in which they are written.
local function read_tasks(d)
  local tasks = mapping_at(d, d.root, "tasks", "tasks", "invalid_tasks")
  if not tasks then return nil end
  local places, row_at, rows = {}, {}, {}
  for name in pairs(tasks) do
    local row = read_task(d, tasks, name)
    local place = row.line << 32 | row.column << 8 -- numbers sort faster than rows
    while row_at[place] do place = place + 1 end
    places[#places + 1], row_at[place] = place, row
  end
  table.sort(places)
  for i, place in ipairs(places) do rows[i] = row_at[place] end
  return rows
end

--- The flow mapping: its graph text (nil if there is none) and its defaults.
local function read_flow(d)
  local flow = d.root.flow
  if not is_mapping(flow) then
    fail(d, { map = d.root, key = "flow" }, "flow", flow == nil and "missing_flow" or "invalid_flow",
      flow == nil and "flow is missing" or ("flow must be a mapping, got %s"):format(describe(flow)),
      { hint = "write flow: with graph: below it" })
    return nil, {}
  end
  check_keys(d, flow, "flow.", FLOW, "unknown_flow_keys")
  local graph = flow.graph
  local expected, got = options.check(FLOW.rows.graph, graph)
  if expected then
    fail(d, { map = flow, key = "graph", fallback = d.marks(d.root, "flow") }, "flow.graph", "missing_flow_graph",
      ("flow.graph must be %s, got %s"):format(expected, got))
    graph = nil
  end
  return graph, option_at(d, flow, FLOW.rows.defaults, "flow.defaults", "invalid_flow_defaults") or {}
end

--- The variables that `$env` may name.
local function read_runtime(d)
  local runtime = mapping_at(d, d.root, "runtime", "runtime", "invalid_runtime")
  if not runtime then return {} end
  check_keys(d, runtime, "runtime.", RUNTIME, "unknown_runtime_keys")
  return option_at(d, runtime, RUNTIME.rows.expose_env, "runtime.expose_env", "invalid_runtime_expose_env") or {}
end

--- Where problems of the graph text point into. Readers of one document share what is known of its lines.
local function source_of(d, text)
  if not d.source then
    local origin = d.marks(d.root.flow, "graph")
    origin.text = text
    d.source = require("pyoco.flow.problem").source(d.text, origin, d.shared)
    d.shared.starts = d.source.starts
  end
  return d.source
end

--- Tells line and column of a byte of the graph text; what that needs is made for the first frame.
local function place_of_frames(d, text)
  local place
  return function(at)
    place = place or require("pyoco.flow.problem").places(source_of(d, text))
    return place(at)
  end
end

--- Says of a graph's problems where they stand.
local function placed(d, text, problems)
  for _, problem in ipairs(problems) do
    problem.path, problem.source = d.prefix .. (problem.path or "flow.graph"), source_of(d, text)
  end
  return problems
end

--- Parses the graph text and compiles it with the tasks; adds all errors to d.errors, which point into the text.
local function compile_graph(d, text, rows, opts)
  local ast, errors = text_parser.read(text)
  local function place_in(name, part, key)
    local mark = d.marks(d.root.tasks[name][part], key)
    return mark and { line = mark.value_line or mark.line, column = mark.value_column or mark.column }
  end
  local graph, problems = compile.graph(ast, rows, { name = opts.name, run_all = true, expose_env = opts.expose_env,
    defaults = opts.params or opts.defaults, max_iterations = opts.max_iterations, partial = #errors > 0,
    place_in = place_in, place = place_of_frames(d, text) })
  if graph and #errors == 0 then return graph, placed(d, text, problems) end
  for _, list in ipairs { errors, not graph and problems or {} } do
    table.move(placed(d, text, list), 1, #list, #d.errors + 1, d.errors)
  end
end

--- Opens a document: its YAML as a reader whose root is a mapping.
---@param text string YAML
---@param kind string "document" | "bundle"
---@param opts table { duplicate = "last" lets the last of equal keys win, max_bytes, what = how an error names it,
---  hint = what to begin it with }
---@return table|nil d the reader
---@return string|nil code "invalid" | "too_large"
---@return table|nil errors finished
function M.open(text, kind, opts)
  local root, marks, code, errors = yaml.decode(text, { duplicate = opts.duplicate, max_bytes = opts.max_bytes })
  if root == nil then return nil, code, M.finish(errors or { { code = code, message = marks } }, text) end
  local d = { text = text, root = root, marks = marks, errors = {}, prefix = "", kind = kind }
  if M.is_mapping(root) then return d end
  fail(d, {}, "", "invalid_yaml_root", ("%s is a mapping, this is %s"):format(opts.what,
    root == json.null and "empty" or options.describe(root)),
    { hint = opts.hint })
  return nil, "invalid", M.finish(d.errors, text)
end

--- Has the collector rest while a document is read: nothing of it is garbage before its end.
---@param text string
---@return table to be closed
function M.rest_collector(text)
  return compile.rest_collector(#text // SMALL_TASK)
end

--- Reads a section. What is wrong is added to d.errors; whoever reads the document looks whether there is any.
---@param d table the reader, see above
---@param opts table { name = of the flow, max_iterations, params = what the run has instead of the defaults }
---@return table section { graph (nil after an error in it), defaults, tasks = rows in order, expose_env,
---  warnings = raw ones }
function M.read(d, opts)
  d.shared = d.shared or {}
  local text, defaults = read_flow(d)
  local rows, expose_env = read_tasks(d), read_runtime(d)
  local graph, warnings
  if text and rows then
    graph, warnings = compile_graph(d, text, rows, { name = opts.name, expose_env = expose_env, defaults = defaults,
      params = opts.params, max_iterations = opts.max_iterations })
  end
  return { graph = graph, defaults = defaults, tasks = rows, expose_env = expose_env, warnings = warnings or {} }
end

--- Checks the version of a document: anything that is a whole number, as the reference takes it.
---@param d table
---@param root table
---@param row table its row
function M.check_version(d, root, row)
  local version = root.version
  local expected, got = options.check(row, version)
  if version == nil or not expected then return end
  fail(d, { map = root, key = "version" }, "version", "invalid_version",
    ("version must be %s, got %s"):format(expected, got), { hint = "write version: 1" })
end

--- Where a task, or one of its options, stands.
---@param d table
---@param name string of the task
---@param key string|nil
---@return table { line, column }
function M.place_of(d, name, key)
  local mark = d.marks(d.root.tasks[name], key)
  if mark then return { line = mark.value_line, column = mark.value_column } end
  return d.marks(d.root.tasks, name)
end

--- Places and carets for raw problems; loaded only when there are any.
---@param problems table
---@param text string the document
---@return table finished
function M.finish(problems, text)
  if #problems == 0 then return problems end
  local problem = require "pyoco.flow.problem"
  return problem.finish(problems, problem.source(text))
end

return M
