--- docs/protocol/ says what is: its pages are those that `make docs` writes, its tables those of the programs.
local host = require "host"
local pages = require "spec.support.protocol_pages"
local tmp = require "spec.support.tmp"

local function read(path) return assert(tmp.read(host.home .. "/" .. path), path) end

describe("docs/protocol", function()
  it("has the pages that `make docs` writes", function()
    for path, text in pairs(pages.whole()) do
      assert.is_true(text == read(path), path .. " is out of date: make docs")
    end
  end)

  it("has each table that there is, as it is", function()
    local seen = {}
    for _, path in ipairs(pages.PAGES) do
      local text = read(path)
      local fresh, names = pages.render(text)
      assert.is_true(fresh == text, path .. " is out of date: make docs")
      for _, name in ipairs(names) do seen[name] = true end
    end
    for name in pairs(pages.TABLES) do assert.is_true(seen[name], "no page has the table " .. name) end
  end)

  it("names what is sent beside the tables", function()
    local text = read "docs/protocol/nats.md"
    for _, subject in ipairs { "pyoco.hint.cancel.", "pyoco.hint.done.", "Nats-Msg-Id", "Nats-Expected-Stream",
      "Nats-Expected-Last-Subject-Sequence", "KV-Operation" } do
      assert.truthy(text:find(subject, 1, true), subject)
    end
  end)
end)
