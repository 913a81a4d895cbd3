--- Tries out tasks and flows in a spec: `local testing = require "pyoco.testing"`.
---
---     local tasks = testing.load("flows/hello_tasks.lua")
---     local result = testing.task(tasks.meet, { params = { name = "Ada" } })
---     assert.equal("Ada", result.output)
---
--- No server is needed. The clock is virtual: sleeps, retries and timeouts take no time. ctx:http and ctx:exec are the
--- spec's own; other tasks can be, too. Run specs by `pyoco-host test.lua`.
local clock = require "host.clock"
local engine_local = require "pyoco.engine.local"
local json = require "host.json"
local uv = require "luv"
local bundles = require "pyoco.testing.bundle"
local clocks = require "pyoco.testing.clock"
local fake = require "pyoco.testing.fake"
local sandbox = require "pyoco.flow.sandbox"
local value = require "pyoco.engine.value"

local M = {}

local MAX_TIMERS <const> = 100000 -- a task that waits in a loop for what never comes

local COMMON <const> = { "params", "env", "http", "exec", "run", "scratch", "artifacts_dir", "now" }
local TASK_OPTIONS <const> = { "name", "inputs", "results", "item", "as", "index", "count", "attempt", "options",
  table.unpack(COMMON) }
local FLOW_OPTIONS <const> = { "fakes", "max_parallel", "max_iterations", "max_child_runs", "max_parallel_child_runs",
  "child_timeout_sec", table.unpack(COMMON) }

--- Raises at the spec's line for an option that there is not.
local function check_options(what, opts, known)
  if opts ~= nil and type(opts) ~= "table" then
    error(("testing.%s: options must be a table, got a %s"):format(what, type(opts)), 3)
  end
  local names = {}
  for _, name in ipairs(known) do names[name] = true end
  for name in pairs(opts or {}) do
    if not names[name] then
      error(("testing.%s: unknown option '%s'; %s"):format(what, tostring(name),
        require("pyoco.nearest").hint(name, known, "it has ")), 3)
    end
  end
  return opts or {}
end

--- A copy of a value that a spec gave.
local function copied(given, name)
  local result, message = value.copy(given, name)
  if message then error(message, 0) end
  return result
end

local temporary -- folder of artifacts, removed with the VM

--- Removes files of artifacts, and the folders that they leave empty.
local function remove(files)
  for path in pairs(files) do
    os.remove(path)
    for _ = 1, 3 do -- task, run, and all
      path = path:match("^(.*)/")
      os.remove(path)
    end
  end
end

--- The folder of artifacts when the spec names none. It is made by the first artifact.
local function artifacts_folder()
  if not temporary then
    temporary = setmetatable({ files = {}, path = ("%s/pyoco-testing-%d"):format(uv.os_tmpdir(), uv.os_getpid()) },
      { __gc = function(self) remove(self.files) end })
  end
  return temporary.path
end

