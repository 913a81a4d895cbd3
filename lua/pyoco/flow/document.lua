--- A flow document (flow.yaml): text to a checked, compiled document. Runs nothing; gateway and worker both read it.
---
---   version: 1
---   flow:    { graph: TEXT, defaults: { param: value } }
---   tasks:   { name: { callable: "module:function", inputs: { parameter: value }, retries: 3 } }
---   runtime: { expose_env: [NAME] }
---
--- The keys and what may stand behind each are the rows of flow/options.lua.
local crypto = require "host.crypto"
local json = require "host.json"
local yaml = require "host.yaml"
local compile = require "pyoco.flow.compile"
local options = require "pyoco.flow.options"
local text_parser = require "pyoco.flow.text"

local M = {}

local MESSAGE = "invalid workflow yaml"
local MAX_PROBLEMS = 200 -- hostile documents have any number
local SMALL_TASK = 30    -- bytes of a document that a task takes at least

--- The keys of a mapping: { names = in order, rows = name -> row of flow/options.lua }.
local function keys_of(rows)
  local names, by_name = options.names(rows, "yaml")
  return { names = names, rows = by_name }
end
local TOP, FLOW, TASK = keys_of(options.TOP), keys_of(options.FLOW), keys_of(options.TASK)
local RUNTIME = keys_of(options.RUNTIME)
local UNSUPPORTED = { flows = "write one flow: per document", discovery = "name callables in tasks:" }

local describe = options.describe

local function is_mapping(value) return type(value) == "table" and not json.is_array(value) end

--- What YAML writers leave empty: absent, null, false, "", 0 and [] all mean "none".
local function is_empty(value)
  return value == nil or value == json.null or value == false or value == "" or value == 0
    or (type(value) == "table" and next(value) == nil)
end

