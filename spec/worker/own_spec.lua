--- pyoco.worker's connect, run_once and close: scripts with a loop of their own, on a real NATS.
local crypto = require "host.crypto"
local json = require "host.json"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local wheels = require "spec.support.wheel"
local workers = require "spec.support.worker"

--- The head of every script here: a worker whose resolver knows `double`, and which flows it was asked for.
local HEAD = [[
local worker = require "pyoco.worker"
local pyoco = require "pyoco"
local double = pyoco.flow("double", pyoco.task("double", function(ctx, x) return 2 * x + (extra or 0) end))
local slow = pyoco.flow("slow", pyoco.task("slow", function(ctx) ctx:sleep(60) end))
local crash = pyoco.flow("crash", pyoco.task("crash", function(ctx) os.execute("kill -9 $PPID") end))
local broken = "no flow"
local flows = { double = double, slow = slow, crash = crash, broken = broken }
local function resolver(name)
  if name == "raises" then error("resolver says no") end
  return flows[name]
end
local w, message, code = worker.connect { tags = { "a", "b" }, worker_id = "own", flow_resolver = resolver,
  globals = { extra = 0 }, config = { worker_max_crashes = 1, worker_heartbeat_interval_sec = 0.2 } }
if not w then print(message, code) os.exit(1) end
local function say(...) print(...) io.stdout:flush() end
]]