--- Notes the files that a run has left in that folder.
local function note_artifacts(eng)
  for _, record in pairs(eng.records) do
    for _, artifact in pairs(record.artifacts) do
      local path = type(artifact) == "table" and artifact.path
      if temporary and type(path) == "string" and path:sub(1, #temporary.path) == temporary.path then
        temporary.files[path] = true
      end
    end
  end
end

--- Options for the engine of one run, and what that leaves to look at.
local function prepare(opts, time, start, run)
  local seen = { http = {}, exec = {}, log = {}, logs = {}, order = {}, events = {} }
  return seen, {
    env = opts.env, run = run, artifacts_dir = opts.artifacts_dir or artifacts_folder(),
    max_parallel = opts.max_parallel, max_iterations = opts.max_iterations, allow_commands = true,
    now = function() return start + time.seconds end, monotonic = function() return time.seconds end,
    after = function(seconds, fn) return time:after(seconds, fn) end, random = function() return 0.5 end,
    http = opts.http ~= true and fake.http(opts.http, seen.http) or nil,
    exec = opts.exec ~= true and fake.exec(opts.exec, seen.exec) or nil,
    on_event = function(event)
      seen.events[#seen.events + 1] = event
      if event.type == "log" then
        seen.log[#seen.log + 1] = event.text
        seen.logs[event.task] = (seen.logs[event.task] or "") .. event.text
      elseif event.type == "task" and event.state == "RUNNING" then
        seen.order[#seen.order + 1] = event.task
      end
    end,
  }
end

--- Who the run of a spec is.
local function run_of(opts, start)
  local run = { run_id = "test", tag = "test", tags = { "test" }, attempt = 1, started_at = start }
  for name, given in pairs(opts.run or {}) do run[name] = given end
  return run
end

--- Runs a flow object by the virtual clock, and the children that `family` makes for it.
local function run(flow, opts, on_start, family)
  local time <close>, start = clocks.new(), opts.now or clock.wall()
  local seen, engine_opts = prepare(opts, time, start, run_of(opts, start))
  local stuck
  engine_opts.params = opts.params
  engine_opts.beside = family and family(time, start, engine_opts)
  engine_opts.spawn = engine_opts.beside and engine_opts.beside:spawner()
  function engine_opts.on_start(eng)
    eng.scratch = opts.scratch and copied(opts.scratch, "scratch")
    if on_start then on_start(eng) end
  end
  function engine_opts.turn(eng)
    if not time:is_alone() then return uv.run("once") end
    if time.count > MAX_TIMERS then
      stuck = ("its tasks have set the clock %d times: they wait for what never comes"):format(MAX_TIMERS)
    elseif not time:skip() then
      stuck = "its tasks wait for what cannot come: no timer is set, nothing runs"
    end
    if stuck then eng:cancel() end
  end
  local eng, message = engine_local.run(flow, engine_opts)
  if not eng then error(message, 0) end
  note_artifacts(eng)
  if stuck then eng.error = "the run was ended: " .. stuck end
  return eng, seen, time.seconds
end

--- A recorded value as a spec compares it: null is nil.
local function plain(recorded)
  if recorded == json.null then return nil end
  return recorded
end

--- A node of a graph made by hand, for one task.
local function node_of(what, name, opts)
  local get = type(what) == "table" and rawget or function() end
  local meta = getmetatable(what)
  local is_task = type(meta) == "table" and meta.__name == "pyoco.task"
  if type(what) ~= "function" and not is_task then
    error(("testing.task: expected a task, its function, or a flow and the name of a task; got a %s"):format(
      type(what)), 3)
  end
  local fn = is_task and get(what, "fn") or not is_task and what or nil
  return { name = opts.name or name or is_task and what.name or "task", inputs = get(what, "inputs") or {},
    outputs = get(what, "outputs") or {}, command = get(what, "command"), options = get(what, "options") }, fn
end

--- A task of a flow, as a node that stands alone.
local function node_in(flow, name, is_alone)
  local names = {}
  for _, node in ipairs(flow.graph.nodes) do
    if node.name == name then
      if node.spawn and is_alone then
        error(("task '%s' spawns a run: try it out by testing.flow"):format(name), 3)
      end
      return { name = name, inputs = node.inputs, outputs = node.outputs, command = node.command,
        options = node.options }, flow.functions[name]
    end
    names[#names + 1] = node.name
  end
  error(("flow '%s' has no task '%s'; %s"):format(flow.name, tostring(name),
    require("pyoco.nearest").hint(name, names, "it has ")), 3)
end

local function is_flow(what) return type(what) == "table" and rawget(what, "graph") ~= nil end

--- Puts what a spec gave for a task that stands alone where the engine looks for it.
local function place(eng, node, opts)
  for name, given in pairs(opts.results or {}) do eng.results[name] = copied(given, name) end
  local inputs = node.inputs or {}
  for name, given in pairs(opts.inputs or {}) do
    inputs[#inputs + 1] = { name = name, literal = copied(given, name) }
  end
  node.inputs = inputs[1] and inputs or nil
  node.attempt = opts.attempt or node.attempt
  if opts.item == nil and opts.index == nil then return end
  node.scope = { parent = node.scope, results = {}, index = opts.index or 0, as = opts.as or "item",
    frame = { id = "each1", count = opts.count } }
  if opts.item ~= nil then node.scope.item = copied(opts.item, "item") end
end

--- Runs one task.
---@param what function|table the task, its function, or a flow (then the next argument is the name of its task)
---@param opts table? { params, results = { task = output }, inputs = { parameter = value } (instead of those that it
---  declares), item (of the loop around it; `as`, `index`, `count`), env, scratch, run = fields of ctx.run, attempt,
---  options = { retries ... } (instead of its own), name, now = unix seconds, artifacts_dir,
---  http = see testing/fake.lua, exec = see there }
---@return table result { ok, output, error, log = all that it told, record, state, clock = seconds that passed,
---  attempts, artifacts, http = requests that it made, exec = commands, params, results, scratch afterwards }
function M.task(what, opts, more)
  local name
  if is_flow(what) then name, opts = opts, more end
  opts = check_options("task", opts, TASK_OPTIONS)
  local node, fn
  if is_flow(what) then node, fn = node_in(what, name, true) else node, fn = node_of(what, name, opts) end
  if opts.options then node.options = opts.options end
  local declared = node.inputs or {}
  node.inputs = {}
  for each, source in pairs(declared) do
    if not opts.inputs or opts.inputs[each] == nil then node.inputs[each] = source end
  end
  local flow = { name = is_flow(what) and what.name or "test", graph = { version = 1, nodes = { node }, edges = {} },
    defaults = is_flow(what) and what.defaults or {}, functions = { [node.name] = fn },
    params = { [node.name] = fn and sandbox.parameters(fn) } }
  local eng, seen, seconds = run(flow, opts, function(eng) place(eng, eng.plan.by_name[node.name], opts) end)
  local record = eng.records[node.name]
  return { ok = record.state == "SUCCEEDED", output = plain(record.output), error = eng.error or record.error,
    log = table.concat(seen.log), record = record, state = record.state, clock = seconds,
    attempts = 1 + #(record.attempts or {}), artifacts = record.artifacts, http = seen.http, exec = seen.exec,
    params = eng.params, results = eng.results, scratch = eng.scratch or {} }
end

--- A flow in which some tasks are the spec's own.
local function with_fakes(flow, fakes)
  if not fakes then return flow end
  local faked, nodes = setmetatable({ functions = {}, params = {} }, { __index = flow }), {}
  for name, fn in pairs(flow.functions) do faked.functions[name], faked.params[name] = fn, flow.params[name] end
  for name, given in pairs(fakes) do
    node_in(flow, name)
    local result = given
    local fn = type(given) == "function" and given or function() return result end
    faked.functions[name], faked.params[name] = fn, sandbox.parameters(fn)
  end
  faked.graph = setmetatable({ nodes = nodes }, { __index = flow.graph })
  for i, node in ipairs(flow.graph.nodes) do
    nodes[i] = node
    if fakes[node.name] ~= nil then
      nodes[i] = {}
      for key, field in pairs(node) do nodes[i][key] = field end
      nodes[i].command, nodes[i].spawn = nil, nil
    end
  end
  return faked
end

--- What a run has left, for a spec to look at.
local function result_of(eng, seen, seconds)
  local outputs = {}
  for name, record in pairs(eng.records) do outputs[name] = plain(record.output) end
  return { ok = eng.status == "COMPLETED", status = eng.status, error = eng.error, outputs = outputs,
    tasks = eng.tasks, records = eng.records, order = seen.order, log = table.concat(seen.log), logs = seen.logs,
    clock = seconds, http = seen.http, exec = seen.exec, events = seen.events, params = eng.params,
    results = eng.results, scratch = eng.scratch or {}, frames = eng.frames, failed_tasks = eng.failed_tasks }
end

--- The same of a child run; one that never began has no engine.
local function child_result(child, time)
  local image, begun = child.image, child.begun_at
  local eng = child.eng or { status = image.status, error = plain(image.error), tasks = {}, records = {},
    params = image.params, results = {} }
  if child.eng then note_artifacts(eng) end
  local result = result_of(eng, child.seen or { order = {}, log = {}, logs = {}, http = {}, exec = {}, events = {} },
    begun and time.seconds - begun or 0)
  result.run_id, result.workflow, result.task, result.attempt = child.run_id, image.flow_name, child.task, child.attempt
  result.iteration, result.summary = child.iteration, plain(image.result_summary)
  return result
end

--- What makes the children of a run: fn for `run`, and the list that gets their results.
local function family_of(flow, opts, fakes)
  local results = {}
  return function(time, start, engine_opts)
    local children
    children = bundles.children(flow, opts.params, opts, {
      run = engine_opts.run, now = engine_opts.now, after = engine_opts.after,
      adapt = function(child, built) return with_fakes(built, fakes[child.job.flow_name]) end,
      options = function(child)
        local seen, made = prepare(opts, time, start, child.run)
        child.seen, child.begun_at = seen, time.seconds
        return made
      end,
      on_end = function(child)
        for i, each in ipairs(children.list) do -- in the order in which they were spawned
          if each == child then results[i] = child_result(child, time) end
        end
      end,
    })
    return children
  end, results
end

--- Runs one flow.
---@param what table|string a flow, or the path of its file (see M.load)
---@param opts table? { params, fakes = { task = fn or the output that it is to have; of a bundle's child runs
---  ["workflow.task"] }, env, scratch, run, http, exec, now, max_parallel, max_iterations, artifacts_dir,
---  max_child_runs, max_parallel_child_runs, child_timeout_sec }: see M.task
---@return table result { ok, status, error, outputs = { task = output }, tasks = { task = state }, records,
---  order = names in the order in which they started, log = all that was told, logs = { task = text },
---  clock = seconds that passed, http = requests, exec = commands, events, params, results, scratch, frames,
---  failed_tasks, children = the same of each child run, with run_id, workflow, task, iteration, attempt, summary }
function M.flow(what, opts)
  opts = check_options("flow", opts, FLOW_OPTIONS)
  local flow = type(what) == "string" and M.load(what) or what
  if not is_flow(flow) then
    error(("testing.flow: expected a flow, or the path of a file that returns one; got %s"):format(
      type(flow) == "table" and is_flow(rawget(flow, 1)) and "several: choose one of what testing.load returns"
        or "a " .. type(flow)), 2)
  end
  local own, by_workflow = bundles.split_fakes(opts.fakes, flow)
  local family, children = family_of(flow, opts, by_workflow)
  local result = result_of(run(with_fakes(flow, own), opts, nil, family))
  result.children = children
  return result
end

--- Raises what is wrong with a document, with its place if it has one.
local function refuse(path, message, first)
  error(first and ("%s:%d:%d: %s%s"):format(path, first.line, first.column, first.message,
    first.hint and "; " .. first.hint or "") or path .. ": " .. message, 0)
end

--- Loads a file as a worker does: with the globals of a flow file, modules beside it first.
---@param path string a Lua flow, a module of tasks, or a document (flow.yaml, bundle.yaml)
---@param roots string[]? folders of more modules
---@return table what the file returns: a flow, a list of flows or a table of functions; of a document its flow, of a
---  bundle that of its entry workflow
---@return table? flows of a bundle: name -> flow of each workflow
function M.load(path, roots)
  local text, message = sandbox.read_file(path)
  if not text then error(("testing.load: %s"):format(message), 2) end
  local folders = { path:match("^(.*)/[^/]*$") or "." }
  for _, root in ipairs(roots or {}) do folders[#folders + 1] = root end
  if not path:find("%.ya?ml$") then
    local ok, loaded = sandbox.new(folders):run(path, text)
    if not ok then error(loaded, 0) end
    for _, flow in ipairs(require("pyoco").flows_of(loaded)) do flow.folders = folders end
    return loaded
  end
  if require("pyoco.flow.bundle").is_bundle(text) then
    local entry, flows, problem = bundles.load(text, folders)
    if not entry then refuse(path, flows, problem) end
    return entry, flows
  end
  local doc, problem, _, errors = require("pyoco.flow.document").read(text)
  if not doc then refuse(path, problem, errors and errors[1]) end
  local flow
  flow, message = require("pyoco.flow.load").document(doc, folders)
  if not flow then refuse(path, message) end
  return flow
end

return M
