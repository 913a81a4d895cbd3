local aheads = require "pyoco.worker.ahead"

describe("worker.ahead", function()
  local ahead

  before_each(function() ahead = aheads.new() end)

  local function ran(seconds, times)
    for _ = 1, times or 1 do ahead:ran("a", seconds) end
  end

  it("takes nothing ahead before it knows how long runs take, and while they are long", function()
    assert.equal(0, ahead:count("a", 4, -1))
    ran(1)
    assert.equal(0, ahead:count("a", 4, -1))
  end)

  it("takes what the slots get done in a moment", function()
    ran(0.008)
    assert.equal(5, ahead:count("a", 1, -1))
    assert.equal(10, ahead:count("a", 2, -1))
    assert.equal(16, ahead:count("a", 8, -1))
    assert.equal(0, ahead:count("b", 2, -1))
    ran(0, 100)
    assert.equal(16, ahead:count("a", 1, -1))
  end)

  it("is careful after one long run, and forgets an hour as fast as a second", function()
    ran(0.001, 10)
    ran(3600)
    assert.equal(0, ahead:count("a", 4, -1))
    ran(0.001, 60)
    assert.is_true(ahead:count("a", 4, -1) > 0)
  end)

  it("takes nothing more after something had to go back, until a run has ended", function()
    ran(0.001)
    ahead:stall()
    assert.equal(0, ahead:count("a", 4, -1))
    ran(0.001)
    assert.is_true(ahead:count("a", 4, -1) > 0)
  end)

  it("spends no delivery that a job may need", function()
    ran(0.001)
    assert.equal(0, ahead:count("a", 4, 10))
    assert.is_true(ahead:count("a", 4, 20) > 0)
    assert.same({ true, true, false, true },
      { aheads.may_return(1, 20), aheads.may_return(10, 20), aheads.may_return(11, 20), aheads.may_return(1000, -1) })
  end)

  it("asks for several at a time, though never while a slot has nothing to do", function()
    assert.equal(2, aheads.wanted(2, 0, 0))  -- as ever, when nothing is taken ahead
    assert.equal(0, aheads.wanted(0, 0, 0))
    assert.equal(0, aheads.wanted(-3, 2, 0))
    assert.equal(10, aheads.wanted(2, 8, 0)) -- a slot is free
    assert.equal(8, aheads.wanted(0, 8, 0))
    assert.equal(6, aheads.wanted(0, 8, 6))  -- two are missing: not worth a message
    assert.equal(8, aheads.wanted(0, 8, 4))
    assert.equal(0, aheads.wanted(-6, 8, 0)) -- six are held
    assert.equal(4, aheads.wanted(-4, 8, 0))
    assert.equal(9, aheads.wanted(1, 8, 0))
    assert.equal(8, aheads.wanted(1, 8, 8))  -- what is asked for will do
  end)
end)
