--- Documents read through the memory of the process are the same as those read anew.
local json = require "host.json"
local shared = require "host.shared"
local document = require "pyoco.flow.document"
local packed = require "pyoco.flow.packed"

local TEXT = [[
flow:
  graph: (a >> b | c) >> d
  defaults: {x: 1, y: 1.5, list: [], none: null, map: {}}
tasks:
  a: {callable: m:a, inputs: {p: [1, {q: []}], s: $ctx.params.x}}
  b: {callable: m:b, outputs: [results.b]}
  c: {callable: m:c}
  d: {callable: m:d}
runtime: {expose_env: [HOME]}
]]

--- What a run needs of a document, as text.
local function show(doc)
  return json.encode({ graph = doc.graph, defaults = doc.defaults, expose_env = doc.expose_env, sha256 = doc.sha256,
    text = doc.text }, { sort = true })
end

--- Forgets what was kept.
local function forget()
  for _, key in ipairs(shared.keys "flow.document.") do shared.delete(key) end
end

describe("packed", function()
  before_each(forget)
  after_each(forget)

  it("gives the same document the second time, under the name that is asked for", function()
    local fresh = assert(document.read(TEXT, { name = "one" }))
    assert.equal(show(fresh), show(assert(packed.read(TEXT, { name = "one" }))))
    assert.equal(show(fresh), show(assert(packed.read(TEXT, { name = "one" }))))
    assert.equal("two", assert(packed.read(TEXT, { name = "two" })).graph.name)
    assert.equal(1, #shared.keys "flow.document.place.")
  end)

  it("does not load parser and compiler for what it remembers", function()
    assert(packed.read(TEXT))
    local before = package.loaded["pyoco.flow.document"]
    package.loaded["pyoco.flow.document"] = nil
    assert(packed.read(TEXT))
    local after = package.loaded["pyoco.flow.document"]
    package.loaded["pyoco.flow.document"] = before
    assert.is_nil(after)
  end)

  it("keeps apart what is read by other rules, and keeps no errors", function()
    local twice = TEXT .. "version: 1\nversion: 2\n"
    assert.truthy(packed.read(twice, { duplicate = "last" }))
    for _ = 1, 2 do
      local doc, message, code, errors = packed.read(twice)
      assert.same({ nil, "invalid workflow yaml", "invalid" }, { doc, message, code })
      assert.equal("duplicate_key", errors[1].code)
    end
    assert.truthy(packed.read(TEXT))
    assert.equal("too_large", select(3, packed.read(TEXT, { max_bytes = 10 })))
  end)

  it("keeps a bounded number", function()
    for i = 1, 100 do assert(packed.read(TEXT .. "# " .. i)) end
    assert.equal(65, #shared.keys "flow.document.") -- 32 documents, their places, and the counter
  end)
end)
