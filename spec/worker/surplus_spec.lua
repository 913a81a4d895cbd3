--- When a slot that is one too many ends.
local surplus = require "pyoco.worker.surplus"

describe("worker.surplus", function()
  it("keeps a slot that is not needed for a while, then says that one may end", function()
    local one = surplus.new()
    assert.is_false(one:is_due(100, 2, 1))
    assert.is_false(one:is_due(100 + surplus.KEPT_SEC - 1, 2, 1))
    assert.is_true(one:is_due(100 + surplus.KEPT_SEC, 2, 1))
  end)

  it("begins anew when all were needed meanwhile", function()
    local one = surplus.new()
    one:is_due(100, 2, 1)
    assert.is_false(one:is_due(110, 2, 2))
    assert.is_false(one:is_due(111, 2, 1))
    assert.is_false(one:is_due(100 + surplus.KEPT_SEC, 2, 1))
    assert.is_true(one:is_due(111 + surplus.KEPT_SEC, 2, 1))
  end)
end)
