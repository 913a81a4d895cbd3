--- Small flow objects for specs of the engine, made by hand: `flow.of { { "a", fn }, { "b", fn, needs = "a" } }`.
local engine_local = require "pyoco.engine.local"

local M = {}

--- Parameter names of a function.
local function parameters(fn)
  local names = {}
  for i = 1, debug.getinfo(fn, "u").nparams do names[i] = debug.getlocal(fn, i) end
  return names
end

--- Makes a flow object of rows { name, fn, needs = COND, inputs = {} }.
function M.of(rows, options)
  local flow = { name = "spec", functions = {}, params = {}, defaults = options and options.defaults,
    graph = { version = 1, name = "spec", nodes = {}, edges = {}, any_of = options and options.any_of } }
  for i, row in ipairs(rows) do
    local name, fn = row[1], row[2]
    flow.graph.nodes[i] = { name = name, needs = row.needs, inputs = row.inputs or {}, outputs = {} }
    flow.functions[name], flow.params[name] = fn, parameters(fn)
  end
  return flow
end

--- Runs rows to their end; returns the engine.
function M.run(rows, options) return assert(engine_local.run(M.of(rows, options), options)) end

--- Runs one task and returns its record and the engine.
function M.task(fn, options)
  local eng = M.run({ { "t", fn } }, options)
  return eng.records.t, eng
end

return M
