--- THE table of what a task, a flow and a document may say. The Lua front end, the reader of flow.yaml, the JSON
--- Schema and the reference pages are all derived from these rows, so that every one of them accepts the same.
---
--- A row: { name, type = key of TYPES, doc = one sentence, default = what holds when it is absent (text in `no_default`
--- when that is no value), min, max, above = limits of numbers, values = the words of a choice, example = a value,
--- in_lua = false, in_yaml = false: the front end that lacks it }.
local json = require "host.json"

local M = {}

--- Options of a task: below `tasks.NAME` in a document, the last argument of `pyoco.task` in Lua.
M.TASK = {
  { name = "callable", type = "callable", in_lua = false, example = "etl_tasks:fetch",
    doc = "The Lua function of the task, as module:function; the module is a file of the worker's task roots." },
  { name = "run", type = "command", example = { "python", "train.py", "--lr", "$ctx.params.lr" },
    doc = "The program that the task runs: a list (items that are selectors are replaced), or a text for the shell." },
  { name = "env", type = "environment", example = { LR = "$ctx.params.lr" },
    doc = "Environment variables of the program: texts or selectors." },
  { name = "cwd", type = "text", example = "/srv/train", no_default = "the worker's folder",
    doc = "The folder that the program runs in." },
  { name = "inputs", type = "inputs", example = { size = "$node.fetch.output.size", limit = 10 },
    doc = "Values of the task's parameters by name: JSON values, or selectors that stand for a value of the run." },
  { name = "outputs", type = "paths", example = { "results.size" },
    doc = "Where the task's output is also saved: paths below scratch, results or params." },
  { name = "retries", type = "integer", min = 0, max = 1000, default = 0,
    doc = "How often the task is tried again after a failed attempt." },
  { name = "retry_delay_sec", type = "number", min = 0, max = 86400, default = 1,
    doc = "Seconds before the first retry; later ones wait backoff times longer each, at most a day." },
  { name = "backoff", type = "number", min = 1, max = 100, default = 2,
    doc = "By how much the wait grows from one retry to the next." },
  { name = "timeout_sec", type = "number", above = 0, max = 31536000, no_default = "no limit",
    doc = "Seconds after which an attempt that still runs is stopped and counts as failed." },
  { name = "fail_policy", type = "choice", values = { "stop", "isolate" }, default = "stop",
    doc = "What a failure means: stop ends the run, isolate fails only the task and what depends on it." },
  { name = "parallel", type = "integer", min = 1, max = 256, default = 1,
    doc = "How many iterations of the loop right around the task may run at once." },
}

--- Keys below `flow` in a document; those that Lua has too are options of `pyoco.flow`.
M.FLOW = {
  { name = "graph", type = "graph", in_lua = false, is_required = true, example = "fetch >> (parse & stats) >> report",
    doc = "The order of the tasks: a >> b, a & b, a | b, loops and switches." },
  { name = "defaults", type = "params", example = { url = "http://localhost/" },
    doc = "Parameters of the run that need not be given at submit." },
}

--- Keys below `runtime` in a document; in Lua they are options of `pyoco.flow`.
M.RUNTIME = {
  { name = "expose_env", type = "texts", example = { "HOME" },
    doc = "Environment variables of the worker that $env may name." },
}

--- Keys of a document.
M.TOP = {
  { name = "version", type = "version", in_lua = false, default = 1, doc = "The version of the format." },
  { name = "flow", type = "section", rows = M.FLOW, in_lua = false, is_required = true,
    doc = "The graph and the default parameters." },
  { name = "tasks", type = "tasks", rows = M.TASK, in_lua = false, doc = "The tasks by name, each with its options." },
  { name = "runtime", type = "section", rows = M.RUNTIME, in_lua = false, doc = "What the run sees of the worker." },
}

--- Options of `pyoco.flow` in Lua.
M.LUA_FLOW = { M.FLOW[2], M.RUNTIME[1] }

--- Tasks of a workflow in a bundle: one may run another workflow of the bundle.
M.BUNDLE_TASK = {
  { name = "spawn", type = "text", in_lua = false, example = "train",
    doc = "The workflow of this bundle that the task runs as a child run." },
  { name = "fail_on", type = "ends", in_lua = false, example = { "FAILED", "CANCELLED" }, no_default = "none",
    doc = "Ends of the child run that fail the task; without it the task succeeds, and its output tells the end." },
  table.unpack(M.TASK),
}

--- Tasks of a Lua flow: one may run another flow, by the name that it declares.
M.LUA_TASK = {
  { name = "spawn", type = "text", in_yaml = false, example = "training",
    doc = "The flow that the task runs as a child run, by its declared name. Needs a worker that allows it." },
  { name = "fail_on", type = "ends", in_yaml = false, example = { "FAILED", "CANCELLED" }, no_default = "none",
    doc = "Ends of the child run that fail the task; without it the task succeeds, and its output tells the end." },
  { name = "tag", type = "tag", in_yaml = false, example = "gpu", no_default = "the parent's",
    doc = "Whose workers take the child run." },
  table.unpack(M.TASK),
}