--- Records an error at an entry of a mapping: at its key, or at its value. An absent entry is reported at the mapping.
local function fail(d, at, path, code, message, more)
  if #d.errors >= MAX_PROBLEMS then return end
  local mark = at.key ~= nil and d.marks(at.map, at.key) or at.fallback or d.marks()
  local is_key = at.is_key or not mark.value_line
  local problem = { code = code, path = path, message = message,
    line = is_key and mark.line or mark.value_line, column = is_key and mark.column or mark.value_column }
  for name, value in pairs(more or {}) do problem[name] = value end
  d.errors[#d.errors + 1] = problem
end

--- Reports the keys of a mapping that have no row, nor were `judged` already.
local function check_keys(d, map, path, known, code, judged)
  for key in pairs(map) do
    if not known.rows[key] and not (judged and judged[key]) then
      fail(d, { map = map, key = key, is_key = true }, path .. key, code, ("unknown key '%s'; known: %s"):format(key,
        table.concat(known.names, ", ")), { got = key, names = known.names })
    end
  end
end

--- The mapping at map[key], an empty one if there is none; nil, after an error, if it is anything else.
local function mapping_at(d, map, key, path, code)
  local value = map[key]
  if is_empty(value) then return {} end
  if is_mapping(value) then return value end
  fail(d, { map = map, key = key }, path, code, ("%s must be a mapping, got %s"):format(path, describe(value)))
end

--- The value of one option, checked; nil if there is none, or after an error.
local function option_at(d, map, row, path, code)
  local value = map[row.name]
  local lenient = row.type == "inputs" or row.type == "params"
  if value == json.null and row.type ~= "callable" then return nil end
  if value == nil or (lenient and is_empty(value)) then return nil end
  local expected, got, hint = options.check(row, value)
  if not expected then return value end
  fail(d, { map = map, key = row.name }, path, code, ("%s must be %s, got %s"):format(path, expected, got),
    { hint = hint })
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
  check_keys(d, config, path .. ".", TASK, "unknown_task_keys")
  local given = {}
  for key in pairs(config) do
    local row = TASK.rows[key]
    if row then given[key] = option_at(d, config, row, path .. "." .. key, "invalid_task_" .. key) end
  end
  if given.run ~= nil or given.env ~= nil or given.cwd ~= nil then
    for _, conflict in ipairs(options.conflicts(given)) do
      fail(d, { map = config, key = conflict.name, is_key = true }, path .. "." .. conflict.name,
        "invalid_task_" .. conflict.name, ("task '%s' %s"):format(name, conflict.message), { hint = conflict.hint })
    end
  end
  return options.row(given, name, mark.line, mark.column)
end

--- Rows of all tasks, in the order in which they are written.
local function read_tasks(d, root)
  local tasks = mapping_at(d, root, "tasks", "tasks", "invalid_tasks")
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
local function read_flow(d, root)
  local flow = root.flow
  if not is_mapping(flow) then
    fail(d, { map = root, key = "flow" }, "flow", flow == nil and "missing_flow" or "invalid_flow",
      flow == nil and "flow is missing" or ("flow must be a mapping, got %s"):format(describe(flow)),
      { hint = "write flow: with graph: below it" })
    return nil, {}
  end
  check_keys(d, flow, "flow.", FLOW, "unknown_flow_keys")
  local graph = flow.graph
  local expected, got = options.check(FLOW.rows.graph, graph)
  if expected then
    fail(d, { map = flow, key = "graph", fallback = d.marks(root, "flow") }, "flow.graph", "missing_flow_graph",
      ("flow.graph must be %s, got %s"):format(expected, got))
    graph = nil
  end
  return graph, option_at(d, flow, FLOW.rows.defaults, "flow.defaults", "invalid_flow_defaults") or {}
end

--- Checks the version: anything that is a whole number, as the reference takes it.
local function check_version(d, root)
  local version = root.version
  local expected, got = options.check(TOP.rows.version, version)
  if version == nil or not expected then return end
  fail(d, { map = root, key = "version" }, "version", "invalid_version",
    ("version must be %s, got %s"):format(expected, got), { hint = "write version: 1" })
end

--- The variables that `$env` may name.
local function read_runtime(d, root)
  local runtime = mapping_at(d, root, "runtime", "runtime", "invalid_runtime")
  if not runtime then return {} end
  check_keys(d, runtime, "runtime.", RUNTIME, "unknown_runtime_keys")
  return option_at(d, runtime, RUNTIME.rows.expose_env, "runtime.expose_env", "invalid_runtime_expose_env") or {}
end

--- Reports unknown keys of the top level; those of other formats that people try have errors of their own.
local function check_top(d, root)
  for key, hint in pairs(UNSUPPORTED) do
    if root[key] ~= nil then
      fail(d, { map = root, key = key, is_key = true }, key, "unsupported_key_" .. key,
        ("'%s' is not supported"):format(key), { hint = hint })
    end
  end
  check_keys(d, root, "", TOP, "unknown_top_level_keys", UNSUPPORTED)
end

--- Tells line and column of a byte of the graph text; what that needs is made for the first frame.
local function place_of_frames(d, text)
  local place
  return function(at)
    if not place then
      local origin = d.marks(d.root.flow, "graph")
      origin.text = text
      place = require("pyoco.flow.problem").places(d.text, origin)
    end
    return place(at)
  end
end

--- Parses the graph text and compiles it with the tasks; adds all errors to d.errors, which point into the text.
local function compile_graph(d, text, rows, opts)
  local ast, errors = text_parser.read(text)
  local function place_in(name, part, key)
    local mark = d.marks(d.root.tasks[name][part], key)
    return mark and { line = mark.value_line or mark.line, column = mark.value_column or mark.column }
  end
  local graph, problems = compile.graph(ast, rows, { name = opts.name, run_all = true, expose_env = opts.expose_env,
    defaults = opts.defaults, max_iterations = opts.max_iterations, partial = #errors > 0, place_in = place_in,
    place = place_of_frames(d, text) })
  if graph and #errors == 0 then return graph, problems end
  for _, list in ipairs { errors, not graph and problems or {} } do
    for _, problem in ipairs(list) do
      problem.path = problem.path or "flow.graph"
      d.errors[#d.errors + 1] = problem
    end
  end
end

--- Places and carets for raw problems; loaded only when there are any.
local function finish(problems, text, root, marks)
  if #problems == 0 then return problems end
  local problem = require "pyoco.flow.problem"
  local flow, origin = is_mapping(root) and root.flow, nil
  if is_mapping(flow) and type(flow.graph) == "string" then
    origin = marks(flow, "graph")
    origin.text = flow.graph
  end
  return problem.finish(problems, problem.source(text, origin))
end

--- Reads a document.
---@param text string YAML
---@param opts table|nil { name = the flow's name, duplicate = "last" lets the last of equal keys win, max_bytes,
---  max_iterations = what a loop may ask for }
---@return table|nil doc { graph, defaults, tasks = rows in order, expose_env, warnings, sha256, text }
---@return string|nil message "invalid workflow yaml", string|nil code "invalid"|"too_large"
---@return table|nil errors all of them, by place: { line, column, path, code, message, hint, caret }
function M.read(text, opts)
  opts = opts or {}
  local resting <close> = compile.rest_collector(#text // SMALL_TASK) -- luacheck: ignore
  local root, marks, code, errors = yaml.decode(text, { duplicate = opts.duplicate, max_bytes = opts.max_bytes })
  if root == nil then return nil, MESSAGE, code, finish(errors or { { code = code, message = marks } }, text) end
  local d = { text = text, root = root, marks = marks, errors = {} }
  if not is_mapping(root) then
    fail(d, {}, "", "invalid_yaml_root", ("a flow document is a mapping, this is %s"):format(describe(root)),
      { hint = "start with version: 1, flow: and tasks:" })
    return nil, MESSAGE, "invalid", finish(d.errors, text)
  end
  check_top(d, root)
  check_version(d, root)
  local graph_text, defaults = read_flow(d, root)
  local rows, expose_env = read_tasks(d, root), read_runtime(d, root)
  local graph, warnings
  if graph_text and rows then
    graph, warnings = compile_graph(d, graph_text, rows, { name = opts.name, expose_env = expose_env,
      defaults = defaults, max_iterations = opts.max_iterations })
  end
  if #d.errors > 0 then return nil, MESSAGE, "invalid", finish(d.errors, text, root, marks) end
  local function place_of(name, key)
    local mark = d.marks(root.tasks[name], key)
    if mark then return { line = mark.value_line, column = mark.value_column } end
    return d.marks(root.tasks, name)
  end
  return { graph = graph, defaults = defaults, tasks = rows, expose_env = expose_env, text = text,
    place_of = opts.places and place_of or nil,
    warnings = finish(warnings, text, root, marks), sha256 = crypto.sha256(text) }
end

return M
