--- Programs that runs start on a real worker: from documents and from Lua flows, allowed or not, heard while they run,
--- and gone with their run, however that ends.
local uv = require "luv"
local support = require "spec.support.worker"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local LUA_FLOW = [[
local pyoco = require "pyoco"
local t = pyoco.task("t", function(ctx)
  return ctx:exec{ shell = "echo $$ > pid; echo started; exec sleep 1000" }
end)
local quick = pyoco.task("quick", { run = { "echo", "$ctx.params.text" } })
return { pyoco.flow("held", t), pyoco.flow("quick", quick) }
]]

describe("a command on a worker", function()
  local world

  before_each(function() world = support.world() end)
  after_each(function() world:stop() end)

  --- A document of one task with the given lines.
  local function document(lines)
    return "version: 1\nflow:\n  graph: train\ntasks:\n  train:\n    " .. table.concat(lines, "\n    ") .. "\n"
  end

  --- A pid that a program has written into the folder of flows.
  local function pid_of(name)
    return process.wait_for(function()
      return tonumber((tmp.read(world.flows .. "/" .. (name or "pid")) or ""):match("^(%d+)\n"))
    end, 10000, "a pid")
  end

  local function is_alive(pid)
    local text = tmp.read(("/proc/%d/stat"):format(pid))
    return text ~= nil and not text:find("%) [ZX] ")
  end

  local function wait_gone(pid)
    process.wait_for(function() return not is_alive(pid) end, 10000, "a process to be gone")
  end

  it("of a document runs where that is allowed: inputs by variable and stdin, output by its last line", function()
    world:worker { "--allow-commands" }
    local run_id = world:submit { params = { lr = 0.25 }, workflow_yaml = document {
      "run:",
      "  - sh",
      "  - -c",
      [[  - 'read line; echo "got $line"; echo "{\"lr\": $1, \"gpu\": \"$GPU\", \"size\": $INPUT_SIZE}"']],
      "  - sh",
      "  - $ctx.params.lr",
      "env: { GPU: 'cuda:0' }",
      "inputs: { size: 3, name: 'a b' }",
    } }
    local record = world:wait(run_id, "COMPLETED").task_records.train
    assert.same({ lr = 0.25, gpu = "cuda:0", size = 3 }, record.output)
    assert.equal('got {"name":"a b","size":3}\n{"lr": 0.25, "gpu": "cuda:0", "size": 3}\n', record.log_tail)
  end)

  it("of a document is refused elsewhere, before any task starts", function()
    world:worker()
    world:write("some_tasks.lua", "return { first = function() return 1 end }")
    local run_id = world:submit { workflow_yaml = "version: 1\nflow:\n  graph: first >> train\ntasks:\n"
      .. "  first: { callable: 'some_tasks:first' }\n  train: { run: [touch, " .. world.flows .. "/ran] }\n" }
    local run = world:wait(run_id, "FAILED")
    assert.equal("task 'train' runs a command; this worker takes no commands from submitted documents: "
      .. "start it with --allow-commands", run.error)
    assert.same({}, run.task_records)
    assert.is_nil(tmp.read(world.flows .. "/ran"))
    world:wait_settled()
  end)

  it("of a Lua flow runs always", function()
    world:write("lua_flows.lua", LUA_FLOW)
    world:worker()
    local run = world:wait(world:submit { flow_name = "quick", params = { text = "[1, 2]" } }, "COMPLETED")
    assert.same({ 1, 2 }, run.task_records.quick.output)
  end)

  it("that fails says how", function()
    world:worker { "--allow-commands" }
    local run = world:wait(world:submit { workflow_yaml = document { [[run: "echo no GPU >&2; exit 3"]] } }, "FAILED")
    assert.equal("echo no GPU >&2; exit 3: exit code 3\nno GPU", run.task_records.train.error)
  end)

  it("is heard while it runs", function()
    world:write("lua_flows.lua", LUA_FLOW)
    world:worker({}, { PYOCO_RUN_HEARTBEAT_INTERVAL_SEC = "0.1" })
    local run_id = world:submit { flow_name = "held" }
    local run = world:wait(run_id, function(run) return ((run.task_records or {}).t or {}).log_tail ~= nil end)
    assert.equal("RUNNING", run.status)
    assert.equal("started\n", run.task_records.t.log_tail)
    assert.is_true(is_alive(pid_of()))
    world:cancel(run_id)
    world:wait(run_id, "CANCELLED")
    assert.is_false(is_alive(pid_of()))
  end)

  it("has the time of its grace to end when its run is cancelled", function()
    world:worker({ "--allow-commands" }, { PYOCO_RUN_HEARTBEAT_INTERVAL_SEC = "0.1" })
    local run_id = world:submit { workflow_yaml = document {
      [[run: "trap 'echo saved; exit 0' TERM; echo ready; sleep 1000 & wait"]] } }
    world:wait(run_id, function(run) return ((run.task_records or {}).train or {}).log_tail == "ready\n" end)
    world:cancel(run_id)
    local run = world:wait(run_id, "CANCELLED")
    assert.equal("CANCELLED", run.tasks.train)
    assert.equal("ready\nsaved\n", run.task_records.train.log_tail)
  end)

  it("that ignores SIGTERM is killed when its run is cancelled", function()
    world:worker({ "--allow-commands" }, { PYOCO_COMMAND_GRACE_SEC = "0.2" })
    local run_id = world:submit { workflow_yaml = document {
      [[run: "trap '' TERM; echo $$ > pid; while :; do sleep 1000; done"]] } }
    local pid = pid_of()
    world:cancel(run_id)
    world:wait(run_id, "CANCELLED")
    assert.is_false(is_alive(pid))
  end)

  it("that writes 600 MB takes little memory of its slot", function()
    local worker = world:worker { "--allow-commands" }
    local run_id = world:submit { workflow_yaml = document {
      [[run: "yes 'a line of text' | head -c 600000000"]] } }
    local run = world:wait(run_id, "COMPLETED", 300000)
    assert.is_true(#run.task_records.train.log_tail <= 4096)
    local most = tmp.read(("/proc/%d/status"):format(world:slots(worker)[1])):match("VmHWM:%s*(%d+)")
    assert.is_true(tonumber(most) < 512 * 1024, most) -- AddressSanitizer keeps 256 MB of what was freed
  end)

  it("leaves no daemon behind when its run has ended", function()
    world:worker { "--allow-commands" }
    local run_id = world:submit { workflow_yaml = document {
      [[run: "(setsid sh -c 'trap \"\" TERM HUP; echo $$ > pid; sleep 1000' &); until [ -s pid ]; do :; done"]] } }
    world:wait(run_id, "COMPLETED")
    assert.is_false(is_alive(pid_of()))
  end)

  --- A document whose program leaves a process in its group, and a daemon; both ignore what asks them to end.
  local FAMILY = document { [[run: "trap '' TERM HUP; echo $$ > pid; sleep 1000 & echo $! > child; ]]
    .. [[(env -i setsid sh -c 'echo $$ > daemon; sleep 1000' &); wait"]] }

  it("is gone when its slot is killed, with all that it has started", function()
    local worker = world:worker { "--allow-commands" }
    local run_id = world:submit { workflow_yaml = FAMILY }
    local pids = { pid_of "pid", pid_of "child", pid_of "daemon" }
    world:wait(run_id, "RUNNING")
    for _, name in ipairs { "pid", "child", "daemon" } do tmp.remove(world.flows .. "/" .. name) end
    assert(uv.kill(world:slots(worker)[1], "sigkill"))
    for _, pid in ipairs(pids) do wait_gone(pid) end
    pid_of "daemon" -- it runs again
    world:cancel(run_id)
    world:wait(run_id, "CANCELLED")
  end)

  it("is gone when its worker is killed, with all that it has started", function()
    local worker = world:worker { "--allow-commands" }
    world:submit { workflow_yaml = FAMILY }
    local pids = { pid_of "pid", pid_of "child", pid_of "daemon" }
    worker:kill "sigkill"
    worker:wait()
    for _, pid in ipairs(pids) do wait_gone(pid) end
  end)
end)
