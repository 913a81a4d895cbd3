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

  it("gives frames, options and commands back, each reference to a frame being one table", function()
    local text = [[
flow: {graph: '(a >> b)["$ctx.l as i"] >> (c & d) | switch("$ctx.x")["A" >> e] >> f % "$node.f.output"'}
tasks:
  a: {run: [train, --n, 3, $ctx.i], env: {A: 1}, timeout_sec: 5}
  b: {callable: m:b, parallel: 4, outputs: [results.b]}
  c: {callable: m:c}
  d: {run: make}
  e: {callable: m:e}
  f: {callable: m:f}
]]
    local fresh = show(assert(document.read(text, { name = "one" })))
    assert.equal(fresh, show(assert(packed.read(text, { name = "one" }))))
    local doc = assert(packed.read(text, { name = "one" }))
    assert.equal(fresh, show(doc))
    local needs = {}
    for _, node in ipairs(doc.graph.nodes) do needs[node.name] = node.needs end
    assert.equal("each1", needs.c.frame)
    assert.is_true(rawequal(needs.c, needs.d))
    assert.is_true(rawequal(needs.c, doc.graph.any_of[1][1][1]))
    local froms = {}
    for _, edge in ipairs(doc.graph.edges) do froms[edge[1]] = true end
    assert.is_true(froms[needs.c])
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
