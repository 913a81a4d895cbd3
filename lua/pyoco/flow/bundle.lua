--- A bundle of workflows (bundle.yaml): text to checked, compiled workflows. Runs nothing; gateway and worker both read
--- it.
---
---   version: 1
---   workflows:
---     study: { flow: { graph: TEXT }, tasks: { name: { callable: "module:function" }, other: { spawn: trial } } }
---     trial: { flow: { graph: TEXT }, tasks: { ... } }
---   submit: { entry_workflow: study, inputs: { param: value } }
---
--- Each workflow is a section as a flow document is one (flow/section.lua); a task of it may `spawn` another workflow
--- of the bundle as a child run. As in the reference, a workflow's `flow.defaults` are checked and then not used: the
--- params of a run are the submit's inputs, those of a child its parent's and the task's inputs.
local crypto = require "host.crypto"
local yaml = require "host.yaml"
local options = require "pyoco.flow.options"
local section = require "pyoco.flow.section"

local M = {}

local MESSAGE = "invalid workflow bundle"

local TOP, WORKFLOW = section.keys_of(options.BUNDLE), section.keys_of(options.WORKFLOW)
local SUBMIT = section.keys_of(options.SUBMIT)
local SECTION_CODES = { missing_flow = "invalid_bundle_flow", invalid_flow = "invalid_bundle_flow" }

local fail, is_mapping = section.fail, section.is_mapping

