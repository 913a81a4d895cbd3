--- When the sweeper's passes come; what they do is in spec/gateway/sweeper_spec.lua.
local clock = require "host.clock"
local sweeper = require "pyoco.service.sweeper"
local process = require "spec.support.process"

describe("the sweeper's rest", function()
  it("follows the time that a pass has worked, not the time that others have had between", function()
    local state, app = sweeper.new(), { config = { sweep_interval_sec = 0.1 } }
    state.running, state.spent_sec = coroutine.create(coroutine.yield), 0
    assert.equal(0.005, sweeper.turn(app, state))
    local at = clock.monotonic()
    process.wait_for(function() return clock.monotonic() - at >= 0.3 end) -- others have their time
    local rest = sweeper.turn(app, state)
    assert.is_nil(state.running)
    assert.is_true(rest > 0.09 and rest < 0.3 * 20, rest)
  end)
end)
