--- The worker's log (CONTRACT 14): for each failure one line, with its message, ids, level, context and error.
local json = require "host.json"
local letter = require "pyoco.worker.letter"
local logs = require "pyoco.log"
local process = require "spec.support.process"
local support = require "spec.support.worker"

local FIXED = { "ts", "service", "level", "logger", "message", "pathname", "lineno", "func", "process", "thread" }

--- outcome -> message, nn of the ids; nil: nothing is said.
local OUTCOMES = {
  completed = false, cancelled = false, skipped = false, discarded = false, fenced = false, busy = false,
  handed_back = false, republished = false,
  invalid_job = { "invalid job payload", 12 },
  flow_not_found = { "flow not found", 6 },
  invalid_flow = { "invalid workflow for job", 7 },
  failed = { "execution error", 7 },
  worker_crashed = { "execution error", 7 },
  max_attempts = { "execution error", 7 },
  unavailable = { "transient nats error during job processing", 3 },
  internal = { "unexpected error during job processing", 7 },
}

local function has_ids(record, number)
  assert.same({ ("ERR-PYOCO-%04d"):format(number), ("MSG-PYOCO-%04d"):format(number) },
    { record.err_id, record.msg_id }, record.message)
end

describe("the worker's log", function()
  it("has a line for each way in which a job ends badly, and none for the others", function()
    for outcome in pairs(require("pyoco.worker.outcome").TABLE) do
      assert.is_not_nil(OUTCOMES[outcome], outcome .. " is new: what does the log say?")
    end
    for outcome, expected in pairs(OUTCOMES) do
      local lines = {}
      local log = logs.new { service = "pyoco-server:worker", logger = "pyoco_server.worker",
        sink = function(line) lines[#lines + 1] = json.decode(line) end }:with { worker_id = "w1" }
      letter.log(log, outcome, { run_id = "r1", tag = "sent_to", subject = "work.sent_to" },
        { error = "why", flow_name = "f", tag = "t", traceback = "a.lua:3: why" })
      assert.equal(expected and 1 or 0, #lines, outcome)
      if expected then
        local record = lines[1]
        assert.same({ expected[1], "ERROR", "r1", "f", outcome == "invalid_job" and "sent_to" or "t", "w1", outcome,
          "why" }, { record.message, record.level,
          record.run_id, record.flow_name, record.tag, record.worker_id, record.exc_type, record.exc_message })
        has_ids(record, expected[2])
        assert.equal(outcome == "invalid_job" and "why" or nil, record.reason)
        assert.same({ file = "a.lua", line = 3, func = "?" }, record.exc_origin)
      end
    end
  end)

  describe("of a real worker", function()
    local world, worker

    setup(function()
      world = support.world()
      world:write("bad.lua", [[
local pyoco = require "pyoco"
local function deep() error "oh no" end
local fail = pyoco.task("fail", function()
  deep()
end)
return pyoco.flow("bad", pyoco.task("fine", function() return 1 end) >> fail)
]])
      world:write("stuck.lua", [[
local pyoco = require "pyoco"
return pyoco.flow("stuck", pyoco.task("stick", function() os.execute("sleep 60") end))
]])
      worker = world:worker({}, { PYOCO_CANCEL_GRACE_PERIOD_SEC = "0.1", PYOCO_WORKER_HEARTBEAT_INTERVAL_SEC = "0.1" })
    end)
    teardown(function() world:stop() end)

    --- Lines with a message, decoded.
    local function lines(message)
      local found = {}
      for text in worker.stdout:gmatch "([^\n]+)\n" do
        local record = json.decode(text)
        if record and record.message == message then found[#found + 1] = record end
      end
      return found
    end

    --- The only line with a message, once it is there, with every fixed field.
    local function line(message)
      process.wait_for(function() return lines(message)[1] end, 10000, message .. " in\n" .. worker.stdout)
      local record = lines(message)[1]
      assert.equal(1, #lines(message))
      for _, name in ipairs(FIXED) do assert.is_not_nil(record[name], name) end
      assert.same({ "pyoco-server:worker", "pyoco_server.worker", "w1" },
        { record.service, record.logger, record.worker_id })
      return record
    end

    it("says what was wrong with a job", function()
      assert(world.store.jobs:publish_raw(nil, "default", '{"run_id":7'))
      local record = line "invalid job payload"
      assert.same({ "ERROR", "default" }, { record.level, record.tag })
      assert.is_string(record.reason)
      has_ids(record, 12)
      local run_id = world:submit { flow_name = "none" }
      record = line "flow not found"
      assert.same({ "ERROR", run_id, "none", "default" }, { record.level, record.run_id, record.flow_name, record.tag })
      has_ids(record, 6)
      assert.truthy(record.exc_message:find("flow_not_found: 'none'", 1, true))
      run_id = world:submit { flow_name = "y", workflow_yaml = "flow: {graph: a >> }" }
      record = line "invalid workflow for job"
      assert.equal(run_id, record.run_id)
      has_ids(record, 7)
      assert.is_nil(record.exc_origin) -- "line 1:19:" is a place in the document, not a file's
    end)

    it("says where a task has failed", function()
      local run_id = world:submit { flow_name = "bad" }
      local record = line "execution error"
      assert.same({ "ERROR", run_id, "bad", "default" }, { record.level, record.run_id, record.flow_name, record.tag })
      has_ids(record, 7)
      assert.truthy(record.exc_message:find("oh no", 1, true))
      assert.truthy(record.exc_traceback:find("bad.lua:4:", 1, true), record.exc_traceback)
      assert.truthy(record.exc_origin.file:find("bad%.lua$"))
      assert.equal(2, record.exc_origin.line)
    end)

    it("says that a run did not hear its cancel", function()
      local run_id = world:submit { flow_name = "stuck" }
      world:wait(run_id, "RUNNING")
      world:cancel(run_id)
      local record = line "cancel request timed out"
      assert.same({ "WARNING", run_id }, { record.level, record.run_id })
      has_ids(record, 21)
      assert.is_nil(record.exc_type)
    end)

    it("says once that its heartbeat fails", function()
      assert(world.store.js:stream_delete("KV_" .. world.cfg.workers_bucket))
      local record = line "worker registry heartbeat failed"
      assert.equal("ERROR", record.level)
      has_ids(record, 3)
      assert.is_string(record.exc_message)
      assert(world.store:ensure())
      process.wait_for(function() return world.store.workers:get "w1" end, 10000, "the record again")
      assert.equal(1, #lines "worker registry heartbeat failed")
    end)

    it("says nothing of runs that go well", function()
      world:write("good.lua", 'local p = require "pyoco" return p.flow("good", p.task("t", function() return 1 end))')
      local before = #worker.stdout
      world:wait(world:submit { flow_name = "good" }, "COMPLETED")
      assert.falsy(worker.stdout:sub(before + 1):find('"run_id"', 1, true))
    end)
  end)
end)