--- Names of the workflows in the order in which they are written; nil, after an error, if there is none.
local function workflow_names(d)
  local workflows = d.root.workflows
  local expected, got = options.check(TOP.rows.workflows, workflows)
  if expected then
    fail(d, { map = d.root, key = "workflows" }, "workflows", "invalid_bundle_workflows",
      ("workflows must be %s, got %s"):format(expected, got))
    return nil
  end
  local names = {}
  for name in pairs(workflows) do names[#names + 1] = name end
  table.sort(names, function(a, b)
    local one, other = d.marks(workflows, a), d.marks(workflows, b)
    if one.line ~= other.line then return one.line < other.line end
    if one.column ~= other.column then return one.column < other.column end
    return a < b
  end)
  return names
end

--- What a submit starts; its fields are nil after an error in them.
local function read_submit(d, names)
  local submit = d.root.submit
  if not is_mapping(submit) then
    fail(d, { map = d.root, key = "submit" }, "submit", "invalid_bundle_submit", submit == nil and "submit is missing"
      or ("submit must be a mapping, got %s"):format(options.describe(submit)),
      { hint = "write submit: with entry_workflow: below it" })
    return {}
  end
  section.check_keys(d, submit, "submit.", SUBMIT, "unknown_bundle_submit_keys")
  local entry = submit.entry_workflow
  local expected, got = options.check(SUBMIT.rows.entry_workflow, entry)
  local place = { map = submit, key = "entry_workflow", fallback = d.marks(d.root, "submit") }
  if expected then
    fail(d, place, "submit.entry_workflow", "invalid_entry_workflow",
      ("submit.entry_workflow must be %s, got %s"):format(expected, got))
    entry = nil
  elseif names and d.root.workflows[entry] == nil then
    fail(d, place, "submit.entry_workflow", "missing_entry_workflow", ("no workflow is called '%s'"):format(entry),
      { got = entry, names = names })
  end
  return { entry = entry,
    inputs = section.option_at(d, submit, SUBMIT.rows.inputs, "submit.inputs", "invalid_bundle_submit_inputs") or {} }
end

--- A reader of one workflow; nil, after an error, if it is no mapping.
local function workflow_reader(d, name)
  local workflows = d.root.workflows
  local workflow, path = workflows[name], "workflows." .. name
  if not name:find("%S") then
    fail(d, { map = workflows, key = name, is_key = true }, path, "invalid_workflow_name",
      "a workflow's name must not be blank")
  end
  if not is_mapping(workflow) then
    fail(d, { map = workflows, key = name }, path, "invalid_bundle_workflow",
      ("%s must be a mapping, got %s"):format(path, options.describe(workflow)))
    return nil
  end
  return { text = d.text, marks = d.marks, errors = d.errors, shared = d.shared, root = workflow, kind = "bundle",
    prefix = path .. ".", place = d.marks(workflows, name), codes = SECTION_CODES }
end

--- Checks whom the tasks of a workflow spawn.
local function check_spawns(one, workflow, names, known)
  for _, task in ipairs(workflow.tasks or {}) do
    local target = task.spawn and task.spawn.workflow
    if target and known[target] == nil then
      fail(one, { map = one.root.tasks[task.name], key = "spawn" }, ("tasks.%s.spawn"):format(task.name),
        "unknown_spawn_target", ("no workflow is called '%s'"):format(target), { got = target, names = names })
    end
    workflow.spawns = workflow.spawns or target ~= nil
  end
end

--- What is no mistake, yet not what it looks like.
local function add_warnings(one, workflow)
  if next(workflow.defaults) ~= nil then
    local mark = one.marks(one.root.flow, "defaults")
    table.insert(workflow.warnings, { code = "unused_defaults", path = one.prefix .. "flow.defaults", line = mark.line,
      column = mark.column, message = "flow.defaults of a workflow in a bundle are not used",
      hint = "write them below submit.inputs, or as inputs of the task that spawns the workflow" })
  end
end

--- Children spawn nothing: warns of tasks that will try.
local function warn_of_grandchildren(bundle, readers, warnings)
  local told = {}
  local entry = bundle.workflows[bundle.entry_workflow]
  for _, task in ipairs(entry.tasks) do
    local target = task.spawn and task.spawn.workflow
    if target and bundle.workflows[target].spawns and not told[target] then
      told[target] = true
      warnings[#warnings + 1] = { code = "child_respawn_not_allowed", path = readers[target].prefix .. "tasks",
        line = readers[target].place.line, column = readers[target].place.column,
        message = ("workflow '%s' is spawned and spawns itself: such a child run fails"):format(target),
        hint = "only the entry workflow may spawn" }
    end
  end
end

--- Reads the workflows. With `only`, no other one is looked into.
local function read_workflows(d, names, submit, opts)
  local workflows, readers = {}, {}
  for _, name in ipairs(names) do
    local one = (not opts.only or opts.only == name) and workflow_reader(d, name)
    if one then
      section.check_keys(one, one.root, "", WORKFLOW, "unknown_bundle_workflow_keys")
      local workflow = section.read(one, { name = name, max_iterations = opts.max_iterations,
        params = name == submit.entry and submit.inputs or {} })
      workflow.name, workflow.spawns = name, false
      check_spawns(one, workflow, names, d.root.workflows)
      add_warnings(one, workflow)
      workflows[name], readers[name] = workflow, one
    end
  end
  return workflows, readers
end

--- All warnings, finished.
local function warnings_of(bundle, readers)
  local list = {}
  for _, name in ipairs(bundle.names) do
    local found = bundle.workflows[name].warnings
    table.move(found, 1, #found, #list + 1, list)
  end
  warn_of_grandchildren(bundle, readers, list)
  return section.finish(list, bundle.text)
end

--- Reads and checks what stands at the top level. Returns the names of the workflows, nil after an error in them.
local function read_top(d)
  section.check_keys(d, d.root, "", TOP, "unknown_bundle_top_level_keys")
  section.check_version(d, d.root, TOP.rows.version)
  return workflow_names(d)
end

--- Reads a bundle.
---@param text string YAML
---@param opts table|nil { duplicate = "last" lets the last of equal keys win, max_bytes, max_iterations,
---  only = name of the one workflow that is wanted: the others are not checked }
---@return table|nil bundle { workflows = name -> { name, graph, expose_env, tasks = rows, spawns = bool }, names = in
---  order, entry_workflow, inputs, warnings, sha256, text, place_of = fn(workflow, task, key|nil) -> line and column }
---@return string|nil message "invalid workflow bundle", string|nil code "invalid"|"too_large"
---@return table|nil errors all of them, by place: { line, column, path, code, message, hint, caret }
function M.read(text, opts)
  opts = opts or {}
  local resting <close> = section.rest_collector(text) -- luacheck: ignore
  local d, code, errors = section.open(text, "bundle", { duplicate = opts.duplicate, max_bytes = opts.max_bytes,
    what = "a bundle", hint = "start with version: 1, workflows: and submit:" })
  if not d then return nil, MESSAGE, code, errors end
  d.shared = {}
  local root = d.root
  local names = read_top(d)
  local submit = read_submit(d, names)
  if opts.only and names and root.workflows[opts.only] == nil then
    fail(d, { map = root, key = "workflows" }, "workflows", "missing_entry_workflow",
      ("no workflow is called '%s'"):format(opts.only), { got = opts.only, names = names })
  end
  local workflows, readers = read_workflows(d, names or {}, submit, opts)
  if #d.errors > 0 then return nil, MESSAGE, "invalid", section.finish(d.errors, text) end
  local bundle = { workflows = workflows, names = names, entry_workflow = submit.entry, inputs = submit.inputs,
    text = text, sha256 = crypto.sha256(text) }
  bundle.warnings = opts.only and {} or warnings_of(bundle, readers)
  function bundle.place_of(name, task, key) return section.place_of(readers[name], task, key) end
  return bundle
end

--- Whether a text is a bundle rather than a flow document.
---@param text string YAML
---@return boolean
function M.is_bundle(text)
  if not text:find("workflows", 1, true) then return false end
  local root = yaml.decode(text, { duplicate = "last" })
  return type(root) == "table" and root.workflows ~= nil and root.flow == nil
end

return M
