--- Short runs: jobs are in the worker's hands before there is a place for them, and slots hand their ends over. What
--- may come between is what these specs make come between.
local json = require "host.json"
local slots = require "host.slots"
local host = require "host"
local program = require "pyoco.worker.program"
local snapshot = require "pyoco.run.snapshot"
local support = require "spec.support.worker"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local TASKS = [[
local M = {}
function M.gate(ctx, dir)
  while not io.open(dir .. "/go") do ctx:sleep(0.02) end
  ctx:sleep(0.02) -- what was sent before "go" is heard now
end
function M.mark(dir)
  local file <close> = io.open(dir .. "/marks", "a")
  file:write("x")
end
function M.quick() return 1 end
return M
]]

describe("a worker with short runs", function()
  local world

  before_each(function()
    world = support.world()
    world:write("short_tasks.lua", TASKS)
  end)

  after_each(function() world:stop() end)

  local function job(task)
    return { params = { dir = world.flows }, workflow_yaml = support.yaml(task, { [task] = "short_tasks:" .. task }) }
  end

  --- A worker of one slot that has had short runs, so that it takes jobs ahead.
  local function start_warm()
    local worker = world:worker()
    local last
    for _ = 1, 40 do last = world:submit(job "quick") end
    world:wait(last, "COMPLETED")
    world:wait_settled()
    return worker
  end

  --- Jobs that workers have in hand.
  local function in_hand()
    return assert(world.store.js:consumer_info(world.cfg.work_stream, "pyoco_workers_default")).num_ack_pending
  end

  local function marks() return #(tmp.read(world.flows .. "/marks") or "") end

  it("gives jobs that wait behind a long run to another worker", function()
    start_warm()
    local long = world:submit(job "gate")
    world:wait(long, "RUNNING")
    local behind = {}
    for i = 1, 4 do behind[i] = world:submit(job "mark") end
    world:worker { "--worker-id", "w2" }
    for _, run_id in ipairs(behind) do
      local run = world:wait(run_id, "COMPLETED")
      assert.equal("w2", run.worker_id)
    end
    assert.equal(4, marks())
    assert.equal("RUNNING", world:run(long).status)
    world:write("go", "")
    world:wait(long, "COMPLETED")
    world:wait_settled()
  end)

  it("runs nothing of a run that is cancelled while its job is in hand", function()
    start_warm()
    local long = world:submit(job "gate")
    local behind = {}
    for i = 1, 4 do behind[i] = world:submit(job "mark") end
    world:wait(long, "RUNNING")
    for _, run_id in ipairs(behind) do world:cancel(run_id) end
    world:write("go", "")
    for _, run_id in ipairs(behind) do world:wait(run_id, "CANCELLED") end
    world:wait(long, "COMPLETED")
    assert.equal(0, marks())
    world:wait_settled()
  end)

  it("runs nothing of a run that is deleted while its job is in hand", function()
    start_warm()
    local long = world:submit(job "gate")
    local behind = world:submit(job "mark")
    world:wait(long, "RUNNING")
    local _, revision = world.store.runs:get(behind)
    assert(world.store.runs.kv:delete(behind, revision))
    process.wait_for(function() return in_hand() == 1 end) -- what was taken ahead has gone back, its read is old
    world:write("go", "")
    world:wait_settled()
    assert.equal(0, marks())
    assert.is_nil(world:run(behind))
  end)

  it("loses no run when its worker dies with jobs in hand", function()
    local worker = start_warm()
    local list = { world:submit(job "gate") }
    for i = 2, 12 do list[i] = world:submit(job "mark") end
    world:wait(list[1], "RUNNING")
    worker:kill("sigkill")
    process.wait_for(function() return worker.code end)
    world.workers = {}
    world:write("go", "")
    assert(world.store.js:consumer_create(world.cfg.work_stream, { durable_name = "pyoco_workers_default",
      filter_subject = "pyoco.work.default", ack_policy = "explicit", ack_wait = 1000000000, max_deliver = 20 }))
    world:worker()
    for _, run_id in ipairs(list) do world:wait(run_id, "COMPLETED", 40000) end
    world:wait_settled()
    assert.equal(11, marks())
  end)

  it("hands everything back when it stops", function()
    local worker = start_warm()
    local list = { world:submit(job "gate") }
    for i = 2, 8 do list[i] = world:submit(job "mark") end
    world:wait(list[1], "RUNNING")
    worker:kill("sigterm")
    process.wait_for(function() return in_hand() == 1 end)
    world:write("go", "")
    world:wait(list[1], "COMPLETED")
    process.wait_for(function() return worker.code end)
    assert.equal(0, marks())
    for i = 2, 8 do assert.equal("PENDING", world:run(list[i]).status) end
    world:worker()
    for i = 2, 8 do world:wait(list[i], "COMPLETED") end
  end)
end)