--- Keys of one workflow of a bundle.
M.WORKFLOW = { M.TOP[2], { name = "tasks", type = "tasks", rows = M.BUNDLE_TASK, in_lua = false,
  doc = "The tasks by name, each with its options." }, M.TOP[4] }

--- Keys below `submit` in a bundle.
M.SUBMIT = {
  { name = "entry_workflow", type = "text", in_lua = false, is_required = true, example = "main",
    doc = "The workflow that a submit starts." },
  { name = "inputs", type = "params", in_lua = false, doc = "Parameters of that run." },
}

--- Keys of a bundle of workflows.
M.BUNDLE = {
  M.TOP[1],
  { name = "workflows", type = "workflows", rows = M.WORKFLOW, in_lua = false, is_required = true,
    doc = "The workflows by name, each like a flow document." },
  { name = "submit", type = "section", rows = M.SUBMIT, in_lua = false, is_required = true,
    doc = "What a submit of the bundle starts." },
}

--- What other systems call an option, and what has another place here: key -> the option, or words.
local ELSEWHERE = {
  retry = "retries", max_retries = "retries", retry_count = "retries", attempts = "retries", timeout = "timeout_sec",
  retry_delay = "retry_delay_sec", delay = "retry_delay_sec", command = "run", cmd = "run", script = "run",
  shell = "run", func = "callable", ["function"] = "callable", call = "callable", uses = "callable", args = "inputs",
  with = "inputs", environment = "env", workdir = "cwd", working_dir = "cwd", ["working-directory"] = "cwd",
  on_error = "fail_policy", on_failure = "fail_policy", concurrency = "parallel", workflow = "spawn",
  depends_on = false, needs = false, after = false, depends = false, dependencies = false,
}

--- What an unknown key may be meant to be, where its letters do not tell.
---@param rows table name -> row, of the options that are known there
---@param key string
---@return string|nil hint
function M.meant(rows, key)
  local name = ELSEWHERE[key]
  if name == nil then
    local is_task = key == "spawn" and rows.callable and not rows.spawn
    return is_task and "only tasks of a bundle (workflows:) spawn runs" or nil
  end
  if name == false then return rows.callable and "the order stands in the graph: a >> b for b after a" or nil end
  return rows[name] and ("did you mean %s?"):format(name) or nil
end

local SHELL_SELECTORS = { ctx = true, node = true, flow = true, env = true }
local LONGEST_SHOWN = 40

--- Tells whether a value is a mapping: a JSON object, or a Lua table without list items. An empty table is either.
---@param value any
---@return boolean
function M.is_mapping(value)
  return type(value) == "table" and not json.is_array(value) and #value == 0
end

local function is_list(value)
  if type(value) ~= "table" then return false end
  if json.is_array(value) then return true end
  local count = 0
  for _ in pairs(value) do count = count + 1 end
  return count == #value
end

