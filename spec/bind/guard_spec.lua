--- host.guard: what is remembered of runs, what counts as destroyed, and how much it may cost.
local clock = require "host.clock"
local guard = require "host.guard"

describe("host.guard", function()
  before_each(guard.clear)
  after_each(guard.clear)

  local RUNNING, CANCELLING = '{"status":"RUNNING","cancel_requested_at":null}',
    '{"status":"CANCELLING","cancel_requested_at":12.5,"cancel_requested_by":"api_key:k1"}'
  local ENDED = '{"status":"COMPLETED","x":1}'

  local function see(...)
    for _, text in ipairs { ... } do guard.see("r1", text) end
  end

  it("tells of a cancel that is gone, with what it said", function()
    see(RUNNING, CANCELLING, RUNNING)
    assert.same({ "cancel", "r1", "12.5", '"api_key:k1"' }, { guard.take() })
    assert.is_nil(guard.take())
    see('{"status":"PENDING"}')
    assert.equal("cancel", (guard.take()))
  end)

  it("tells of a run that goes on though it has ended, with its end", function()
    see(CANCELLING, ENDED, '{"status":"CANCELLING","cancel_requested_at":3.5}')
    assert.same({ "ended", "r1", ENDED }, { guard.take() })
    see(ENDED, RUNNING)
    assert.same({ "ended", "r1", ENDED }, { guard.take() })
  end)

  it("keeps silent while all is as it should be", function()
    see(RUNNING, CANCELLING, CANCELLING, '{"status":"RUNNING","cancel_requested_at":12.5}', CANCELLING,
      '{"status":"CANCELLED","cancel_requested_at":12.5}', '{"status":"CANCELLED"}', ENDED)
    assert.is_nil(guard.take())
    guard.see("r2", RUNNING)
    guard.see("r2", '{"status":"PENDING_APPROVAL"}')
    guard.see("r2", '{"status":"RUNNING","params":{"status":"CANCELLING","cancel_requested_at":1}}')
    guard.see("r2", RUNNING)
    assert.is_nil(guard.take())
  end)

  it("takes a fault back when it is mended before it is taken", function()
    see(CANCELLING, RUNNING, CANCELLING)
    assert.is_nil(guard.take())
    see(ENDED, RUNNING, ENDED)
    assert.is_nil(guard.take())
  end)

  it("takes a write of its own, and then the tail, which comes behind it", function()
    guard.see("r1", CANCELLING, 10)
    guard.see("r1", RUNNING, 9)
    guard.see("r1", CANCELLING, 10)
    assert.is_nil(guard.take())
    guard.see("r1", RUNNING, 11)
    assert.equal("cancel", (guard.take()))
    guard.see("r1", ENDED, 13)
    guard.see("r1", CANCELLING, 12)
    assert.is_nil(guard.take())
  end)

  it("forgets what is deleted, and everything when it is told to", function()
    see(ENDED)
    guard.see("r1", nil)
    see(RUNNING)
    assert.is_nil(guard.take())
    see(CANCELLING, RUNNING)
    guard.clear()
    assert.is_nil(guard.take())
    assert.same({ 0, 0 }, { guard.stats() })
  end)

  it("survives what is no snapshot", function()
    see(CANCELLING, "", "{", '"CANCELLING"', "[]", '{"status":{"a":"CANCELLING"}}')
    assert.equal("cancel", (guard.take())) -- a status that is none is not a cancel
    guard.see(("k"):rep(300), CANCELLING)
    guard.see(("k"):rep(300), RUNNING)
    assert.is_nil(guard.take()) -- no run has such an id
    guard.see("r3", '{"status":"CANCELLING","cancel_requested_at":' .. ("1"):rep(50) .. "}")
    guard.see("r3", RUNNING)
    assert.same({ "cancel", "r3", "", "" }, { guard.take() })
  end)

  it("does not take in ends of long ago", function()
    guard.see("r1", ENDED, 0, clock.wall() - 1000)
    assert.same({ 0, 0 }, { guard.stats() })
    guard.see("r1", CANCELLING, 0, clock.wall() - 1000)
    assert.equal(1, (guard.stats()))
  end)

  it("costs no more than its bounds", function()
    local big = '{"status":"FAILED","x":"' .. ("x"):rep(1 << 20) .. '"}'
    for i = 1, 40 do guard.see("big" .. i, big) end
    local runs, bytes = guard.stats()
    assert.is_true(bytes <= 16 << 20 and bytes > 14 << 20, tostring(bytes))
    assert.is_true(runs < 17)
    for i = 1, 20100 do guard.see("small" .. i, CANCELLING) end
    runs = guard.stats()
    assert.is_true(runs <= 20000 and runs > 19000, tostring(runs))
    guard.see("small20100", RUNNING)
    assert.equal("cancel", (guard.take()))
    guard.see("small1", RUNNING)
    assert.is_nil(guard.take())
  end)
end)