describe("a slot", function()
  local world, slot, seen

  before_each(function()
    world = support.world()
    world:write("short_tasks.lua", TASKS)
    seen = {}
    slot = assert(slots.spawn {
      script = host.home .. "/lua/worker.lua",
      on_frame = function(kind, head, body)
        seen[#seen + 1] = { kind = kind, head = json.decode(head), body = body }
      end,
      on_exit = function() end,
    })
    local cfg = setmetatable({ task_path = { world.flows }, nats_url = world.server.url, worker_id = "w" },
      { __index = world.cfg })
    slot:send("B", program.boot_text(cfg, true))
    process.wait_for(function() return seen[1] and seen[1].kind == "I" end)
  end)

  after_each(function()
    slot:close()
    process.settle()
    world:stop()
  end)

  --- The slot's report.
  local function report()
    return process.wait_for(function()
      for _, frame in ipairs(seen) do
        if frame.kind == "F" then return frame end
      end
    end)
  end

  --- Sends a job with what its attempt finds, and frames right behind it.
  local function send(task, frames, other)
    local first = snapshot.initial { run_id = "r1", flow_name = "main", tag = "t", tags = json.array { "t" }, now = 1 }
    local revision = assert(world.store.runs:create(first))
    local message = assert(json.encode { run_id = "r1", flow_name = "main", tag = "t", params = { dir = world.flows },
      workflow_yaml = support.yaml(task, { [task] = "short_tasks:" .. task }) })
    for key, value in pairs(other or {}) do first[key] = value end
    local bytes = assert(json.encode(first))
    slot:send("R", assert(json.encode { seq = 7, delivery = 1, ack_wait_sec = 30, max_deliver = -1, clock_offset = 0,
      found = { run_id = "r1", revision = revision, created = 1, size = #bytes } }), message .. bytes)
    for _, frame in ipairs(frames or {}) do slot:send(frame[1], assert(json.encode(frame[2]))) end
    return revision
  end

  it("hands its end over, from the revision that it knows", function()
    send "mark"
    local frame = report()
    local stored, revision = world.store.runs:get("r1") -- a busy machine needs longer than the RUNNING put waits
    assert.same({ "completed", true, revision }, { frame.head.outcome, frame.head.is_handed_over, frame.head.revision })
    assert.equal("COMPLETED", json.decode(frame.body).status)
    assert.not_equal("COMPLETED", stored.status) -- it is the supervisor's to store
  end)

  it("does what the snapshot says that came with the job", function()
    send("mark", nil, { status = "CANCELLING" })
    local frame = report()
    assert.same({ "cancelled", "CANCELLED" }, { frame.head.outcome, json.decode(frame.body).status })
    assert.is_nil(tmp.read(world.flows .. "/marks"))
  end)

  it("hears a cancel that comes right behind its job", function()
    send("gate", { { "C", { seq = 7 } } })
    local frame = report()
    assert.same({ "cancelled", "CANCELLED" }, { frame.head.outcome, json.decode(frame.body).status })
  end)

  it("hears of a later delivery right behind its job", function()
    send("gate", { { "D", { seq = 7, delivery = 3 } } })
    world:write("go", "")
    assert.same({ seq = 7, delivery = 3 }, json.decode(report().body).attempt)
  end)

  it("does not take a cancel of the job before for its own", function()
    send("mark", { { "C", { seq = 6 } }, { "D", { seq = 6, delivery = 3 } } })
    local frame = report()
    assert.same({ "completed", { seq = 7, delivery = 1 } }, { frame.head.outcome, json.decode(frame.body).attempt })
  end)

  it("reads for itself when what came is another run's", function()
    assert(world.store.runs:create(snapshot.initial { run_id = "r2", flow_name = "main", tag = "t",
      tags = json.array { "t" }, now = 1 }))
    local current, revision = world.store.runs:get("r2")
    current.status = "CANCELLED"
    assert(world.store.runs:update(current, revision))
    slot:send("R", assert(json.encode { seq = 7, delivery = 1, ack_wait_sec = 30, max_deliver = -1, clock_offset = 0,
      found = { run_id = "r1", revision = 1, created = 1, size = 2 } }),
      assert(json.encode { run_id = "r2", flow_name = "main", tag = "t",
        workflow_yaml = support.yaml("mark", { mark = "short_tasks:mark" }) }) .. "{}")
    assert.equal("skipped", report().head.outcome)
    assert.is_nil(tmp.read(world.flows .. "/marks"))
  end)
end)
