--- Every move between states of a run, and nothing else.
local states = require "pyoco.run.states"

local ALL = { "PENDING_APPROVAL", "PENDING", "RUNNING", "CANCELLING", "COMPLETED", "FAILED", "CANCELLED" }

describe("run.states", function()
  it("leads each event where the table says", function()
    for _, move in ipairs(states.MOVES) do
      assert.equal(move[3], states.move(move[1], move[2]))
      assert.is_string(move.doc)
    end
  end)

  it("has no way out of an end", function()
    for _, move in ipairs(states.MOVES) do assert.is_false(states.is_terminal(move[1]), move[1]) end
    for _, status in ipairs(ALL) do
      local ends = status == "COMPLETED" or status == "FAILED" or status == "CANCELLED"
      assert.equal(ends, states.is_terminal(status))
    end
  end)

  it("never lets a cancel be forgotten", function()
    for _, event in ipairs { "start", "complete", "fail", "hand_back" } do
      assert.is_nil(states.target("CANCELLING", event))
    end
  end)

  it("raises on a move that does not exist, naming it", function()
    assert.has_error(function() states.move("COMPLETED", "cancel") end, "a run that is COMPLETED cannot cancel")
  end)

  it("takes any value for a status", function()
    assert.is_false(states.is_terminal(nil))
    assert.is_false(states.is_terminal({}))
    assert.is_nil(states.target("nonsense", "cancel"))
  end)
end)
