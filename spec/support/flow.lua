--- Small flow objects for specs of the engine, made by hand: `flow.of { { "a", fn }, { "b", fn, needs = "a" } }`.
local compile = require "pyoco.flow.compile"
local engine = require "pyoco.engine"
local engine_local = require "pyoco.engine.local"
local task = require "host.task"
local text = require "pyoco.flow.text"

local M = {}

--- Parameter names of a function.
local function parameters(fn)
  local names = {}
  for i = 1, debug.getinfo(fn, "u").nparams do names[i] = debug.getlocal(fn, i) end
  return names
end

--- Makes a flow object of a graph text and rows { name, fn, inputs = {}, options = {} }, as the compiler does.
function M.compiled(graph_text, rows, options)
  local ast, errors = text.parse(graph_text)
  assert(ast, errors and errors[1] and errors[1].message)
  local declared, flow = {}, { name = "spec", functions = {}, params = {}, defaults = options and options.defaults }
  for i, row in ipairs(rows) do
    local name = row[1]
    declared[i] = { name = name, inputs = row.inputs, outputs = row.outputs, options = row.options }
    flow.functions[name], flow.params[name] = row[2], parameters(row[2])
  end
  local graph, problems = compile.graph(ast, declared, { name = "spec", place = function(at) return 1, at end })
  assert(graph, problems[1] and problems[1].message)
  flow.graph = graph
  return flow
end

--- Makes a flow object of rows { name, fn, needs = COND, inputs = {}, options = {}, frame = id }; options.any_of and
--- options.frames go into the graph.
function M.of(rows, options)
  local flow = { name = "spec", functions = {}, params = {}, defaults = options and options.defaults,
    graph = { version = 1, name = "spec", nodes = {}, edges = {}, any_of = options and options.any_of,
      frames = options and options.frames } }
  for i, row in ipairs(rows) do
    local name, fn = row[1], row[2]
    flow.graph.nodes[i] = { name = name, needs = row.needs, inputs = row.inputs or {}, outputs = row.outputs or {},
      options = row.options, frame = row.frame }
    flow.functions[name], flow.params[name] = fn, parameters(fn)
  end
  return flow
end

--- Runs rows to their end; returns the engine.
function M.run(rows, options) return assert(engine_local.run(M.of(rows, options), options)) end

--- Runs rows on a virtual clock, which goes on only when nothing else can: waits take no time.
---@param rows table
---@param options table? options of the engine; graph = text, to be compiled; on_start = fn(engine)
---@return table engine
---@return table clock { now = seconds passed, waits = { seconds of every timer in the order they were set } }
function M.virtual(rows, options)
  options = options or {}
  local clock, timers = { now = 0, waits = {} }, {}
  local function after(seconds, fn)
    local timer = { at = clock.now + seconds, fn = fn, number = #clock.waits + 1 }
    clock.waits[timer.number], timers[timer] = seconds, true
    return function() timers[timer] = nil end
  end
  local function now() return clock.now end
  local opts = { now = now, monotonic = now, after = after }
  for key, value in pairs(options) do opts[key] = value end
  assert(task.attach())
  local _ <close> = setmetatable({}, { __close = function() task.detach() end })
  local eng = engine.new(options.graph and M.compiled(options.graph, rows, options) or M.of(rows, options), opts)
  eng.clock = clock
  if options.on_start then options.on_start(eng) end
  while not eng:pump() do
    local first
    for timer in pairs(timers) do
      if not first or timer.at < first.at or (timer.at == first.at and timer.number < first.number) then
        first = timer
      end
    end
    assert(first, "the run waits for nothing")
    timers[first] = nil
    clock.now = first.at
    first.fn()
  end
  assert(next(timers) == nil, "a timer was left behind")
  return eng, clock
end

--- Runs one task and returns its record and the engine.
function M.task(fn, options)
  local eng = M.run({ { "t", fn } }, options)
  return eng.records.t, eng
end

return M
