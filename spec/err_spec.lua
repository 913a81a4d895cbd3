--- pyoco.err: the closed list.
local err = require "pyoco.err"

describe("err", function()
  it("has a status, an ack action and a meaning for each code of the closed list", function()
    local names = {}
    for code, row in pairs(err.codes) do
      names[#names + 1] = code
      assert.truthy(row.status >= 400 and row.status < 600)
      assert.truthy(({ ack = true, nak = true, term = true })[row.ack])
      assert.truthy(row.doc)
    end
    table.sort(names)
    assert.equal("cancelled conflict forbidden internal invalid limited not_found timeout "
      .. "too_large unauthorized unavailable unsupported", table.concat(names, " "))
  end)

  it("takes an unknown code as a bug of ours", function()
    assert.equal(500, err.status("nonsense"))
    assert.equal(500, err.status(nil))
    assert.equal("ack", err.ack(nil))
    assert.is_false(err.is_code("nonsense"))
  end)

  it("gives log events their ids", function()
    assert.same({ "ERR-PYOCO-0012", "MSG-PYOCO-0012", "ERROR" }, { err.ids("invalid_job") })
    assert.has_error(function() err.ids("nonsense") end)
  end)
end)
