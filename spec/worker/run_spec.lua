--- A worker runs jobs end to end: what is stored, what is settled, what becomes a dead letter.
local json = require "host.json"
local crypto = require "host.crypto"
local support = require "spec.support.worker"
local process = require "spec.support.process"

local MATH = [[
local M = {}
function M.add_one(x) return x + 1 end
function M.to_text(add_one) return "v=" .. add_one end
function M.fail(ctx) error(ctx.params.how or "on purpose") end
function M.fail_table() error({ code = 7 }) end
function M.fail_nil() error(nil) end
function M.exit() os.exit(3) end
function M.leak() leaked = 1 end
function M.spoil()
  local seen = string.spoiled
  string.spoiled, table.insert = true, nil
  local keep = io.open("/proc/self/status") -- left open, like a timer and a coroutine
  require("luv").new_timer():start(60000, 0, function() end)
  coroutine.wrap(function() coroutine.yield(keep) end)()
  return { seen = seen or "clean" }
end
function M.nap(ctx) ctx:sleep(0.012) return "rested" end
function M.slow(ctx) ctx:sleep(0.3) return "slept" end
return M
]]

describe("a worker", function()
  local world

  before_each(function()
    world = support.world()
    world:write("math_tasks.lua", MATH)
  end)

  after_each(function() world:stop() end)

  local ADD = support.yaml("add_one >> to_text", { add_one = "math_tasks:add_one", to_text = "math_tasks:to_text" })

  it("runs a YAML flow and settles its job", function()
    world:worker()
    local run_id = world:submit { flow_name = "train", params = { x = 1 }, workflow_yaml = ADD }
    local run = world:wait(run_id, "COMPLETED")
    assert.same({ add_one = "SUCCEEDED", to_text = "SUCCEEDED" }, run.tasks)
    assert.equal("v=2", run.task_records.to_text.output)
    assert.same({ x = 1 }, run.task_records.add_one.inputs)
    assert.equal("w1", run.worker_id)
    assert.equal(1, run.attempt.delivery)
    assert.is_true(run.end_time >= run.start_time)
    assert.equal(run.heartbeat_at, run.updated_at)
    world:wait_settled()
    assert.same({}, world:letters())
  end)

  it("runs a Lua flow by its declared name, and stores its graph and source", function()
    world:write("etl.lua", [[
      local pyoco = require "pyoco"
      local get = pyoco.task("get", function(n) return n * 2 end)
      local put = pyoco.task("put", function(get) return { got = get } end)
      return pyoco.flow("etl", get >> put, { defaults = { n = 21 } })
    ]])
    world:worker()
    local run = world:wait(world:submit { flow_name = "etl" }, "COMPLETED")
    assert.same({ got = 42 }, run.task_records.put.output)
    local graph = assert(world.store.documents:get(run.graph_sha256))
    assert.equal("etl", json.decode(graph).name)
    assert.truthy(world.store.documents:get(run.source_sha256):find("n * 2", 1, true))
  end)

  it("creates the snapshot of a job that has none", function()
    world:worker()
    local run_id = world:submit({ params = { x = 1 }, workflow_yaml = ADD }, { without_snapshot = true })
    assert.equal("COMPLETED", world:wait(run_id, "COMPLETED").status)
  end)

  it("uses an edited task at the next run, and tells of a broken one with file and line", function()
    world:worker()
    local job = { params = { x = 1 }, workflow_yaml = ADD }
    world:wait(world:submit(job), "COMPLETED")
    world:write("math_tasks.lua", (MATH:gsub("x %+ 1", "x + 100")))
    assert.equal(101, world:wait(world:submit(job), "COMPLETED").task_records.add_one.output)
    world:write("math_tasks.lua", "local x =")
    local run = world:wait(world:submit(job), "FAILED")
    assert.truthy(run.error:find("math_tasks.lua:1:", 1, true), run.error)
  end)

  it("starts a job of any of its tags at once, with several slots", function()
    world:worker { "--tags", "a,b,c", "--slots", "2" }
    local slow = support.yaml("slow", { slow = "math_tasks:slow" })
    local ids = {}
    for _, tag in ipairs { "a", "b", "c", "a", "b" } do
      ids[#ids + 1] = world:submit { tag = tag, workflow_yaml = slow }
    end
    for _, id in ipairs(ids) do world:wait(id, "COMPLETED") end
    world:wait_settled()
  end)

  it("has a limit for each tag when told so", function()
    world:worker { "--tags", "one,many", "--slots", "one=1,many=2" }
    local slow = support.yaml("slow", { slow = "math_tasks:slow" })
    local ids = {}
    for _ = 1, 3 do ids[#ids + 1] = world:submit { tag = "one", workflow_yaml = slow } end
    local runs = {}
    for i, id in ipairs(ids) do runs[i] = world:wait(id, "COMPLETED") end
    table.sort(runs, function(a, b) return a.start_time < b.start_time end)
    assert.is_true(runs[1].end_time <= runs[2].start_time)
    assert.is_true(runs[2].end_time <= runs[3].start_time)
  end)

  it("writes RUNNING for a run that lasts", function()
    world:worker()
    local run_id = world:submit { workflow_yaml = support.yaml("slow", { slow = "math_tasks:slow" }) }
    local run = world:wait(run_id, function(run) return run.tasks.slow == "RUNNING" end) -- its flow is built first
    assert.equal("RUNNING", run.status)
    assert.equal("w1", run.worker_id)
    world:wait(run_id, "COMPLETED")
  end)

  it("keeps no global of one run for the next", function()
    world:worker()
    local leak = support.yaml("leak", { leak = "math_tasks:leak" })
    for _ = 1, 2 do
      local run = world:wait(world:submit { workflow_yaml = leak }, "FAILED")
      assert.truthy(run.error:find("undeclared global 'leaked'", 1, true), run.error)
    end
  end)

  it("spoils nothing for later runs, whatever a run does to its VM", function()
    local worker = world:worker()
    local spoil = support.yaml("spoil", { spoil = "math_tasks:spoil" })
    world:wait(world:submit { workflow_yaml = spoil }, "COMPLETED")
    local slot = world:slots(worker)[1]
    local files = world.open_files(slot)
    for _ = 1, 20 do
      local run = world:wait(world:submit { workflow_yaml = spoil }, "COMPLETED")
      assert.equal("clean", run.task_records.spoil.output.seen)
    end
    world:wait(world:submit { params = { x = 1 }, workflow_yaml = ADD }, "COMPLETED")
    assert.equal(slot, world:slots(worker)[1])
    process.wait_for(function() return world.open_files(slot) <= files end)
  end)

  it("keeps its slot through runs that end right after they were shown RUNNING", function()
    local worker = world:worker()
    local nap = support.yaml("nap", { nap = "math_tasks:nap" })
    world:wait(world:submit { workflow_yaml = nap }, "COMPLETED")
    local slot = world:slots(worker)[1]
    for _ = 1, 20 do world:wait(world:submit { workflow_yaml = nap }, "COMPLETED") end
    assert.equal(slot, world:slots(worker)[1])
  end)

  it("takes a worker script that holds a file open: its VM is built for each run", function()
    local script = world.flows .. "/my_worker.lua"
    world:write("my_worker.lua", [[
      held = io.open("/proc/self/status")
      return require("pyoco.worker").main({ globals = { first_line = held:read("l") } }, ...)
    ]])
    world:write("reads.lua", "return { read = function() return first_line end }")
    local worker = process.host({ script, "--nats-url", world.server.url, "--task-path", world.flows, "--worker-id",
      "w1" }, { cwd = world.flows })
    world.workers[#world.workers + 1] = worker
    for _ = 1, 3 do
      local run_id = world:submit { workflow_yaml = support.yaml("read", { read = "reads:read" }) }
      local run = world:wait(run_id, "COMPLETED")
      assert.truthy(run.task_records.read.output:find("^Name:"))
    end
  end)

  describe("fails a run", function()
    local CASES = {
      { "whose task raises a text", "fail", "on purpose" },
      { "whose task raises a table", "fail_table", "table" },
      { "whose task raises nil", "fail_nil", "nil" },
      { "whose task calls os.exit", "exit", "os.exit" },
    }
    for _, case in ipairs(CASES) do
      it(case[1], function()
        world:worker()
        local run_id = world:submit { workflow_yaml = support.yaml(case[2], { [case[2]] = "math_tasks:" .. case[2] }) }
        local run = world:wait(run_id, "FAILED")
        assert.truthy(run.error:find(case[3], 1, true), run.error)
        assert.equal("FAILED", run.tasks[case[2]])
        local letter = world:wait_letter(1)
        assert.equal("pyoco.dlq.default", letter.subject)
        assert.equal("execution_error", letter.body.reason)
        assert.equal(run.error, letter.body.error)
        assert.equal(run_id, letter.body.run_id)
        assert.equal("w1", letter.body.worker_id)
        world:wait_settled()
      end)
    end

    it("of an unknown flow, naming it and where it looked", function()
      world:worker()
      local run_id = world:submit { flow_name = "nosuch" }
      local run = world:wait(run_id, "FAILED")
      assert.equal(1, (run.error:find("flow_not_found: 'nosuch'", 1, true)))
      assert.equal(json.null, run.end_time)
      assert.equal("flow_not_found", world:wait_letter(1).body.reason)
      world:wait_settled()
    end)

    it("of a flow name that looks like a path", function()
      world:worker()
      local run = world:wait(world:submit { flow_name = "../x" }, "FAILED")
      assert.equal(1, (run.error:find("flow_not_found: '../x'", 1, true)), run.error)
    end)

    it("whose callable is not in the task roots", function()
      world:worker()
      local run = world:wait(world:submit { workflow_yaml = support.yaml("x", { x = "os:execute" }) }, "FAILED")
      assert.truthy(run.error:find("os:execute", 1, true), run.error)
      world:wait_settled()
      assert.same({}, world:letters())
    end)

    it("whose document is broken, with its line", function()
      world:worker()
      local run = world:wait(world:submit { workflow_yaml = "version: 1\nflow:\n  graph: |\n    a >> (b\ntasks: {}\n" },
        "FAILED")
      assert.truthy(run.error:find("line 4", 1, true), run.error)
    end)
  end)

  describe("does not run", function()
    --- A job that must not run: its flow would COMPLETE.
    local function expect_untouched(run_id, status)
      world:worker()
      world:wait_settled()
      assert.equal(status, world:run(run_id).status)
    end

    it("a run that has ended", function()
      local run_id = world:submit { params = { x = 1 }, workflow_yaml = ADD }
      local current, revision = world.store.runs:get(run_id)
      current.status = "CANCELLED"
      assert(world.store.runs:update(current, revision))
      expect_untouched(run_id, "CANCELLED")
    end)

    it("a run that was deleted", function()
      local run_id = world:submit { params = { x = 1 }, workflow_yaml = ADD }
      assert(world.store.runs:delete(run_id))
      world:worker()
      world:wait_settled()
      assert.is_nil(world:run(run_id))
    end)

    it("a run that nobody has approved", function()
      local run_id = world:submit { params = { x = 1 }, workflow_yaml = ADD }
      local current, revision = world.store.runs:get(run_id)
      current.status = "PENDING_APPROVAL"
      assert(world.store.runs:update(current, revision))
      expect_untouched(run_id, "PENDING_APPROVAL")
    end)

    it("a run whose cancel was requested before: it becomes CANCELLED", function()
      local run_id = world:submit { params = { x = 1 }, workflow_yaml = ADD }
      world:cancel(run_id, { without_hint = true })
      world:worker()
      local run = world:wait(run_id, "CANCELLED")
      assert.same({}, run.tasks)
      world:wait_settled()
    end)
  end)

  describe("turns away a message that is no job:", function()
    local function publish(data)
      assert(world.store.js:publish("pyoco.work.default", data))
      world:worker()
      local letter = world:wait_letter(1)
      world:wait_settled()
      assert.equal("pyoco.dlq.default", letter.subject)
      assert.equal("invalid_job", letter.body.reason)
      assert.equal("pyoco.work.default", letter.body.subject)
      assert.equal(1, letter.body.num_delivered)
      assert.equal("w1", letter.body.worker_id)
      return letter.body
    end

    it("no JSON", function()
      local body = publish "not json \xff"
      assert.equal("invalid_json", body.error)
      assert.equal("not json \u{FFFD}", body.payload)
    end)

    it("no object", function() assert.equal("invalid_schema", publish("[1]").error) end)

    it("no fields", function() assert.equal("missing_fields", publish('{"flow_name":"x"}').error) end)

    it("a run id that cannot be a key", function()
      assert.truthy(publish('{"run_id":"a b","flow_name":"x"}').error:find("run_id", 1, true))
    end)

    it("fields of a wrong type, named", function()
      assert.equal("params: expected object", publish('{"run_id":"r9","flow_name":"x","params":[1]}').error)
      assert.equal("FAILED", world:run("r9").status)
    end)

    it("known run, missing flow: the run is FAILED", function()
      local run_id = crypto.uuid4()
      assert.equal("missing_fields", publish(json.encode { run_id = run_id }).error)
      assert.equal("invalid_job: missing_fields", world:run(run_id).error)
    end)

    it("what it says of its run is shown", function()
      local run_id = crypto.uuid4()
      publish(json.encode { run_id = run_id, flow_name = "etl", tag = "t", tags = 5 })
      local run = world:run(run_id)
      assert.same({ "FAILED", "etl", "t", {}, {} }, { run.status, run.flow_name, run.tag, run.tags, run.params })
    end)

    it("what is stored of its run stays", function()
      local run_id = crypto.uuid4()
      assert(world.store.runs:create({ run_id = run_id, flow_name = "kept", tag = "default", tags = { "mine" },
        status = "PENDING", params = { x = 1 }, tasks = {}, task_records = {} }))
      publish(json.encode { run_id = run_id })
      local run = world:run(run_id)
      assert.same({ "FAILED", "kept", "default", { "mine" }, { x = 1 } },
        { run.status, run.flow_name, run.tag, run.tags, run.params })
    end)
  end)

  it("says in the registry who it is and what it did", function()
    local worker = world:worker { "--slots", "2" }
    local run_id = world:submit { params = { x = 1 }, workflow_yaml = ADD }
    world:wait(run_id, "COMPLETED")
    local record = process.wait_for(function()
      local found = world.store.workers:get("w1")
      return found and found.last_run_id == run_id and found.state == "IDLE" and found
    end)
    assert.equal("COMPLETED", record.last_run_status)
    assert.same({ "default" }, record.tags)
    assert.equal(2, record.slots)
    assert.equal(32, #record.instance_id)
    assert.equal(worker.pid, record.pid)
    assert.equal(json.null, record.current_run_id)
    assert.same({}, record.current_run_ids)
    assert.equal("disabled", record.wheel_sync.last_result)
    worker:kill("sigterm")
    worker:wait()
    assert.equal(0, worker.code, worker.stderr)
    record = world.store.workers:get("w1")
    assert.equal("STOPPED_GRACEFUL", record.state)
    assert.equal("graceful_shutdown", record.stop_reason)
  end)

  it("keeps `hidden` of its record", function()
    assert(world.store.workers:put { worker_id = "w1", hidden = true, state = "STOPPED_GRACEFUL" })
    world:worker()
    assert.is_true(process.wait_for(function()
      local found = world.store.workers:get("w1")
      return found and found.state == "IDLE" and found
    end).hidden)
  end)

  it("binds to a consumer that exists and leaves it as it is", function()
    local config = { durable_name = "pyoco_workers_default", filter_subject = "pyoco.work.default",
      ack_policy = "explicit", ack_wait = 7000000000, max_deliver = 3 }
    assert(world.store.js:consumer_create("PYOCO_WORK", config))
    world:worker()
    world:wait(world:submit { params = { x = 1 }, workflow_yaml = ADD }, "COMPLETED")
    local info = assert(world.store.js:consumer_info("PYOCO_WORK", "pyoco_workers_default"))
    assert.equal(7000000000, info.config.ack_wait)
    assert.equal(3, info.config.max_deliver)
  end)

  it("takes one job and exits with --run-once", function()
    local first = world:submit { params = { x = 1 }, workflow_yaml = ADD }
    local second = world:submit { params = { x = 1 }, workflow_yaml = ADD }
    local worker = world:worker { "--run-once" }
    worker:wait()
    assert.equal(0, worker.code)
    assert.equal("COMPLETED", world:run(first).status)
    assert.equal("PENDING", world:run(second).status)
  end)

  it("keeps outputs that are too big for the snapshot in the object store", function()
    world:write("big.lua", [[return {
      big = function() return { text = ("ä"):rep(10000) } end,
      size = function(big) return #big.text end,
      small = function() return "s" end,
    }]])
    world:worker({}, { PYOCO_MAX_RUN_SNAPSHOT_BYTES = "4096" })
    local run_id = world:submit { workflow_yaml = support.yaml("big >> size >> small",
      { big = "big:big", size = "big:size", small = "big:small" }) }
    local run = world:wait(run_id, "COMPLETED")
    local bytes, info = assert(world.store.data:get(run_id, "big", "output", 1 << 20))
    assert.same({ text = ("ä"):rep(10000) }, json.decode(bytes))
    local records = run.task_records
    assert.equal(json.null, records.big.output)
    assert.same({ name = run_id .. "/big/output", size = #bytes, sha256 = crypto.sha256(bytes) },
      records.big.output_ref)
    assert.equal(info.sha256, records.big.output_ref.sha256)
    assert.same({ 20000, {}, true }, { records.size.output, records.size.inputs, records.size.inputs_truncated })
    assert.equal("s", records.small.output)
    assert.is_nil(records.small.output_ref)
    assert.is_nil(run.task_records_truncated)
  end)

  it("keeps the whole log of a task that says more than its record holds", function()
    world:write("talk.lua", [[return {
      much = function(ctx) for i = 1, 20000 do ctx:log("much %d", i) end error("enough") end,
      more = function() for i = 1, 3000 do print("more", i) end return 1 end,
      little = function() print("hm") end,
    }]])
    world:worker({}, { PYOCO_TASK_LOG_MAX_BYTES = "100000" })
    local run_id = world:submit { workflow_yaml = support.yaml("little >> (more & much)",
      { much = "talk:much", more = "talk:more", little = "talk:little" }) }
    local records = world:wait(run_id, "FAILED").task_records
    local lines = {}
    for i = 1, 3000 do lines[i] = "more\t" .. i .. "\n" end
    local text = assert(world.store.data:get(run_id, "more", "log", 1 << 20))
    assert.is_true(text == table.concat(lines))
    assert.same({ name = run_id .. "/more/log", size = #text, sha256 = crypto.sha256(text) }, records.more.log_ref)
    assert.equal(text:sub(-100), records.more.log_tail:sub(-100))
    text = assert(world.store.data:get(run_id, "much", "log", 1 << 20))
    assert.truthy(text:find("^much 1\nmuch 2\n"))
    assert.truthy(text:find("\n[the log was cut after 100000 bytes]\n", 100000, true))
    assert.same({ "hm\n" }, { records.little.log_tail, records.little.log_ref })
    assert.equal("not_found", select(3, world.store.data:get(run_id, "little", "log", 1)))
  end)

  it("cuts the records of a run when the object store is not there, and says so", function()
    world:write("big.lua", [[return { big = function() return ("x"):rep(20000) end }]])
    world:worker({}, { PYOCO_MAX_RUN_SNAPSHOT_BYTES = "4096" })
    assert(world.store.js:stream_delete("OBJ_pyoco_run_data"))
    local run = world:wait(world:submit { workflow_yaml = support.yaml("big", { big = "big:big" }) }, "COMPLETED")
    assert.same({}, run.task_records)
    assert.is_true(run.task_records_truncated)
  end)
end)
