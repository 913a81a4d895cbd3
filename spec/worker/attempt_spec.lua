--- DESIGN D6's table, row by row.
local attempt = require "pyoco.worker.attempt"

local OURS = { seq = 10, delivery = 2 }
local LIMITS = { ack_wait_sec = 30, max_deliver = 20 }

local function stored(status, seq, delivery)
  return { status = status, attempt = seq and { seq = seq, delivery = delivery } or nil }
end

describe("worker.attempt", function()
  local CASES = {
    { "a deleted run", { deleted = true }, "ack" },
    { "a COMPLETED run", { snapshot = stored("COMPLETED") }, "ack" },
    { "a FAILED run", { snapshot = stored("FAILED", 10, 1) }, "ack" },
    { "a CANCELLED run of a newer attempt", { snapshot = stored("CANCELLED", 10, 3) }, "ack" },
    { "a run that nobody has approved", { snapshot = stored("PENDING_APPROVAL") }, "ack" },
    { "a CANCELLING run", { snapshot = stored("CANCELLING") }, "cancelled" },
    { "a CANCELLING run of an older delivery", { snapshot = stored("CANCELLING", 10, 1) }, "cancelled" },
    { "no snapshot", {}, "run" },
    { "a snapshot without attempt", { snapshot = stored("PENDING") }, "run" },
    { "a RUNNING snapshot of a reference worker", { snapshot = stored("RUNNING") }, "run" },
    { "an older delivery", { snapshot = stored("RUNNING", 10, 1), age_sec = 0 }, "run" },
    { "our own delivery", { snapshot = stored("RUNNING", 10, 2) }, "run" },
    { "a newer delivery", { snapshot = stored("RUNNING", 10, 3) }, "fenced" },
    { "a newer delivery that was handed back", { snapshot = stored("PENDING", 10, 3) }, "fenced" },
    { "a higher sequence", { snapshot = stored("RUNNING", 11, 1) }, "ack" },
    { "a lower sequence, alive", { snapshot = stored("RUNNING", 9, 1), age_sec = 29.9 }, "busy" },
    { "a lower sequence, silent", { snapshot = stored("RUNNING", 9, 1), age_sec = 30 }, "run" },
    { "a lower sequence, handed back", { snapshot = stored("PENDING", 9, 1), age_sec = 0 }, "run" },
    { "an attempt that is no attempt", { snapshot = { status = "RUNNING", attempt = "x" } }, "run" },
    { "an attempt without delivery", { snapshot = { status = "RUNNING", attempt = { seq = 10 } } }, "run" },
  }

  for _, case in ipairs(CASES) do
    it(("finds %s: %s"):format(case[1], case[3]), function()
      local act, doc = attempt.decide(case[2], OURS, LIMITS)
      assert.equal(case[3], act)
      assert.is_string(doc)
    end)
  end

  it("reaches every row of the table", function()
    local reached = {}
    for _, case in ipairs(CASES) do
      local _, doc = attempt.decide(case[2], OURS, LIMITS)
      reached[doc] = true
    end
    for _, row in ipairs(attempt.ROWS) do assert.is_true(reached[row.doc], row.doc) end
  end)

  describe("on the last delivery", function()
    local last = { seq = 10, delivery = 20 }

    it("ends a run that was tried before", function()
      assert.equal("exhausted", (attempt.decide({ snapshot = stored("RUNNING", 10, 19) }, last, LIMITS)))
      assert.equal("exhausted", (attempt.decide({ snapshot = stored("PENDING", 9, 3), age_sec = 99 }, last, LIMITS)))
    end)

    it("ends a run whose slots died before any attempt was written", function()
      local snapshot = { status = "PENDING", crash_count = 1 }
      assert.equal("exhausted", (attempt.decide({ snapshot = snapshot }, last, LIMITS)))
    end)

    it("republishes one that nobody has tried", function()
      assert.equal("republish", (attempt.decide({ snapshot = stored("PENDING") }, last, LIMITS)))
      assert.equal("republish", (attempt.decide({}, last, LIMITS)))
    end)

    it("leaves what the table settles alone", function()
      assert.equal("ack", (attempt.decide({ snapshot = stored("COMPLETED") }, last, LIMITS)))
      assert.equal("cancelled", (attempt.decide({ snapshot = stored("CANCELLING", 10, 19) }, last, LIMITS)))
      assert.equal("fenced", (attempt.decide({ snapshot = stored("RUNNING", 10, 21) }, last, LIMITS)))
    end)

    it("does not exist when deliveries are not limited, or limited to one", function()
      for _, max_deliver in ipairs { -1, 0, 1 } do
        assert.equal("run", (attempt.decide({ snapshot = stored("RUNNING", 10, 19) }, last,
          { ack_wait_sec = 30, max_deliver = max_deliver })))
      end
    end)
  end)

  it("knows in the middle of a run whether it still has it", function()
    assert.equal("ours", attempt.holds(stored("RUNNING", 10, 2), OURS))
    assert.equal("ours", attempt.holds(stored("CANCELLING"), OURS))
    assert.equal("ours", attempt.holds(stored("RUNNING", 9, 5), OURS))
    assert.equal("fenced", attempt.holds(stored("RUNNING", 10, 3), OURS))
    assert.equal("fenced", attempt.holds(stored("PENDING", 11, 1), OURS))
    assert.equal("ended", attempt.holds(stored("COMPLETED", 10, 2), OURS))
    assert.equal("ended", attempt.holds(nil, OURS))
  end)
end)
