--- What a run leaves behind in its slot: the next run there finds nothing of it, or a new slot.
local process = require "spec.support.process"
local support = require "spec.support.worker"
local tmp = require "spec.support.tmp"

local MB64 = tostring(64 << 20)

local TASKS = [[
local uv = require "luv"
local M = {}
--- Keeps a value until the end of the VM.
local function keep(value) rawset(_G, #_G + 1, value) return "done" end

--- What a run may see of an earlier one.
function M.look()
  local loops = 0
  while loops < 3e6 do loops = loops + 1 end -- long enough for a tick
  return { folder = uv.cwd(), evil = os.getenv("EVIL") or "none", home = os.getenv("HOME") and "home" or "none",
    spoilt = tostring(require("pyoco.nearest").spoilt or M.spoilt), globals = #_G, locale = os.setlocale(),
    memory = collectgarbage("count") < 20000 }
end

function M.spoil_process()
  uv.os_setenv("EVIL", "1")
  uv.os_unsetenv("HOME")
  uv.chdir("/")
  os.setlocale("C.UTF-8")
  for _, name in ipairs { "sigusr2", "sigterm", "sigpipe" } do uv.new_signal():start(name, print) end
  return "done"
end
function M.spoil_memory()
  require("pyoco.nearest").spoilt, M.spoilt = "spoilt", "spoilt"
  require("pyoco.engine.value").copy = nil
  require("pyoco.worker.slot").prepare = nil
  local list = {}
  for i = 1, 40 do list[i] = ("x"):rep(1000000) .. i end
  local up = function() return list end
  return keep { up, coroutine.create(up), list }
end
function M.hog_once() return #("x"):rep(1 << 31) end
function M.hog_often()
  local list = {}
  while true do list = { list, {} } end
end
function M.hog_in_gc()
  return keep(setmetatable({}, { __gc = function()
    local list = {}
    while true do list[#list + 1] = ("x"):rep(1000000) .. #list end
  end }))
end
function M.stuck_in_gc() return keep(setmetatable({}, { __gc = function() os.execute("exec sleep 60") end })) end
function M.waits_for_a_child() return keep(assert(io.popen("exec sleep 1000"))) end
function M.requests_under_way()
  for _ = 1, 200 do
    uv.fs_stat("/", function() M.called = true end)
    uv.fs_open("/dev/null", "r", 0, function() M.called = true end)
    uv.getaddrinfo("localhost", nil, nil, function() M.called = true end)
  end
  return "done"
end
function M.timer_in_gc()
  return keep(setmetatable({}, { __gc = function() uv.new_timer():start(0, 1, function() M.called = true end) end }))
end
function M.leaks_files()
  for _ = 1, 500 do uv.fs_open("/dev/null", "r", 0) end
  return "done"
end
function M.closes_handles()
  uv.walk(function(handle) if not handle:is_closing() then handle:close() end end)
  return "done"
end
function M.crowd()
  for _ = 1, 20000 do keep(coroutine.wrap(function() coroutine.yield() end)) end
  return "done"
end
function M.pattern() io.open("started", "w"):close() return ("x"):rep(300000):find((".-"):rep(5) .. "y") end
function M.deaf()
  io.open("started", "w"):close()
  xpcall(function() while true do end end, function() while true do end end)
end
return M
]]

describe("after a run that leaves a mess, the next one in that slot finds nothing of it:", function()
  local world, worker

  setup(function()
    world = support.world()
    world:write("evil.lua", TASKS)
    worker = world:worker({}, { PYOCO_RUN_MEMORY_MAX_BYTES = MB64, PYOCO_CANCEL_GRACE_PERIOD_SEC = "0.2" })
  end)
  teardown(function() world:stop() end)

  local function submit(task)
    return world:submit { workflow_yaml = support.yaml(task, { [task] = "evil:" .. task }) }
  end

  --- Runs a task, then a look around. Returns the first run.
  local function run(task, state)
    local id = submit(task)
    local first = world:wait(id, state or "COMPLETED")
    for _ = 1, 2 do
      local look = world:wait(submit("look"), "COMPLETED")
      local found = look.task_records.look.output
      assert.same({ folder = world.flows, evil = "none", home = "home", spoilt = "nil", globals = 0, locale = "C",
        memory = true }, found)
      assert.is_nil(look.crash_count)
    end
    world:wait_settled()
    return first
  end

  it("environment, folder, locale, signals", function()
    local slot = world:slots(worker)[1]
    run("spoil_process")
    assert.equal(slot, world:slots(worker)[1])
  end)

  it("modules, globals, upvalues, coroutines and their memory", function()
    local slot = world:slots(worker)[1]
    for _ = 1, 5 do run("spoil_memory") end
    assert.equal(slot, world:slots(worker)[1])
  end)

  it("memory used up, at once and little by little", function()
    for _, task in ipairs { "hog_once", "hog_often" } do
      local first = run(task, "FAILED")
      assert.truthy(first.error:find("not enough memory", 1, true) or first.error:find("too large", 1, true))
    end
  end)

  it("twenty thousand coroutines", function() run("crowd") end)

  it("a finaliser that hogs memory", function() run("hog_in_gc") end)

  it("a finaliser that does not end: a new slot takes over", function()
    local slot = world:slots(worker)[1]
    run("stuck_in_gc")
    assert.not_equal(slot, world:slots(worker)[1])
    assert.truthy(world:logs():find("does not end: this slot gives up", 1, true))
  end)

  it("a finaliser that starts something in the loop: a new slot takes over", function()
    local slot = world:slots(worker)[1]
    run("timer_in_gc")
    assert.not_equal(slot, world:slots(worker)[1])
  end)

  it("a child whose end its file waits for", function() run("waits_for_a_child") end)

  it("files and names that are being looked up", function() run("requests_under_way") end)

  it("hundreds of open files: a new slot takes over", function()
    local slot = world:slots(worker)[1]
    run("leaks_files")
    assert.not_equal(slot, world:slots(worker)[1])
  end)

  it("the loop's handles closed", function() run("closes_handles") end)

  for _, task in ipairs { "pattern", "deaf" } do
    it("what hears no cancel (" .. task .. "): killed after the grace period", function()
      local id = submit(task)
      process.wait_for(function() return tmp.read(world.flows .. "/started") end)
      os.remove(world.flows .. "/started")
      world:cancel(id)
      world:wait(id, "CANCELLED")
      world:wait_settled()
      world:wait(submit("look"), "COMPLETED")
    end)
  end
end)
