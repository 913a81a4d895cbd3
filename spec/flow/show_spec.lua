--- pyoco.flow.show*: graphs as drawings. The graphs come from the compiler, and once more from their canonical JSON.
local canonical = require "pyoco.flow.canonical"
local document = require "pyoco.flow.document"
local dot = require "pyoco.flow.show_dot"
local json = require "host.json"
local mermaid = require "pyoco.flow.show_mermaid"
local model = require "pyoco.flow.show_model"
local show = require "pyoco.flow.show"

--- A compiled graph of a document whose tasks are those that the graph text names, with `options` by task.
local function graph_of(text, options)
  local tasks, seen = {}, {}
  for name in text:gsub('"[^"]*"', ""):gmatch("%a%w*") do
    if not seen[name] and name ~= "switch" then
      seen[name] = true
      tasks[#tasks + 1] = ("  %s: {callable: 'm:f'%s}"):format(name, options and options[name] or "")
    end
  end
  local doc, _, _, errors = document.read(("flow:\n  graph: |\n    %s\ntasks:\n%s\n"):format(text:gsub("\n", "\n    "),
    table.concat(tasks, "\n")), { name = "spec" })
  assert(doc, errors and errors[1].message)
  return doc.graph
end

--- The same drawing, from the graph and from its JSON.
local function draw(graph)
  local text = show.text(graph)
  assert.equal(text, show.text(assert(json.decode(canonical.encode(graph)))))
  return text
end

describe("show", function()
  it("draws each task once, below the deepest of those it waits for, and says what the tree cannot", function()
    assert.equal([[
└─ fetch
   ├─ parse
   │  └─ report  after parse & stats
   └─ stats
]], draw(graph_of "fetch >> (parse & stats) >> report"))
  end)

  it("writes conditions as the graph text has them", function()
    assert.equal([[
├─ c
│  └─ d  after c & (a | b)
├─ a
└─ b
]], draw(graph_of "c >> d\n(a|b) >> d"))
  end)

  it("shows options that are given, and commands", function()
    local graph = graph_of("a >> b", { a = ", retries: 3, fail_policy: isolate" })
    graph.nodes[2].command = { run = { "python", "train.py" } }
    assert.equal("└─ a     retries=3 fail_policy=isolate\n   └─ b  $ python train.py\n", draw(graph))
  end)

  it("has the body of a loop beside a dotted line, what comes after it below", function()
    assert.equal([[
└─ list
   └─ each1 ↻ each item of $ctx.items, 4 at a time
      ┆  └─ train
      ┆     └─ test
      └─ report
]], draw(graph_of('list >> (train >> test)["$ctx.items as item"] >> report', { train = ", parallel: 4" })))
    assert.equal([[
└─ times1 ↻ 3 times
   ┆  └─ until1 ↻ until $node.a.output > 9, at most 5 times
   ┆     ┆  └─ a
   └─ b
]], draw(graph_of '(a % ("$node.a.output > 9", 5))[3] >> b'))
  end)

  it("has the branches of a switch, the default last", function()
    assert.equal([[
└─ a
   └─ switch1 ◇ by $ctx.mode
      ┆  ├─ "fast"
      ┆  │  └─ b
      ┆  └─ otherwise
      ┆     ├─ c
      ┆     └─ d
      └─ e
]], draw(graph_of 'a >> switch("$ctx.mode")["*" >> (c & d), "fast" >> b] >> e'))
  end)

  it("names loops in conditions", function()
    assert.truthy(draw(graph_of "a[2] & b[2] >> c"):find("after times1 & times2", 1, true) == nil)
    assert.truthy(draw(graph_of "(a[2] & b[2]) >> c"):find("c +after times1 & times2\n"))
  end)

  it("indents a long chain up to a depth, then says what each waits for", function()
    local names = {}
    for i = 1, 12 do names[i] = "t" .. i end
    local text = draw(graph_of(table.concat(names, " >> ")))
    local lines = {}
    for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
    assert.equal(12, #lines)
    assert.truthy(lines[12]:find("t12 +after t11$"), lines[12])
    assert.equal(lines[11]:match("^ *"), lines[12]:match("^ *"))
  end)

  it("stops after so many lines, and says how many are left", function()
    local lines = show.lines(graph_of "a & b & c & d", { max_lines = 2 })
    assert.same({ "├─ a", "├─ b", "… and 2 more" }, lines)
  end)

  it("draws a chain of 20,000 without recursion", function()
    local nodes, edges = {}, {}
    for i = 1, 20000 do
      nodes[i] = { name = "t" .. i, needs = i > 1 and "t" .. i - 1 or nil }
      if i > 1 then edges[#edges + 1] = { "t" .. i - 1, "t" .. i } end
    end
    local lines = show.lines({ name = "long", nodes = nodes, edges = edges, frames = {} }, { max_lines = 30000 })
    assert.equal(20000, #lines)
  end)

  it("counts what is in a graph", function()
    assert.equal("1 task", model.summary(model.read(graph_of "a")))
    assert.equal("3 tasks", model.summary(model.read(graph_of "a & b & c")))
    assert.equal("3 tasks, 2 loops, 1 switch", model.summary(model.read(graph_of
      'a[2][3] >> switch("$ctx.x")["A" >> b, "B" >> c]')))
  end)
end)

describe("show as Mermaid", function()
  it("has a node for each task, arrows, and a join where the first of several counts", function()
    assert.equal([[
flowchart TD
  t1["a"]
  t2["b"]
  t3["c"]
  t4["d"]
  j1{{"first"}}
  t1 --> j1
  t2 --> j1
  j1 --> t3
  t3 --> t4
]], mermaid.text(graph_of "(a | b) >> c >> d"))
  end)

  it("has a subgraph for each loop and branch, and arrows to and from them", function()
    assert.equal([[
flowchart TD
  t1["a"]
  subgraph f2["switch1 ◇ by $ctx.m"]
    subgraph f6["#34;x#34;"]
      subgraph f3["times1 ↻ 2 times"]
        t4["b"]
      end
    end
  end
  t5["c"]
  t1 --> f2
  f2 --> t5
]], mermaid.text(graph_of 'a >> switch("$ctx.m")["x" >> b[2]] >> c'))
  end)

  it("quotes what Mermaid would read as its own", function()
    local graph = { name = "x", nodes = { { name = 'a"]<b>#' } }, edges = {}, frames = {} }
    assert.truthy(mermaid.text(graph):find('t1["a#34;]#60;b#62;#35;"]', 1, true), mermaid.text(graph))
  end)
end)

describe("show as DOT", function()
  it("has a node for each task, arrows and joins", function()
    local text = dot.text(graph_of "(a | b) >> c >> d")
    assert.truthy(text:find('^digraph "spec" {\n'), text)
    for _, line in ipairs { '  t1 [label="a"]', "  t1 -> j1", "  j1 -> t3", "  t3 -> t4",
      '  j1 [label="first" shape=diamond style=solid]' } do
      assert.truthy(text:find("\n" .. line .. "\n", 1, true), line .. "\n" .. text)
    end
    assert.equal("}\n", text:sub(-2))
  end)

  it("has a cluster for each loop; arrows end at its border", function()
    local text = dot.text(graph_of "a >> (b >> c)[2] >> d")
    for _, line in ipairs { "  subgraph cluster_f2 {", '    label="times1 ↻ 2 times"', '    t3 [label="b"]',
      "  t1 -> t3 [lhead=cluster_f2]", "  t4 -> t5 [ltail=cluster_f2]", "  t3 -> t4", "  compound=true" } do
      assert.truthy(text:find("\n" .. line .. "\n", 1, true), line .. "\n" .. text)
    end
  end)

  it("quotes names", function()
    local graph = { name = 'x"y', nodes = { { name = 'a"\\b' } }, edges = {}, frames = {} }
    local text = dot.text(graph)
    assert.truthy(text:find('digraph "x\\"y"', 1, true) and text:find('label="a\\"\\\\b"', 1, true), text)
  end)
end)
