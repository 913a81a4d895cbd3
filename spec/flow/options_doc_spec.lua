--- The page of options is the one that `make docs` would write now.
local host = require "host"
local options = require "pyoco.flow.options"
local tmp = require "spec.support.tmp"

describe("docs/reference/flow-options.md", function()
  it("is up to date (make docs)", function()
    assert.equal(require("pyoco.flow.options_doc").markdown(), tmp.read(host.home .. "/docs/reference/flow-options.md"))
  end)

  it("has every option, with what its error would say", function()
    local page = tmp.read(host.home .. "/docs/reference/flow-options.md")
    for _, rows in ipairs { options.TOP, options.FLOW, options.RUNTIME, options.TASK } do
      for _, row in ipairs(rows) do assert.truthy(page:find("\n| `" .. row.name .. "`", 1, true), row.name) end
    end
    assert.truthy(page:find("a whole number from 0 to 1000", 1, true))
  end)
end)
