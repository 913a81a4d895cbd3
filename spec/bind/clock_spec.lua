--- host.clock: the two clocks and the pause.
local clock = require "host.clock"

describe("clock", function()
  it("never goes back", function()
    local last = clock.monotonic()
    for _ = 1, 1000 do
      local now = clock.monotonic()
      assert.truthy(now >= last)
      last = now
    end
  end)

  it("tells unix time in whole microseconds", function()
    local now = clock.wall()
    assert.truthy(math.abs(now - os.time()) < 5)
    assert.equal(now, math.floor(now * 1e6 + 0.5) / 1e6)
  end)

  it("adds another clock's offset, in whole microseconds too", function()
    local now = clock.wall(3600.0123456789)
    assert.truthy(math.abs(now - os.time() - 3600) < 5)
    assert.equal(now, math.floor(now * 1e6 + 0.5) / 1e6)
  end)

  it("sleeps at least as long as asked", function()
    local start = clock.monotonic()
    assert.is_true(clock.sleep(0.005))
    assert.truthy(clock.monotonic() - start >= 0.005)
    assert.is_true(clock.sleep(0))
  end)

  it("refuses a time that is none", function()
    for _, value in ipairs { -1, 0 / 0, 1 / 0, "x" } do
      assert.has_error(function() clock.sleep(value) end)
    end
  end)
end)
