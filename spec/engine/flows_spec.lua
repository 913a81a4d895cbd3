--- Whole flows from both front ends, loaded as a worker does, run by the engine.
local document = require "pyoco.flow.document"
local engine = require "pyoco.engine"
local engine_local = require "pyoco.engine.local"
local host = require "host"
local load = require "pyoco.flow.load"
local uv = require "luv"

--- Runs a text graph over tasks that are Lua functions, all in a task module of their own folder.
local function run_yaml(graph, source, options)
  local dir = assert(uv.fs_mkdtemp("/tmp/pyoco-spec-XXXXXX"))
  local _ <close> = setmetatable({}, { __close = function()
    os.remove(dir .. "/spec_tasks.lua")
    os.remove(dir)
  end })
  local file = assert(io.open(dir .. "/spec_tasks.lua", "w"))
  file:write(source)
  file:close()
  local names = {}
  for name in source:gmatch("function M%.([%w_]+)") do
    names[#names + 1] = ("  %s: { callable: spec_tasks:%s }"):format(name, name)
  end
  local doc, message, _, errors = document.read(("version: 1\nflow:\n  graph: |\n    %s\ntasks:\n%s\n"):format(
    graph, table.concat(names, "\n")))
  assert(doc, message, errors)
  local flow = assert(load.document(doc, { dir }))
  return assert(engine_local.run(flow, options))
end

describe("the examples in flows/", function()
  it("hello.yaml runs", function()
    local file = assert(io.open(host.home .. "/flows/hello.yaml"))
    local doc = assert(document.read(file:read("a")))
    file:close()
    local flow = assert(load.document(doc, { host.home .. "/flows" }))
    local eng = engine_local.run(flow, { params = { name = "Ada" }, after = function(_, fn)
      return require("pyoco.engine.timer").after(0, fn)
    end })
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.equal("Hello, Ada! Your name has 3 letters. Everything works.", eng.records.celebrate.output)
    assert.equal("looking for Ada ...\nthere you are!\n", eng.records.meet.log_tail)
  end)

  it("the Lua flows run offline, under the guard that a worker loads them in", function()
    local roots = { host.home .. "/flows" }
    local ok, list = engine.guard(load.list, roots)
    assert.is_true(ok, list)
    assert.is_true(#list.flows > 0)
    for _, row in ipairs(list.flows) do
      local _, flow = engine.guard(load.flow, row.name, roots)
      assert.equal("COMPLETED", assert(engine_local.run(flow)).status, row.name)
    end
  end)
end)

describe("a text graph", function()
  it("with an any-of: the first branch wins, a failed one does not count", function()
    local eng = run_yaml("start >> (bad | good) >> last", [[
      local M = {}
      function M.start() return 1 end
      function M.bad() error("broken") end
      function M.good(start) return start + 1 end
      function M.last(bad, good) return { bad == nil, good } end
      return M]])
    assert.equal("COMPLETED", eng.status, eng.error)
    assert.same({ true, 2 }, eng.records.last.output)
    assert.equal("FAILED", eng.tasks.bad)
  end)

  it("that ends in an any-of fails only when all of it has", function()
    local source = [[
      local M = {}
      function M.a() error("first", 0) end
      function M.b() error("second", 0) end
      function M.c() return true end
      return M]]
    assert.equal("COMPLETED", run_yaml("a | c", (source:gsub("function M.b.-end\n", ""))).status)
    local eng = run_yaml("(a | b) & c", source)
    assert.equal("FAILED", eng.status)
    assert.equal("second", eng.error)
  end)

  it("shows file:line of the task's file in errors and tracebacks", function()
    local eng = run_yaml("a", [[
      local M = {}
      local function inner() error("broken") end
      function M.a() inner() end
      return M]])
    assert.truthy(eng.error:find("/spec_tasks.lua:2: broken$"), eng.error)
    assert.truthy(eng.records.a.traceback:find("/spec_tasks.lua:3: in ", 1, true), eng.records.a.traceback)
    assert.is_nil(eng.records.a.traceback:find("/lua/pyoco/", 1, true))
  end)
end)

describe("a flow file that does not end", function()
  it("is cancelled while it is loaded", function()
    local task = require "host.task"
    assert(task.attach())
    local timer = uv.new_timer()
    timer:start(5, 0, function()
      timer:close()
      task.cancel()
    end)
    local ok, message = engine.guard(assert(_G.load("while true do pcall(error) end")))
    task.reset()
    task.detach()
    assert.is_false(ok)
    assert.equal("run cancelled", message)
  end)
end)
