--- The virtual clock of pyoco.testing.
local clocks = require "pyoco.testing.clock"
local uv = require "luv"

local clock, fired

--- A function that notes its name and the time.
local function note(name)
  return function() fired[#fired + 1] = ("%s@%g"):format(name, clock.seconds) end
end

before_each(function() clock, fired = clocks.new(), {} end)
after_each(function()
  clock:close()
  uv.run("nowait")
end)

describe("the virtual clock", function()
  it("goes from timer to timer, in their order, those of one time in the order of their start", function()
    clock:after(5, note "b")
    clock:after(1, note "a")
    clock:after(5, note "c")
    clock:after(86400, note "d")
    assert.is_true(clock:skip())
    assert.same({ "a@1" }, fired)
    assert.is_true(clock:skip())
    assert.same({ "a@1", "b@5", "c@5" }, fired)
    assert.is_true(clock:skip())
    assert.is_false(clock:skip())
    assert.equal("d@86400", fired[4])
    assert.equal(86400, clock.seconds)
  end)

  it("counts from now on", function()
    clock:after(10, function()
      note "first"()
      clock:after(5, note "second")
    end)
    while clock:skip() do end
    assert.same({ "first@10", "second@15" }, fired)
  end)

  it("does not go to a timer that was stopped", function()
    local stop = clock:after(10, note "no")
    clock:after(20, note "yes")
    stop()
    stop()
    clock:skip()
    assert.same({ "yes@20" }, fired)
  end)

  it("takes a time below 0 as 0", function()
    clock:after(-5, note "now")
    clock:skip()
    assert.same({ "now@0" }, fired)
  end)

  it("keeps pace with the real time while something real goes on", function()
    clock:after(0.002, note "timeout")
    clock:after(3600, note "never")
    local is_over = false
    local work = uv.new_timer()
    work:start(50, 0, function()
      work:close()
      is_over = true
    end)
    while not is_over do uv.run("once") end
    assert.same({ "timeout@0.002" }, fired)
  end)

  it("knows whether it is alone on the loop", function()
    clock:after(3600, note "x")
    assert.is_true(clock:is_alone())
    local work = uv.new_timer()
    work:start(3600000, 0, function() end)
    assert.is_false(clock:is_alone())
    work:close()
  end)

  it("does not ring early for what was set after a long computation", function()
    clock:after(0.05, note "timeout")
    local stop_at = uv.hrtime() + 60e6
    while uv.hrtime() < stop_at do end
    clock:after(0.05, note "other")
    uv.run("nowait")
    assert.same({}, fired)
  end)

  it("keeps a thousand timers in order", function()
    local last, count = 0, 0
    for i = 1, 1000 do
      local due = i * 7919 % 1000
      clock:after(due, function()
        assert(due >= last)
        last, count = due, count + 1
      end)
    end
    while clock:skip() do end
    assert.equal(1000, count)
  end)
end)