describe("worker.connect", function()
  local world, script

  before_each(function()
    world = workers.world()
    script = nil
  end)
  after_each(function()
    if script then script:stop() end
    world:stop()
  end)

  local function ended(run_id)
    return world:wait(run_id, function(one) return one.status == "COMPLETED" or one.status == "FAILED" end)
  end

  local function run(body, env)
    world:write("my.lua", HEAD .. body)
    local all = { PYOCO_NATS_URL = world.server.url, PYOCO_LOAD_DOTENV = "0" }
    for name, value in pairs(env or {}) do all[name] = value end
    script = process.host({ world.flows .. "/my.lua" }, { cwd = world.flows, env = all })
    return script
  end

  local function to_end(body)
    local one = run(body)
    one:wait(20000)
    assert.same({ 0, "" }, { one.code, one.stderr }, one.stdout)
    return one.stdout
  end

  it("runs one job at a time, of any of its tags, and says which and how it ended", function()
    local ids = { world:submit { flow_name = "double", tag = "a", params = { x = 4 } },
      world:submit { flow_name = "double", tag = "b", params = { x = 5 } } }
    local out = to_end [[
      for _ = 1, 2 do say(w:run_once(10)) end
      say(w:run_once(0))
      say(select("#", w:close()))
    ]]
    local seen = {}
    for id, outcome in out:gmatch("(%S+)\t(completed)\n") do seen[id] = outcome end
    assert.same({ [ids[1]] = "completed", [ids[2]] = "completed" }, seen, out)
    assert.truthy(out:find("nil\tno job came in time\ttimeout\n0\n", 1, true), out)
    local last = world:run(ids[2])
    assert.same({ "COMPLETED", 10, "own" }, { last.status, last.task_records.double.output, last.worker_id })
    assert.equal(0, world:queued())
    local record = assert(world.store.workers:get "own")
    assert.same({ "STOPPED_GRACEFUL", { "a", "b" } }, { record.state, record.tags })
  end)

  it("leaves what it was not asked for to others", function()
    for _ = 1, 3 do
      world:submit { flow_name = "double", tag = "a", params = { x = 1 } }
      world:submit { flow_name = "double", tag = "b", params = { x = 1 } }
    end
    to_end [[
      assert(w:run_once(10))
      w:close()
    ]]
    assert.equal(5, world:queued())
    world:write("double.lua", [[
      local pyoco = require "pyoco"
      return pyoco.flow("double", pyoco.task("double", function(x) return x end))
    ]])
    world:worker { "--tags", "a,b" } -- at once: nothing lies with a worker that is gone
    world:wait_settled(10000)
  end)

  it("asks for nothing between two calls", function()
    run [[
      say(w:run_once(0.05))
      say("idle")
      io.read("l")
    ]]
    process.wait_for(function() return script.stdout:find("idle", 1, true) end)
    local id = world:submit { flow_name = "double", tag = "a", params = { x = 1 } }
    world:write("double.lua", [[
      local pyoco = require "pyoco"
      return pyoco.flow("double", pyoco.task("double", function(x) return "other" end))
    ]])
    world:worker { "--tags", "a" }
    assert.equal("w1", world:wait(id, "COMPLETED").worker_id)
  end)

  it("ends what cannot run as every worker does", function()
    local missing = world:submit { flow_name = "nosuch", tag = "a" }
    run [[
      say(w:run_once(10))
      say("next")
      w:close()
    ]]
    script:wait(20000)
    assert.equal(missing .. "\tflow_not_found\nnext\n", script.stdout)
    assert.truthy(script.stderr:find('"err_id":"ERR-PYOCO-0006"', 1, true)) -- logged, off standard output
    local last = world:run(missing)
    assert.equal("FAILED", last.status)
    assert.equal("flow_not_found: 'nosuch' (the resolver does not know it)", last.error)
    assert.equal("flow_not_found", world:letters()[1].body.reason)
  end)

  it("ends the run of a resolver that raises or gives no flow, and of a slot that dies", function()
    local ids = { world:submit { flow_name = "raises", tag = "a" }, world:submit { flow_name = "broken", tag = "a" },
      world:submit { flow_name = "crash", tag = "a" },
      world:submit { flow_name = "double", tag = "a", params = { x = 1 } } }
    local one = run [[
      for _ = 1, 4 do say(w:run_once(10)) end
      w:close()
    ]]
    one:wait(20000)
    local errors = {}
    for i, id in ipairs(ids) do errors[i] = world:run(id).error end
    assert.truthy(errors[1]:find("resolver says no", 1, true), errors[1])
    assert.truthy(errors[2]:find("for 'broken' it gave a string, not a flow", 1, true), errors[2])
    assert.truthy(errors[3]:find("worker_crashed: ", 1, true), errors[3])
    assert.equal(json.null, errors[4])
    assert.truthy(one.stdout:find(ids[3] .. "\tworker_crashed", 1, true), one.stdout)
    assert.truthy(one.stderr:find("resolver says no", 1, true))
  end)

  it("is cancelled like any run", function()
    local id = world:submit { flow_name = "slow", tag = "b" }
    run [[
      say(w:run_once(10))
      w:close()
    ]]
    world:wait(id, "RUNNING")
    world:cancel(id)
    script:wait()
    assert.equal(id .. "\tcancelled\n", script.stdout)
    assert.equal("CANCELLED", world:run(id).status)
  end)

  it("takes a redelivered job over, and acks a run that has ended unrun", function()
    local id = world:submit { flow_name = "double", tag = "a", params = { x = 1 } }
    local stored, revision = assert(world.store.runs:get(id))
    stored.status = "COMPLETED"
    assert(world.store.runs:update(stored, revision))
    assert.equal(id .. "\tskipped\n", to_end [[
      say(w:run_once(10))
      w:close()
    ]])
    assert.equal(0, world:queued())
  end)

  it("finds flows in the task path too, without loading the script in the slot", function()
    world:write("triple.lua", [[
      local pyoco = require "pyoco"
      return pyoco.flow("triple", pyoco.task("triple", function(x) return 3 * x end))
    ]])
    local id = world:submit { flow_name = "triple", params = { x = 2 } }
    local dir = tmp.dir()
    finally(function() tmp.remove(dir) end)
    tmp.write(dir .. "/my.lua", ([[
      print "loaded"
      local w <close> = assert(require("pyoco.worker").connect { task_path = { %q }, config = { nats_url = %q } })
      print(w:run_once(10))
    ]]):format(world.flows, world.server.url))
    script = process.host({ dir .. "/my.lua" }, { cwd = dir })
    script:wait(20000)
    assert.equal(("loaded\n%s\tcompleted\n"):format(id), script.stdout)
    assert.equal(6, world:run(id).task_records.triple.output)
  end)

  it("looks for wheels before each job", function()
    local dir = tmp.dir()
    finally(function() tmp.remove(dir) end)
    local function put(version)
      local path, name = wheels.write(dir, { name = "hello", version = version,
        files = { ["hello.lua"] = wheels.flow("hello", version) } })
      local bytes = tmp.read(path)
      assert(world.store.wheels:create(name, bytes, { tags = {}, sha256 = crypto.sha256(bytes) }))
    end
    put "1.0"
    tmp.write(dir .. "/my.lua", ([[
      local clock = require "host.clock"
      local w <close> = assert(require("pyoco.worker").connect { task_path = { %q }, config = { nats_url = %q,
        wheel_sync_enabled = true, wheel_sync_dir = %q, wheel_sync_interval_sec = 0.1 } })
      for _ = 1, 2 do
        print(w:run_once(10))
        io.stdout:flush()
        local before = clock.monotonic() -- between two jobs the script does as it likes, and the interval passes
        while not io.open(%q) or clock.monotonic() - before < 0.1 do end
      end
    ]]):format(dir .. "/none", world.server.url, dir .. "/wheels", dir .. "/go"))
    local first = world:submit { flow_name = "hello" }
    script = process.host({ dir .. "/my.lua" }, { cwd = dir })
    assert.equal("1.0", ended(first).task_records.say.output)
    process.wait_for(function() return script.stdout:find("completed", 1, true) end)
    put "2.0"
    local second = world:submit { flow_name = "hello" }
    tmp.write(dir .. "/go", "")
    assert.equal("2.0", ended(second).task_records.say.output)
    script:wait(20000)
  end)

  it("says what is wrong with options, and when NATS is not there", function()
    local one = run("", { PYOCO_NATS_URL = "nats://127.0.0.1:1" })
    one:kill "sigkill"
    world:write("my.lua", [[
      local worker = require "pyoco.worker"
      print(worker.connect { config = { nats_ulr = "x" } })
      print(worker.connect { tagz = { "a" } })
      print(worker.connect { nats_url = "x" })
      print(worker.connect { config = { nats_url = "nats://127.0.0.1:1" }, connect_timeout_sec = 0.2 })
    ]])
    local got = process.run({ world.flows .. "/my.lua" }, { cwd = world.flows })
    assert.equal(0, got.code, got.stderr)
    assert.truthy(got.stdout:find("nats_ulr is not an option; did you mean nats_url?\tinvalid", 1, true), got.stdout)
    assert.truthy(got.stdout:find("tagz is not an option; did you mean tags?\tinvalid", 1, true), got.stdout)
    assert.truthy(got.stdout:find("nats_url is not an option; write config = { nats_url = ... }\tinvalid", 1, true))
    assert.truthy(got.stdout:find("NATS cannot be reached at nats://127.0.0.1:1\tunavailable", 1, true), got.stdout)
  end)
end)
