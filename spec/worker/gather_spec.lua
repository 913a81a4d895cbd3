local gathers = require "pyoco.worker.gather"

describe("worker.gather", function()
  local timers, made, has_time, subject

  before_each(function()
    timers, made, has_time = {}, {}, true
    subject = gathers.new { after = function(_, fn) timers[#timers + 1] = fn end,
      has_time = function() return has_time end }
  end)

  local function add(...)
    for _, name in ipairs { ... } do subject:add(function() made[#made + 1] = name end) end
  end

  it("calls at once when there is no time", function()
    has_time = false
    add "a"
    assert.same({ { "a" }, {} }, { made, timers })
  end)

  it("gathers under one timer, in order", function()
    add("a", "b")
    assert.same({}, made)
    assert.equal(1, #timers)
    timers[1]()
    assert.same({ "a", "b" }, made)
    add "c"
    assert.equal(2, #timers)
  end)

  it("lets no call overtake those that are gathered", function()
    add "a"
    has_time = false
    add "b"
    timers[1]()
    assert.same({ "a", "b" }, made)
  end)

  it("keeps what its calls add for the next time", function()
    subject:add(function() add "inner" end)
    timers[1]()
    assert.same({}, made)
    timers[2]()
    assert.same({ "inner" }, made)
  end)
end)
