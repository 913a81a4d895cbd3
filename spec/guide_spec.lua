--- docs/guide/flows.md and its translation: every example compiles and runs, in YAML and in Lua alike, and its picture
--- and records are those of the program (`make docs` writes them).
local canonical = require "pyoco.flow.canonical"
local guide = require "spec.support.guide"
local host = require "host"
local json = require "host.json"
local tmp = require "spec.support.tmp"

local function read(path) return assert(tmp.read(host.home .. "/" .. path), path) end

--- A graph without the order in which its tasks were declared: the page leaves most declarations out.
local function structure(graph)
  local decoded = json.decode((canonical.encode(graph, { origins = false })))
  local function text(value) return json.encode(value, { sort = true }) end
  for _, key in ipairs { "nodes", "edges" } do
    table.sort(decoded[key], function(a, b) return text(a) < text(b) end)
  end
  return decoded
end

describe("the guide to flows", function()
  for _, path in ipairs(guide.PAGES) do
    it(path .. " shows what the program makes of its examples, the same in YAML and in Lua", function()
      local page = read(path)
      local fresh, examples = guide.render(page)
      assert.truthy(#examples >= 14)
      for i, example in ipairs(examples) do
        local where = ("%s, example %d: "):format(path, i)
        local graphs = { structure(example.flows.yaml.graph), structure(example.flows.lua.graph) }
        assert.same(graphs[1], graphs[2], where .. "the graphs differ")
        assert.equal(example.records.yaml, example.records.lua, where .. "the records differ")
        assert.equal(example.runs.yaml.status, example.runs.lua.status)
      end
      assert.equal(fresh, page, path .. " is out of date: make docs")
    end)
  end

  it("has the same examples in both languages", function()
    local all = {}
    for i, path in ipairs(guide.PAGES) do
      all[i] = {}
      for block in read(path):gmatch("```[a-z].-\n```") do table.insert(all[i], block) end
    end
    assert.same(all[1], all[2])
  end)
end)
