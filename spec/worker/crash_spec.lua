--- Slots die: by a C module, by hand, by the kernel. The worker notices at once, and the run comes to an end.
local json = require "host.json"
local support = require "spec.support.worker"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local CRASHER = [[
#include <lua.h>
#include <stddef.h>
int luaopen_crasher(lua_State *L);
static int crash(lua_State *L) { (void)L; *(volatile int *)NULL = 1; return 0; }
int luaopen_crasher(lua_State *L) { lua_pushcfunction(L, crash); return 1; }
]]

local TASKS = [[
local M = {}
function M.segfault() require("crasher")() end
function M.sleeper(ctx) ctx:sleep(60) end
function M.orphan(ctx) os.execute("sleep 61.25 &") ctx:sleep(60) end
function M.quick() return 1 end
return M
]]

describe("a worker whose slot dies", function()
  local world

  before_each(function()
    world = support.world()
    world:write("crash_tasks.lua", TASKS)
  end)

  after_each(function() world:stop() end)

  local function flow(task) return support.yaml(task, { [task] = "crash_tasks:" .. task }) end

  --- Kills the slots of a worker as the kernel would.
  local function kill_slots(worker)
    for _, pid in ipairs(world:slots(worker)) do assert(require("luv").kill(pid, "sigkill")) end
  end

  it("of a segmentation fault counts, tries again, then fails the run", function()
    world:write("crasher.c", CRASHER)
    process.spawn("cc", { "-shared", "-fPIC", "-I/usr/include/lua5.4", "-o", world.flows .. "/crasher.so",
      world.flows .. "/crasher.c" }):wait(30000)
    world:worker({}, { LUA_CPATH_5_4 = world.flows .. "/?.so;;" })
    local run_id = world:submit { workflow_yaml = flow "segfault" }
    local run = world:wait(run_id, "FAILED")
    assert.equal(3, run.crash_count)
    -- AddressSanitizer makes an exit code of it
    assert.truthy(run.error:find("^worker_crashed: its process [%w ]+ signal 11 %(SIGSEGV%), 3 times$")
      or run.error:find("^worker_crashed: its process exited with code 1, 3 times$"), run.error)
    assert.equal("FAILED", run.tasks.segfault)
    local letter = world:wait_letter(1)
    assert.equal("worker_crashed", letter.body.reason)
    assert.equal(run_id, letter.body.run_id)
    assert.equal("pyoco.dlq.default", letter.subject)
    world:wait_settled()
    assert.equal(1, #world:letters())
  end)

  it("hands the run back, and it runs again", function()
    local worker = world:worker()
    local run_id = world:submit { workflow_yaml = flow "sleeper" }
    local first = world:wait(run_id, "RUNNING")
    kill_slots(worker)
    local again = world:wait(run_id, function(run)
      return run.status == "RUNNING" and run.attempt.delivery > first.attempt.delivery
    end)
    assert.equal(1, again.crash_count)
    assert.equal(first.attempt.seq, again.attempt.seq)
    world:cancel(run_id)
    world:wait(run_id, "CANCELLED")
    world:wait_settled()
  end)

  it("while its run is being cancelled: the run is CANCELLED", function()
    local worker = world:worker({}, { PYOCO_RUN_HEARTBEAT_INTERVAL_SEC = "60" })
    local run_id = world:submit { workflow_yaml = flow "sleeper" }
    world:wait(run_id, "RUNNING")
    world:cancel(run_id, { without_hint = true })
    kill_slots(worker)
    local run = world:wait(run_id, "CANCELLED")
    assert.is_nil(run.crash_count)
    world:wait_settled()
  end)

  it("leaves no process of the run behind", function()
    local worker = world:worker()
    local run_id = world:submit { workflow_yaml = flow "orphan" }
    world:wait(run_id, "RUNNING")
    local function orphans()
      local pipe <close> = assert(io.popen("pgrep -f '^sleep 61.25$'"))
      return pipe:read("a")
    end
    process.wait_for(function() return orphans() ~= "" end)
    world:cancel(run_id) -- no second attempt
    kill_slots(worker)
    process.wait_for(function() return orphans() == "" end)
    world:wait(run_id, "CANCELLED")
  end)

  it("does not lose the runs of its other slots", function()
    local worker = world:worker { "--slots", "2" }
    local first = world:submit { workflow_yaml = flow "sleeper" }
    world:wait(first, "RUNNING")
    local second = world:submit { workflow_yaml = flow "sleeper" }
    world:wait(second, "RUNNING")
    assert(require("luv").kill(world:slots(worker)[1], "sigkill"))
    local ids = { first, second }
    process.wait_for(function()
      for _, id in ipairs(ids) do
        if (world:run(id).attempt or {}).delivery == 2 then return true end
      end
    end)
    local deliveries = world:run(first).attempt.delivery + world:run(second).attempt.delivery
    assert.equal(3, deliveries)
    for _, id in ipairs(ids) do world:cancel(id) end
    for _, id in ipairs(ids) do world:wait(id, "CANCELLED") end
  end)

  it("as soon as its script is broken says so, and comes back when it is mended", function()
    local script = world.flows .. "/my_worker.lua"
    local good = 'return require("pyoco.worker").main({}, ...)'
    tmp.write(script, good)
    local worker = process.host({ script, "--nats-url", world.server.url, "--task-path", world.flows, "--worker-id",
      "w1" }, { cwd = world.flows })
    world.workers[#world.workers + 1] = worker
    world:wait(world:submit { workflow_yaml = flow "quick" }, "COMPLETED")
    tmp.write(script, "local x =")
    kill_slots(worker)
    process.wait_for(function() return worker.stdout:find("slot cannot work", 1, true) end)
    assert.truthy(worker.stdout:find("my_worker.lua:1:", 1, true), worker.stdout)
    tmp.write(script, good)
    world:wait(world:submit { workflow_yaml = flow "quick" }, "COMPLETED", 15000)
  end)

  it("on the last delivery fails the run, which is not run again", function()
    assert(world.store.js:consumer_create("PYOCO_WORK", { durable_name = "pyoco_workers_default",
      filter_subject = "pyoco.work.default", ack_policy = "explicit", ack_wait = 2000000000, max_deliver = 2 }))
    local worker = world:worker()
    local run_id = world:submit { workflow_yaml = flow "sleeper" }
    world:wait(run_id, "RUNNING")
    kill_slots(worker)
    local run = world:wait(run_id, "FAILED")
    assert.equal("max_attempts_exceeded: delivery 2 of 2", run.error)
    assert.equal("max_attempts", world:wait_letter(1).body.reason)
    world:wait_settled()
  end)

  it("(a job whose deliveries are used up though nobody tried it) is published again and runs", function()
    assert(world.store.js:consumer_create("PYOCO_WORK", { durable_name = "pyoco_workers_default",
      filter_subject = "pyoco.work.default", ack_policy = "explicit", ack_wait = 30000000000, max_deliver = 2 }))
    local run_id = world:submit { workflow_yaml = flow "quick" }
    local inbox = "_INBOX.spec"
    local sub = world.store.conn:subscribe(inbox)
    world.store.conn:publish("$JS.API.CONSUMER.MSG.NEXT.PYOCO_WORK.pyoco_workers_default", json.encode { batch = 1 },
      inbox)
    local message = assert(sub:next(2000))
    world.store.conn:publish(message.reply, "-NAK")
    sub:close()
    world:worker()
    local run = world:wait(run_id, "COMPLETED")
    assert.equal(2, run.attempt.seq)
    world:wait_settled()
  end)
end)
