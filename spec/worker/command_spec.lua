--- Tasks that run commands, on a worker: only with its leave when they come in a document; killed with their run.
local process = require "spec.support.process"
local support = require "spec.support.worker"
local tmp = require "spec.support.tmp"
local uv = require "luv"

local REFUSED = "task 'say' runs a command; this worker takes no commands from submitted documents: "
  .. "start it with --allow-commands"

local DOCUMENT = [[
version: 1
flow:
  graph: |
    say
tasks:
  say:
    run: [sh, -c, %q]
    env: { GREETING: "$ctx.params.greeting" }
]]

describe("a command task on a worker", function()
  local world

  before_each(function() world = support.world() end)
  after_each(function() world:stop() end)

  local function submit(line) return world:submit { workflow_yaml = DOCUMENT:format(line), params = { greeting = "hi" } } end

  it("is refused from a document, before any task runs", function()
    world:worker()
    local run = world:wait(submit "touch ran", "FAILED")
    assert.equal(REFUSED, run.error)
    assert.is_nil(tmp.read(world.flows .. "/ran"))
    world:wait_settled()
  end)

  it("runs from a document when the worker takes commands, and from a Lua flow", function()
    world:write("main.lua", [[
      local pyoco = require "pyoco"
      return pyoco.flow("main", pyoco.task("say", { run = { "sh", "-c", "echo '[1, 2]'" } }))
    ]])
    world:worker { "--allow-commands" }
    local run = world:wait(submit [[echo log; echo "{\"said\": \"$GREETING $PYOCO_TASK\"}"]], "COMPLETED")
    assert.same({ said = "hi say" }, run.task_records.say.output)
    assert.truthy(run.task_records.say.log_tail:find("log", 1, true))
    assert.same({ 1, 2 }, world:wait(world:submit {}, "COMPLETED").task_records.say.output)
  end)

  it("allows a Lua flow its commands on any worker", function()
    world:write("main.lua", [[
      local pyoco = require "pyoco"
      return pyoco.flow("main", pyoco.task("say", { run = "echo 3" }))
    ]])
    world:worker()
    assert.equal(3, world:wait(world:submit {}, "COMPLETED").task_records.say.output)
  end)

  it("ends with its run, and with its slot", function()
    local worker = world:worker { "--allow-commands" }
    local function started()
      local pid
      process.wait_for(function()
        pid = tonumber((tmp.read(world.flows .. "/pid") or ""):match("(%d+)\n"))
        return pid
      end, 10000, "the command's process")
      os.remove(world.flows .. "/pid")
      return pid
    end
    local function wait_gone(pid)
      process.wait_for(function() return not uv.kill(pid, 0) end, 10000, "the command's process to be gone")
    end
    local run_id = submit "echo $$ > pid; sleep 3600"
    local pid = started()
    world:cancel(run_id)
    world:wait(run_id, "CANCELLED")
    wait_gone(pid)

    run_id = submit "setsid sleep 3600 & echo $! > pid; wait"
    pid = started()
    world:wait(run_id, function(run) return run.tasks.say == "RUNNING" end)
    for _, slot in ipairs(world:slots(worker)) do assert(uv.kill(slot, "sigkill")) end
    wait_gone(pid)
    local again = started() -- it was handed back, and runs again
    world:cancel(run_id)
    world:wait(run_id, "CANCELLED")
    wait_gone(again)
    world:wait_settled()
  end)
end)
