--- The VM: its memory limit, its coroutine functions, errors in callbacks, the cache of library modules, its end.
local host = require "host"
local task = require "host.task"
local uv = require "luv"
local tmp = os.tmpname

--- Runs code in a process of its own; returns its output (both streams) and exit code.
local function run(code, environment)
  local path = tmp()
  local file = assert(io.open(path, "w"))
  file:write(code)
  file:close()
  local pipe = assert(io.popen(("%s '%s' '%s' 2>&1"):format(environment or "", host.exe, path)))
  local text = pipe:read("a")
  local _, _, code_or_signal = pipe:close()
  os.remove(path)
  return text, code_or_signal
end

--- Runs fn as a task and returns state, a, b.
local function as_task(fn, ...) return select(2, task.start(fn, ...)) end

describe("the coroutine library", function()
  --- What it must do as the standard one does, outside of tasks and in them alike.
  local function behaviour()
    local list = {}
    local function add(...) list[#list + 1] = table.concat({ ... }, " ") end
    local co = coroutine.create(function(a, b)
      local c = coroutine.yield(a + b)
      local d, e = coroutine.yield(c * 2)
      return d + e, "end"
    end)
    add(tostring(select(2, coroutine.resume(co, 1, 2))), coroutine.status(co))
    add(tostring(select(2, coroutine.resume(co, 5))))
    add(select(2, coroutine.resume(co, 3, 4)), coroutine.status(co))
    add(tostring((coroutine.resume(co))), (select(2, coroutine.resume(co))))
    add(select("#", coroutine.resume(coroutine.create(function() end))))
    add(tostring((pcall(coroutine.resume, 5))), (select(2, pcall(coroutine.resume, 5))):match("coroutine expected"))
    local failing = coroutine.wrap(function() error("failed", 0) end)
    add(tostring((pcall(failing))), tostring((select(2, pcall(failing)))):match("cannot resume dead coroutine"))
    add((select(2, pcall(coroutine.wrap(function() error({ "object" }) end))))[1])
    local closed
    co = coroutine.create(function()
      local _ <close> = setmetatable({}, { __close = function(_, err) closed = tostring(err) end })
      coroutine.yield()
    end)
    coroutine.resume(co)
    add(tostring(coroutine.close(co)), closed, coroutine.status(co))
    add(tostring((pcall(coroutine.close, (coroutine.running())))))
    local wrapped = coroutine.wrap(function()
      local _ <close> = setmetatable({}, { __close = function(_, err) closed = err end })
      error("at close", 0)
    end)
    add((select(2, pcall(wrapped))):match("at close"), closed)
    local sum = 0
    for i in coroutine.wrap(function() for i = 1, 10 do coroutine.yield(i) end end) do sum = sum + i end
    add(sum)
    add(select("#", coroutine.wrap(function(...) return ... end)(table.unpack({}, 1, 200))))
    return list
  end

  local expected = { "3 suspended", "10", "7 dead", "false cannot resume dead coroutine", "1",
    "false coroutine expected", "false cannot resume dead coroutine", "object", "true nil dead", "false",
    "at close at close", "55", "200" }

  it("behaves as the standard one", function() assert.same(expected, behaviour()) end)

  it("does in a task too", function()
    local state, list = as_task(behaviour)
    assert.equal("ended", state)
    assert.same(expected, list)
  end)

  it("nests no deeper than C's stack bears", function()
    local function nest() return coroutine.wrap(nest)() end
    for _, ok in ipairs { (pcall(nest)), as_task(nest) ~= "failed" } do assert.is_false(ok) end
  end)
end)

describe("host.task", function()
  it("tells what it was misused for", function()
    for _, case in ipairs {
      { "bad argument #1", task.start, 5 },
      { "the task does not wait", task.answer, coroutine.create(print) },
      { "the task does not wait", task.stop, coroutine.create(print), "cancel" },
      { "invalid option 'why'", task.cut, "why" },
      { "can only wait inside a task", task.wait, print },
      { "bytes, 0 or more", task.memory_limit, -1 },
      { "function expected", task.on_output, 5 },
    } do
      local ok, message = pcall(table.unpack(case, 2))
      assert.is_false(ok)
      assert.truthy(message:find(case[1], 1, true), message)
    end
  end)

  it("runs no task inside of a task", function()
    local state, message = as_task(function() task.start(print) end)
    assert.equal("failed", state)
    assert.truthy(message:find("a task cannot run another task", 1, true))
  end)

  it("hands values through start, wait and answer", function()
    local begin = function() end
    local co, state, got = task.start(function(a, b)
      return a + b + task.wait(begin) + select(2, task.wait(begin))
    end, 1, 2)
    assert.equal("waits", state)
    assert.equal(begin, got)
    assert.same({ "waits", begin }, { task.answer(co, 10) })
    assert.same({ "ended", 113 }, { task.answer(co, 0, 100) })
  end)

  it("cuts one task by stop, not the next", function()
    local co = task.start(function() while true do pcall(task.wait, print) end end)
    local state, message = task.stop(co, "timeout")
    assert.equal("failed", state)
    assert.equal("task timed out", message)
    assert.equal("ended", (as_task(function() for _ = 1, 100 do end end)))
  end)

  it("cuts the task that runs, from a callback of its tick", function()
    assert(task.attach())
    local timer = uv.new_timer()
    timer:start(1, 0, function()
      timer:close()
      task.cut("timeout")
    end)
    local state, message = as_task(function() while true do pcall(error) end end)
    task.detach()
    assert.equal("failed", state)
    assert.equal("task timed out", message)
  end)

  it("keeps the answer of a pcall that catches a wait's error", function()
    local co = task.start(function() return pcall(task.wait, print) end)
    assert.same({ "ended", true, 5 }, { task.answer(co, 5) })
  end)

  it("uses coroutines again without anything of the task before", function()
    for _ = 1, 3 do
      local first
      as_task(function(...) first = coroutine.running() return ... end, 1, 2, 3)
      local _, same, values = as_task(function(...) return coroutine.running() == first, select("#", ...) end)
      assert.is_true(same)
      assert.equal(0, values)
      local state, message = as_task(function() return nil .. "x" end)
      assert.equal("failed", state)
      assert.truthy(message:find("attempt to concatenate a nil value", 1, true))
      assert.equal("dead", coroutine.status(first))
    end
  end)

  it("survives attach and detach in any order", function()
    task.detach()
    assert(task.attach())
    assert(task.attach())
    task.detach()
    task.detach()
  end)
end)

describe("an error in a callback of the loop", function()
  it("is told on stderr and does not end a script", function()
    local text, code = run [[
      local uv = require "luv"
      local timer = uv.new_timer()
      timer:start(0, 0, function() timer:close() error("in a callback") end)
      uv.run()
      print("goes on")]]
    assert.equal(0, code)
    assert.truthy(text:find("pyoco-host: error in a callback: ", 1, true), text)
    assert.truthy(text:find("in a callback\nstack traceback:", 1, true), text)
    assert.truthy(text:find("goes on\n", 1, true), text)
  end)
end)

describe("the end of a VM", function()
  local handles = [[
    local uv = require "luv"
    local closing, active = uv.new_timer(), uv.new_timer()
    closing:start(1000, 0, print)
    closing:close()
    active:start(0, 1, function() print "called" end)
    local pipe = uv.new_pipe()
    pipe:close()
  ]]

  it("comes with handles open or closing, and calls nobody", function()
    for _, ending in ipairs { "", "os.exit(0, true)", "os.exit(0)" } do
      local text, code = run(handles .. ending)
      assert.equal("", text)
      assert.equal(0, code)
    end
  end)

  it("comes with tasks that wait", function()
    local text, code = run [[
      local task = require "host.task"
      task.attach()
      kept = task.start(function() local _ <close> = setmetatable({}, { __close = print }) task.wait(print) end)]]
    assert.equal("", text)
    assert.equal(0, code)
  end)
end)

describe("the module cache", function()
  it("gives library modules with file and line, in place of the file search", function()
    local searcher = package.searchers[2]
    local loader, path = searcher("pyoco.nearest")
    assert.equal(host.home .. "/lua/pyoco/nearest.lua", path)
    local info = debug.getinfo(loader, "S")
    assert.equal("@" .. path, info.source)
    assert.is_nil(searcher("pyocox"))
    assert.is_nil(searcher("pyoco.no.such.module"))
    assert.is_nil(searcher("busted"))
    assert.is_nil(searcher(("pyoco.x"):rep(200)))
  end)

  it("compiles a changed file anew, and says where a broken one is broken", function()
    local dir = tmp()
    os.remove(dir)
    assert(uv.fs_mkdir(dir, 448))
    assert(uv.fs_mkdir(dir .. "/lua", 448))
    assert(uv.fs_mkdir(dir .. "/lua/pyoco", 448))
    local text = run(([[
      local dir, searcher = %q, package.searchers[2]
      local function write(text)
        local file = assert(io.open(dir .. "/lua/pyoco/probe.lua", "w"))
        file:write(text)
        file:close()
      end
      write("return 1")
      print(searcher("pyoco.probe")(), searcher("pyoco.probe")())
      write("return  2")
      print(searcher("pyoco.probe")())
      write("return (")
      print((select(2, pcall(require, "pyoco.probe"))))]]):format(dir), "PYOCO_HOME=" .. dir)
    os.execute(("rm -r '%s'"):format(dir))
    assert.truthy(text:find("^1\t1\n2\nerror loading module 'pyoco.probe' from file"), text)
    assert.truthy(text:find("probe.lua:1: unexpected symbol", 1, true), text)
  end)
end)
