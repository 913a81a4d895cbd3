--- Every outcome is settled as the contract says (11.2 and Part A).
local outcome = require "pyoco.worker.outcome"

local OPTS = { ack_wait_sec = 30, execution_error_dlq = true }

describe("worker.outcome", function()
  local CASES = {
    completed = { "+ACK" }, failed = { "+ACK", "execution_error" }, cancelled = { "+ACK" },
    flow_not_found = { "+ACK", "flow_not_found" }, invalid_flow = { "+ACK" }, invalid_job = { "+TERM", "invalid_job" },
    skipped = { "+ACK" }, discarded = { "+ACK" }, fenced = {}, busy = { '-NAK {"delay": 30000000000}' },
    unavailable = { '-NAK {"delay": 2000000000}' }, handed_back = { "-NAK" },
    worker_crashed = { "+TERM", "worker_crashed" }, max_attempts = { "+TERM", "max_attempts" },
    republished = { "+ACK" }, internal = { '-NAK {"delay": 2000000000}' },
  }

  for name, expected in pairs(CASES) do
    it("settles " .. name, function()
      local payload, reason = outcome.settle(name, OPTS)
      assert.equal(expected[1], payload)
      assert.equal(expected[2], reason)
    end)
  end

  it("has no outcome besides these", function()
    for name in pairs(outcome.TABLE) do assert.truthy(CASES[name], name) end
  end)

  it("leaves the dead letter of a failed run out when told to", function()
    local payload, reason = outcome.settle("failed", { ack_wait_sec = 30, execution_error_dlq = false })
    assert.equal("+ACK", payload)
    assert.is_nil(reason)
  end)

  it("raises for an outcome that does not exist", function()
    assert.has_error(function() outcome.settle("nonsense", OPTS) end, "no such outcome: nonsense")
  end)
end)
