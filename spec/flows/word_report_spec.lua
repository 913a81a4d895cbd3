--- An example of a spec for a flow of your own: `pyoco-host test.lua spec/flows/word_report_spec.lua`.
local testing = require "pyoco.testing"

local flow = testing.load("flows/word_report.lua")

describe("the word report", function()
  it("counts the words of a text", function()
    local result = testing.flow(flow, { params = { text = "b a\nb" } })
    assert.is_true(result.ok, result.error)
    assert.equal("2 lines; most frequent: b (2), a (1)", result.outputs.report)
  end)

  it("waits, which takes no time here", function()
    assert.near(0.1, testing.flow(flow).clock, 1e-9) -- words and lines wait side by side
  end)

  it("shows as many words as it is asked for", function()
    local result = testing.flow(flow, { params = { limit = 1 }, fakes = { words = { x = 5, y = 7 } } })
    assert.same({ { word = "y", count = 7 } }, result.outputs.top)
  end)
end)

describe("the task top", function()
  it("puts words of one count in the order of the alphabet", function()
    local result = testing.task(flow, "top", { inputs = { counts = { b = 1, a = 1, c = 2 } }, params = { limit = 2 } })
    assert.same({ { word = "c", count = 2 }, { word = "a", count = 1 } }, result.output)
  end)

  it("takes the counts from the task words", function()
    local result = testing.task(flow, "top", { results = { words = { a = 3 } } })
    assert.same({ { word = "a", count = 3 } }, result.output)
  end)
end)