--- What a value is, in the words of errors: `a list`, `null`, `-1`, `'text'`.
---@param value any
---@return string
function M.describe(value)
  local kind = type(value)
  if value == nil then return "nothing" end
  if value == json.null then return "null" end
  if kind == "table" then return (json.is_array(value) or #value > 0) and "a list" or "a mapping" end
  if kind == "number" or kind == "boolean" then return tostring(value) end
  if kind ~= "string" then return "a " .. kind end
  if not utf8.len(value) then return "a text that is not UTF-8" end
  if #value <= LONGEST_SHOWN then return "'" .. value .. "'" end
  return "'" .. value:sub(1, utf8.offset(value, 0, LONGEST_SHOWN) - 1) .. "...'"
end

--- Checks every entry of a mapping whose keys are texts. `problem(key, item)` returns what is wrong, or nil.
local function each_entry(value, expected, problem)
  if not M.is_mapping(value) then return expected end
  for key, item in pairs(value) do
    if type(key) ~= "string" or not utf8.len(key) then return expected, ("the key %s"):format(M.describe(key)) end
    local got = problem(key, item)
    if got then return expected, got end
  end
end

local MAPPING = "a mapping of names to values"

--- Mappings whose values JSON can carry.
local function json_mapping(_, value)
  return each_entry(value, MAPPING, function(key, item)
    local kind = type(item)
    if kind == "boolean" or item == json.null or math.type(item) == "integer" then return end
    if kind == "string" and utf8.len(item) then return end
    local _, message = json.encode { item }
    return message and ("'%s': %s"):format(key, message)
  end)
end

local function limits(row, noun)
  if row.above then return ("%s above %s, at most %s"):format(noun, row.above, row.max) end
  return ("%s from %s to %s"):format(noun, row.min, row.max)
end

local function in_limits(row, value)
  return (not row.min or value >= row.min) and (not row.above or value > row.above) and value <= row.max
end

--- Finds a selector inside of a text, where it is not replaced; `\$` is a plain dollar.
---@param text string
---@return string|nil selector the first one
---@return string|nil root ctx, node, flow or env
function M.selector_inside(text)
  for before, found, root in text:gmatch("()(%$(%a+)%.[%w_.]+)") do
    if SHELL_SELECTORS[root] and text:sub(before - 1, before - 1) ~= "\\" then return found, root end
  end
end

--- What to write in place of a selector in a text for the shell.
local function shell_remedy(found, root)
  local name = found:match("[%w_]+%.?$"):gsub("%.$", ""):upper()
  if root == "env" then return ("the program has the worker's environment: write $%s"):format(name) end
  return ("name it in env (%s: %s) and write \"$%s\", or name it in inputs and write \"$INPUT_...\""):format(name,
    found, name)
end

local COMMAND = "a list of texts and numbers such as [python, train.py], or one text for the shell"

local function check_command(_, value)
  if type(value) == "string" then
    if not value:find("%S") then return COMMAND, "a blank text" end
    if value:find("\0", 1, true) then return COMMAND, "a text with a NUL byte" end
    local found, root = M.selector_inside(value)
    if not found then return nil end
    return "a list, or a text for the shell without selectors (they are not replaced there)", "'" .. found .. "' in it",
      shell_remedy(found, root)
  elseif not is_list(value) then
    return COMMAND
  elseif #value == 0 then
    return COMMAND, "an empty list"
  end
  for i, item in ipairs(value) do
    local is_text = type(item) == "string" and not item:find("\0", 1, true)
    if not is_text and type(item) ~= "number" then
      return COMMAND, ("%s as item %d"):format(is_text == false and type(item) == "string" and "a text with a NUL byte"
        or M.describe(item), i), type(item) == "boolean" and "write it in quotes" or nil
    end
  end
  if type(value[1]) == "string" and not value[1]:find("%S") then return COMMAND, "a blank program" end
end

local function check_environment(_, value)
  return each_entry(value, "a mapping of variable names to texts, numbers or selectors", function(key, item)
    if not key:find("^[%a_][%w_]*$") then return ("the name %s"):format(M.describe(key)) end
    if type(item) == "string" and item:find("\0", 1, true) then return key .. ": a text with a NUL byte" end
    if type(item) ~= "string" and type(item) ~= "number" then return ("%s: %s"):format(key, M.describe(item)) end
  end)
end

--- A list of texts that all satisfy `is_good`.
local function list_of(expected, is_good)
  return function(_, value)
    if not is_list(value) then return expected end
    for i, item in ipairs(value) do
      if type(item) ~= "string" or not is_good(item) then
        return expected, ("%s as item %d"):format(M.describe(item), i)
      end
    end
  end
end

local ENDS = { FAILED = true, CANCELLED = true }

local function is_save_path(text) return require("pyoco.flow.save_path").parse(text) ~= nil end

--- Each type: check(row, value) -> nil when it is right, else what was expected [, what was got [, a remedy]].
M.TYPES = {
  integer = function(row, value)
    local whole = type(value) == "number" and math.tointeger(value)
    if not whole or not in_limits(row, whole) then return limits(row, "a whole number") end
  end,
  number = function(row, value)
    if type(value) ~= "number" or not in_limits(row, value) then return limits(row, "a number") end
  end,
  choice = function(row, value)
    for _, word in ipairs(row.values) do
      if value == word then return nil end
    end
    return table.concat(row.values, " or ")
  end,
  text = function(_, value)
    if type(value) ~= "string" or not value:find("%S") or value:find("\0", 1, true) then return "a text" end
  end,
  graph = function(_, value)
    if type(value) ~= "string" then return "a text such as a >> b" end
    if not value:find("%S") then return "a text such as a >> b", "a blank one" end
  end,
  callable = function(_, value)
    if type(value) ~= "string" or not value:find(":", 1, true) then return "a text of the form module:function" end
  end,
  version = function(_, value)
    if type(value) == "number" or type(value) == "boolean" then return nil end
    if type(value) ~= "string" or not math.tointeger(tonumber(value)) then return "a whole number" end
  end,
  inputs = json_mapping,
  params = json_mapping,
  section = function(_, value) return not M.is_mapping(value) and "a mapping" or nil end,
  tasks = function(_, value) return not M.is_mapping(value) and "a mapping of task names to their options" or nil end,
  workflows = function(_, value)
    if not M.is_mapping(value) or next(value) == nil then return "a mapping of workflow names to workflows" end
  end,
  environment = check_environment,
  command = check_command,
  texts = list_of("a list of texts", function() return true end),
  tag = function(_, value)
    if type(value) ~= "string" or not value:find("^[^%s.*>%c]+$") then return "a tag: one word without . * >" end
  end,
  ends = list_of("a list of FAILED and CANCELLED", function(text) return ENDS[text] end),
  paths = list_of("a list of paths such as results.size (below scratch, results or params)", is_save_path),
}

--- Checks the value of an option.
---@param row table one of the rows above
---@param value any
---@return string|nil expected nil when the value is fine; else what was expected
---@return string|nil got what stands there, as an error says it
---@return string|nil hint a remedy, where there is more to say than what was expected
function M.check(row, value)
  local expected, got, hint = M.TYPES[row.type](row, value)
  if not expected then return nil end
  return expected, got or M.describe(value), hint
end

--- The names that a front end knows.
---@param rows table list of rows
---@param front string "lua"|"yaml"
---@return table list of names, in the order of the rows
---@return table by_name name -> row
function M.names(rows, front)
  local names, by_name = {}, {}
  for _, row in ipairs(rows) do
    if row["in_" .. front] ~= false then
      names[#names + 1], by_name[row.name] = row.name, row
    end
  end
  return names, by_name
end

--- Whether tasks have an option of this name.
---@param name string
---@return boolean
function M.is_task_option(name)
  local _, by_name = M.names(M.LUA_TASK, "lua")
  return by_name[name] ~= nil
end

--- Whole numbers as integers, the items of a command and its environment as texts: what both front ends write alike.
local NORMAL = {
  integer = math.tointeger,
  number = function(value) return math.tointeger(value) or value end,
  command = function(value)
    if type(value) == "string" then return value end
    local items = {}
    for i, item in ipairs(value) do items[i] = tostring(item) end
    return items
  end,
  environment = function(value)
    local env = {}
    for name, item in pairs(value) do env[name] = tostring(item) end
    return env
  end,
}

--- Option -> its row, for those that stand under `options` of a node.
local PLAIN = {}
for _, row in ipairs(M.TASK) do PLAIN[row.name] = row end
for _, name in ipairs { "callable", "run", "env", "cwd", "inputs", "outputs" } do PLAIN[name] = nil end

--- The row of a task for the compiler, which makes the node of the graph out of it.
---@param given table option -> value, nil for what is absent; all of them checked
---@param name string
---@param line integer|nil of the task in a document
---@param column integer|nil
---@return table row { name, callable, inputs, outputs, options = { those that are given }|nil,
---  command = { run, env, cwd }|nil, spawn = { workflow, fail_on = list|nil, tag }|nil, line, column }
function M.row(given, name, line, column)
  local command, plain
  if given.run ~= nil then
    command = { run = NORMAL.command(given.run), env = NORMAL.environment(given.env or {}), cwd = given.cwd }
  end
  local spawn = given.spawn ~= nil and { workflow = given.spawn, fail_on = given.fail_on, tag = given.tag } or nil
  for option, value in pairs(given) do
    local known = PLAIN[option]
    if known then
      local normal = NORMAL[known.type]
      plain = plain or {}
      plain[option] = normal and normal(value) or value
    end
  end
  return { name = name, callable = given.callable, inputs = given.inputs, outputs = given.outputs, options = plain,
    command = command, spawn = spawn, line = line, column = column, file = nil, needs = nil,
    frame = nil } -- named for their room
end

--- Options of one task that contradict each other.
---@param given table option -> value
---@param has_function boolean|nil of a Lua flow: whether the task is a function
---@return table list of { name = the option, message, hint }; the message goes on after the task's name
function M.conflicts(given, has_function)
  local found = {}
  if given.run ~= nil and (given.callable ~= nil or has_function) then
    found[1] = { name = "run", message = ("has a %s and a run"):format(has_function and "function" or "callable"),
      hint = "keep one of the two" }
  elseif given.run == nil then
    for _, name in ipairs { "env", "cwd" } do
      if given[name] ~= nil then
        found[#found + 1] = { name = name, message = ("has %s, which is for a command, but no run"):format(name),
          hint = "write run: as well, or remove it" }
      end
    end
  end
  for _, name in ipairs { "fail_on", "tag" } do
    if given[name] ~= nil and given.spawn == nil then
      found[#found + 1] = { name = name, message = ("has %s, which is for a child run, but no spawn"):format(name),
        hint = "write spawn: as well, or remove it" }
    end
  end
  if has_function ~= nil and given.spawn ~= nil and (has_function or given.run ~= nil) then
    found[#found + 1] = { name = "spawn", hint = "keep one of the two",
      message = ("has a %s and a spawn"):format(has_function and "function" or "run") }
  end
  return found
end

return M
