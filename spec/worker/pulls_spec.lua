--- The bookkeeping of pull requests.
local json = require "host.json"
local pulls = require "pyoco.worker.pulls"

describe("worker.pulls", function()
  local sent, now, refused, subject

  before_each(function()
    sent, now, refused = {}, 100, {}
    subject = pulls.new {
      send = function(tag, id, payload)
        sent[#sent + 1] = { tag = tag, id = id, batch = json.decode(payload).batch }
        return true
      end,
      now = function() return now end,
      on_refused = function(tag, status) refused[#refused + 1] = tag .. " " .. status end,
    }
  end)

  it("asks for what is missing only", function()
    subject:want("a", 2)
    subject:want("a", 2)
    subject:want("b", 1)
    assert.same({ { tag = "a", id = "1", batch = 2 }, { tag = "b", id = "2", batch = 1 } }, sent)
    subject:arrived("a")
    assert.equal(1, subject:outstanding("a"))
    subject:want("a", 2)
    assert.equal(1, sent[3].batch)
    subject:want("a", 1)
    assert.equal(3, #sent)
  end)

  it("is over when its jobs have come, or the server says so", function()
    subject:want("a", 1)
    subject:arrived("a")
    assert.equal(0, subject:outstanding("a"))
    subject:want("a", 1)
    subject:ended("2", "408")
    assert.equal(0, subject:outstanding("a"))
    subject:ended("2", "408") -- heard twice
    subject:ended("77", "404")
    assert.same({}, refused)
  end)

  it("waits a little after a refusal", function()
    subject:want("a", 1)
    subject:ended("1", "409", "Consumer Deleted")
    assert.same({ "a 409" }, refused)
    subject:want("a", 1)
    assert.equal(1, #sent)
    now = now + 0.3
    subject:want("a", 1)
    assert.equal(2, #sent)
  end)

  it("forgets a pull whose end was never told", function()
    subject:want("a", 1)
    now = now + 31
    subject:expire()
    assert.equal(1, subject:outstanding("a"))
    now = now + 2
    subject:expire()
    assert.equal(0, subject:outstanding("a"))
  end)

  it("takes jobs nobody asked for (of a pull before a reconnect)", function()
    subject:want("a", 1)
    subject:reset()
    subject:arrived("a")
    assert.equal(0, subject:outstanding("a"))
  end)

  it("asks again when it could not be sent", function()
    subject.send = function() return nil end
    subject:want("a", 1)
    assert.equal(0, subject:outstanding("a"))
  end)
end)
