--- Flow documents: what they mean, and every way in which they can be wrong.
local json = require "host.json"
local pyoco = require "pyoco"
local document = require "pyoco.flow.document"
local canonical = require "pyoco.flow.canonical"

local HEAD = "flow: {graph: a}\n"

--- The errors of a document, "line:column code path" each.
local function refuse(text, opts)
  local doc, message, code, errors = document.read(text, opts)
  assert.is_nil(doc)
  assert.equal("invalid workflow yaml", message)
  assert.equal("invalid", code)
  local lines = {}
  for i, found in ipairs(errors) do
    lines[i] = ("%d:%d %s %s"):format(found.line, found.column, found.code, found.path)
    assert.is_true(#found.message > 0)
  end
  return lines, errors
end

describe("document", function()
  it("reads a flow", function()
    local text = [[
version: 1
flow:
  graph: |
    fetch >> (parse & stats)
  defaults:
    url: http://localhost/
    list: []
runtime:
  expose_env: [HOME]
tasks:
  stats:
    callable: etl:stats
    inputs: {bytes: $node.fetch.output.size, home: $env.HOME, n: 1}
    outputs: [results.stats]
  fetch: {callable: etl:fetch}
  parse: {callable: etl:parse}
]]
    local doc = assert(document.read(text, { name = "etl" }))
    assert.equal("etl", doc.graph.name)
    local names = {}
    for i, node in ipairs(doc.graph.nodes) do names[i] = node.name .. " " .. node.line .. ":" .. node.column end
    assert.same({ "stats 11:3", "fetch 15:3", "parse 16:3" }, names)
    assert.same({ { "fetch", "stats" }, { "fetch", "parse" } }, doc.graph.edges)
    assert.equal("etl:stats", doc.graph.nodes[1].callable)
    assert.equal("$node.fetch.output.size", doc.graph.nodes[1].inputs.bytes)
    assert.same({ "results.stats" }, { table.unpack(doc.graph.nodes[1].outputs) })
    assert.equal('{"list":[],"url":"http://localhost/"}', json.encode(doc.defaults, { sort = true }))
    assert.same({ "HOME" }, { table.unpack(doc.expose_env) })
    assert.same({}, doc.warnings)
    assert.equal(require("host.crypto").sha256(text), doc.sha256)
  end)

  it("makes the same graph as the Lua front end, byte for byte", function()
    local doc = assert(document.read([[
flow: {graph: "(a >> b | c) >> d\na >> e"}
tasks:
  a: {callable: m:a, inputs: {x: $ctx.params.x, y: [1, {z: null}]}}
  b: {callable: m:b}
  c: {callable: m:c, outputs: [results.c]}
  d: {callable: m:d, inputs: {}}
  e: {callable: m:e, inputs: , outputs: }
]], { name = "same" }))
    local function task(name, options) return pyoco.task(name, print, options) end
    local a = task("a", { inputs = { x = "$ctx.params.x", y = { 1, { z = json.null } } } })
    local b, c, d, e = task "b", task("c", { outputs = { "results.c" } }), task "d", task "e"
    local flow = pyoco.flow("same", { (a >> b | c) >> d, a >> e })
    assert.equal(canonical.encode(doc.graph, { origins = false }), canonical.encode(flow.graph, { origins = false }))
    local whole = json.decode(canonical.encode(doc.graph))
    assert.same({ callable = "m:a", line = 3, column = 3 }, whole.origins.a)
  end)

  it("reads options and commands of tasks as the Lua front end does", function()
    local doc = assert(document.read([[
flow: {graph: a >> b >> c}
tasks:
  a:
    run: [python, train.py, --lr, 0.1, $ctx.params.lr]
    env: {GPU: 0, NAME: $ctx.params.name}
    cwd: /srv
    retries: 3
    retry_delay_sec: 1.0
    backoff: 1.5
  b: {run: "make && echo \"$INPUT_X\"", inputs: {x: 1}, timeout_sec: 1.0e+1}
  c: {callable: m:c, fail_policy: isolate, parallel: 4, retries: }
]], { name = "same" }))
    local a = pyoco.task("a", { run = { "python", "train.py", "--lr", 0.1, "$ctx.params.lr" },
      env = { GPU = 0, NAME = "$ctx.params.name" }, cwd = "/srv", retries = 3.0, retry_delay_sec = 1, backoff = 1.5 })
    local b = pyoco.task("b", { run = 'make && echo "$INPUT_X"', inputs = { x = 1 }, timeout_sec = 10 })
    local c = pyoco.task("c", print, { fail_policy = "isolate", parallel = 4 })
    local flow = pyoco.flow("same", a >> b >> c)
    assert.equal(canonical.encode(doc.graph, { origins = false }), canonical.encode(flow.graph, { origins = false }))
    local options = {}
    for i, node in ipairs(json.decode(canonical.encode(doc.graph)).nodes) do options[i] = node.options end
    assert.same({ { retries = 3, retry_delay_sec = 1, backoff = 1.5 }, { timeout_sec = 10 },
      { fail_policy = "isolate", parallel = 4 } }, options)
  end)

  it("lets tasks that the graph does not name run, and ignores those without callable, with warnings", function()
    local doc = assert(document.read(HEAD .. "tasks: {a: {callable: 'm:a'}, b: {callable: 'm:b'}, c: {}}"))
    assert.equal(2, #doc.graph.nodes)
    assert.same({ "not_in_graph 2:31", "not_in_graph 2:53" }, {
      ("%s %d:%d"):format(doc.warnings[1].code, doc.warnings[1].line, doc.warnings[1].column),
      ("%s %d:%d"):format(doc.warnings[2].code, doc.warnings[2].line, doc.warnings[2].column) })
    doc = assert(document.read "flow: {graph: a}\ntasks: {a: {}}")
    assert.equal("no_callable", doc.warnings[1].code)
  end)

  it("takes what YAML writers leave empty", function()
    for _, text in ipairs { "tasks: {a: {}}\nruntime:", "tasks: {a: {inputs: , outputs: }}\nruntime: {expose_env: }",
        "tasks: {a: {inputs: false}}\nversion: '2'", "tasks: {a: {}}\nversion: true",
        "tasks: {a: {}}\nversion: 1.0" } do
      assert.truthy(document.read(HEAD .. text))
    end
    assert.same({}, assert(document.read "flow: {graph: '# nothing', defaults: []}\ntasks: []").graph.nodes)
    assert.same({}, assert(document.read "flow: {graph: '# nothing', defaults: }").defaults)
  end)

  it("names every fault of the structure, at its place", function()
    for text, expected in pairs {
      [""] = "1:1 invalid_yaml_root ",
      ["[1]"] = "1:1 invalid_yaml_root ",
      ["tasks: {}"] = "1:1 missing_flow flow",
      ["flow: text"] = "1:7 invalid_flow flow",
      ["flow: {}"] = "1:7 missing_flow_graph flow.graph",
      ["flow: {graph: ' '}"] = "1:15 missing_flow_graph flow.graph",
      ["flow: {graph: 3}"] = "1:15 missing_flow_graph flow.graph",
      ["flow: {graph: '#', defaults: 3}"] = "1:30 invalid_flow_defaults flow.defaults",
      ["flow: {graph: '#', default: {}}"] = "1:20 unknown_flow_keys flow.default",
      ["flow: {graph: '#'}\nflows: {}"] = "2:1 unsupported_key_flows flows",
      ["flow: {graph: '#'}\ndiscovery: {}"] = "2:1 unsupported_key_discovery discovery",
      ["flow: {graph: '#'}\nextra: 1"] = "2:1 unknown_top_level_keys extra",
      ["flow: {graph: '#'}\nversion: x"] = "2:10 invalid_version version",
      ["flow: {graph: '#'}\nversion:"] = "2:9 invalid_version version",
      ["flow: {graph: '#'}\ntasks: [1]"] = "2:8 invalid_tasks tasks",
      ["flow: {graph: '#'}\ntasks: {a: }"] = "2:12 invalid_task_config tasks.a",
      ["flow: {graph: '#'}\ntasks: {' ': {callable: 'a:b'}}"] = "2:9 invalid_task_name tasks. ",
      ["flow: {graph: '#'}\ntasks: {a: {call: x}}"] = "2:13 unknown_task_keys tasks.a.call",
      ["flow: {graph: '#'}\ntasks: {a: {callable: os}}"] = "2:23 invalid_task_callable tasks.a.callable",
      ["flow: {graph: '#'}\ntasks: {a: {callable: }}"] = "2:23 invalid_task_callable tasks.a.callable",
      ["flow: {graph: '#'}\ntasks: {a: {inputs: [1]}}"] = "2:21 invalid_task_inputs tasks.a.inputs",
      ["flow: {graph: '#'}\ntasks: {a: {outputs: x}}"] = "2:22 invalid_task_outputs tasks.a.outputs",
      ["flow: {graph: '#'}\ntasks: {a: {outputs: [1]}}"] = "2:22 invalid_task_outputs tasks.a.outputs",
      ["flow: {graph: '#'}\ntasks: {a: {outputs: [other.x]}}"] = "2:22 invalid_task_outputs tasks.a.outputs",
      ["flow: {graph: '#'}\ntasks: {a: {retries: -1}}"] = "2:22 invalid_task_retries tasks.a.retries",
      ["flow: {graph: '#'}\ntasks: {a: {retries: '1'}}"] = "2:22 invalid_task_retries tasks.a.retries",
      ["flow: {graph: '#'}\ntasks: {a: {backoff: 0.5}}"] = "2:22 invalid_task_backoff tasks.a.backoff",
      ["flow: {graph: '#'}\ntasks: {a: {timeout_sec: 0}}"] = "2:26 invalid_task_timeout_sec tasks.a.timeout_sec",
      ["flow: {graph: '#'}\ntasks: {a: {fail_policy: go}}"] = "2:26 invalid_task_fail_policy tasks.a.fail_policy",
      ["flow: {graph: '#'}\ntasks: {a: {parallel: 257}}"] = "2:23 invalid_task_parallel tasks.a.parallel",
      ["flow: {graph: '#'}\ntasks: {a: {run: []}}"] = "2:18 invalid_task_run tasks.a.run",
      ["flow: {graph: '#'}\ntasks: {a: {run: [ls, true]}}"] = "2:18 invalid_task_run tasks.a.run",
      ["flow: {graph: '#'}\ntasks: {a: {run: ls $ctx.params.x}}"] = "2:18 invalid_task_run tasks.a.run",
      ["flow: {graph: '#'}\ntasks: {a: {callable: 'm:a', run: ls}}"] = "2:30 invalid_task_run tasks.a.run",
      ["flow: {graph: '#'}\ntasks: {a: {cwd: /}}"] = "2:13 invalid_task_cwd tasks.a.cwd",
      ["flow: {graph: '#'}\ntasks: {a: {run: ls, env: {a-b: x}}}"] = "2:27 invalid_task_env tasks.a.env",
      ["flow: {graph: '#'}\nruntime: 3"] = "2:10 invalid_runtime runtime",
      ["flow: {graph: '#'}\nruntime: {env: []}"] = "2:11 unknown_runtime_keys runtime.env",
      ["flow: {graph: '#'}\nruntime: {expose_env: HOME}"] = "2:23 invalid_runtime_expose_env runtime.expose_env",
      ["a: 1\na: 2"] = "2:1 duplicate_key a",
    } do
      assert.equal(expected, refuse(text)[1], text)
    end
  end)

  it("refuses bad YAML with place and caret", function()
    local _, errors = refuse "flow:\n  graph: a\n bad: [1,\n"
    assert.is_true(errors[1].line >= 3)
    for _, text in ipairs { "a: \xff", "a: .nan", "a: !!binary aGk=", "a: {b", "\0", "a: &x [*x, *x]", "- a\nb: c" } do
      local lines, found = refuse(text)
      assert.is_true(#lines >= 1 and found[1].line >= 1)
    end
    errors = select(2, refuse "flow: {graph: a, graph: b}")
    assert.equal("flow: {graph: a, graph: b}\n                 ^", errors[1].caret)
  end)

  it("lets the last of equal keys win when asked, for jobs that a reference gateway accepted", function()
    local text = "flow: {graph: x, graph: a}\ntasks: {a: {callable: 'm:a'}}"
    refuse(text)
    assert.equal("a", assert(document.read(text, { duplicate = "last" })).graph.nodes[1].name)
  end)

  it("reports a document that is too large as such", function()
    local doc, message, code = document.read(HEAD .. ("# x\n"):rep(100), { max_bytes = 100 })
    assert.is_nil(doc)
    assert.equal("invalid workflow yaml", message)
    assert.equal("too_large", code)
  end)

  it("points into the graph text wherever it stands in the document", function()
    local tasks = "\ntasks: {a: {callable: 'm:a'}, b: {callable: 'm:b'}}"
    for text, place in pairs {
      ["flow:\n  graph: |\n    a\n    a >> zz"] = "4:10",
      ["flow:\n  graph: |2\n      a\n     b\n    zz"] = "5:5",
      ["flow:\n  graph: |-\n\n\n    zz"] = "5:5",
      ["flow:\n  graph: >\n    a >>\n    zz"] = "4:5",
      ["flow:\n  graph: a >> zz"] = "2:15",
      ["flow:\n  graph: a\n    >> zz # c"] = "3:8",
      ["flow: {graph: 'a >> zz'}"] = "1:21",
      ["flow: {graph: \"a >> \\\"b\\\"\\n\\tzz\"}"] = "1:30",
      ["flow: {graph: \"a >> \\\n   zz\"}"] = "2:4",
      ["flow: {graph: \"a >> \\x7az\"}"] = "1:15", -- an escape that we do not follow: the value itself
      ["flow: {graph: &x a >> zz}"] = "1:23",
      ["flow:\n  graph: |\n    é >> zz\n"] = "3:5",
      ["flow:\r\n  graph: |\r\n    a >> zz\r\n"] = "3:10",
    } do
      local lines = refuse(text .. tasks)
      assert.equal(place .. " unknown_task flow.graph", lines[1], text)
    end
  end)

  it("tells where loops and switches stand, however the graph is written", function()
    local tasks = "\ntasks: {a: {callable: 'm:a'}, b: {callable: 'm:b'}}"
    for text, places in pairs {
      ["flow:\n  graph: |\n    # é\n    a[2] >> b %\\\n      '$node.b.output'"] = "4:6 4:15",
      ["flow:\n  graph: |2\n      a[2]\n     b[3]"] = "3:8 4:7",
      ["flow:\r\n  graph: |\r\n    a[2] >>\\\r\n      b[3]"] = "3:6 4:8",
      ["flow:\n  graph: >\n    a[2] >>\n    b[3]"] = "3:6 4:6",
      ["flow: {graph: 'a[2] >> b[3]'}"] = "1:17 1:25",
      ["flow: {graph: \"a[\\\"$ctx.n\\\"] >> b[3]\"}"] = "1:17 1:34",
    } do
      local graph = assert(document.read(text .. tasks)).graph
      local found = {}
      for i, frame in ipairs(graph.frames) do found[i] = ("%d:%d"):format(frame.line, frame.column) end
      assert.equal(places, table.concat(found, " "), text)
    end
  end)

  it("points just behind the graph when it ends too early", function()
    for text, place in pairs {
      ["flow:\n  graph: |\n    a >>\n\ntasks: {a: {}}"] = "3:9",
      ["flow:\n  graph: >\n    a >>\n\ntasks: {a: {}}"] = "3:9",
      ["flow: {graph: 'a >> '}\ntasks: {a: {}}"] = "1:20",
    } do
      assert.equal(place .. " syntax flow.graph", refuse(text)[1], text)
    end
  end)

  it("tells columns of loops on one long line without looking at the line for each", function()
    local parts, tasks = {}, {}
    for i = 1, 3000 do parts[i], tasks[i] = ("é%d[2]"):format(i), ("  é%d: {callable: 'm:f'}"):format(i) end
    local line = table.concat(parts, " & ")
    for _, style in ipairs { "|", ">" } do
      local doc = assert(document.read(("flow:\n  graph: %s\n    %s\ntasks:\n%s"):format(style, line,
        table.concat(tasks, "\n"))))
      local last = doc.graph.frames[3000]
      assert.same({ 3, utf8.len(line) + 4 - 2 }, { last.line, last.column })
    end
  end)

  it("points into the expressions of loops and switches", function()
    local tasks = "\ntasks: {a: {callable: 'm:a'}, b: {callable: 'm:b'}}"
    for text, place in pairs {
      ["flow:\n  graph: |\n    a >> b[\"$ctx.n * + 1\"]"] = "3:22 bad_expression",
      ["flow:\n  graph: |\n    a >> b % '$node.zz.output'"] = "3:15 bad_selector",
      ["flow: {graph: 'a[\"$ctx.n +\"]'}"] = "1:27 bad_expression",
      ["flow:\n  graph: >-\n    a[\"$ctx.n +\"]"] = "3:16 bad_expression",
      ["flow: {graph: \"a[\\\"$ctx.n +\\\"]\"}"] = "1:29 bad_expression",
    } do
      local lines, errors = refuse(text .. tasks)
      assert.equal(place .. " flow.graph", lines[1], text)
      assert.truthy(errors[1].caret)
    end
  end)

  it("points at what a command reads", function()
    local lines, errors = refuse [[
flow: {graph: a >> b}
tasks:
  a:
    run: [x, $node.b.output]
    env:
      B: $node.c.output
      C: $env.HOME
  b:
    run:
      - x
      - $1
]]
    assert.same({ "4:14 bad_selector tasks.a.run.2", "6:10 bad_selector tasks.a.env.B",
      "7:10 bad_selector tasks.a.env.C", "11:9 bad_selector tasks.b.run.2" }, lines)
    assert.equal("write b >> a in the graph", errors[1].hint)
  end)

  it("says of a wrong option what the Lua front end says", function()
    for option, values in pairs {
      retries = { -1, 1.5, "x", {}, true }, retry_delay_sec = { -1, "1" }, backoff = { 0 }, timeout_sec = { 0 },
      fail_policy = { "no", 1 }, parallel = { 0, 1000 }, inputs = { { 1, 2 }, "x" }, outputs = { "x", { "y.z" } },
      run = { { true }, " ", "ls $ctx.x" }, env = { { A = true }, "x" }, cwd = { 3 },
    } do
      for _, value in ipairs(values) do
        local config = { [option] = value }
        if option == "env" or option == "cwd" then config.run = "ls" end
        local ok, message = pcall(pyoco.task, "a", not config.run and print or nil, config)
        assert.is_false(ok)
        local doc, _, _, errors = document.read(HEAD .. "tasks: {a: " .. json.encode(config) .. "}")
        assert.is_nil(doc)
        local said = errors[1].message:match("^tasks.a." .. option .. "( must be .*)$")
        assert.truthy(said, errors[1].message)
        if errors[1].hint then said = said .. "; " .. errors[1].hint end
        assert.equal(said, message:match(option .. "( must be .*)$"))
      end
    end
  end)

  it("warns of edges written twice, of parameters that look like a slip, and of options without effect", function()
    local doc = assert(document.read [[
flow:
  graph: |
    a >> b
    a >> b
  defaults: {limit: 3}
tasks:
  a: {callable: m:a, inputs: {x: $ctx.params.limt}, parallel: 2}
  b: {callable: m:b}
]])
    local lines = {}
    for i, it in ipairs(doc.warnings) do lines[i] = ("%d:%d %s"):format(it.line, it.column, it.code) end
    assert.same({ "4:10 duplicate_edge", "7:3 no_effect", "7:34 unknown_param" }, lines)
    assert.equal("did you mean limit?", doc.warnings[3].hint)
    assert.equal("'a' >> 'b' is written twice", doc.warnings[1].message)
  end)

  it("lets loops ask for no more than what is allowed", function()
    local text = "flow: {graph: 'a[11]'}\ntasks: {a: {callable: 'm:a'}}"
    assert.truthy(document.read(text))
    local doc, _, _, errors = document.read(text, { max_iterations = 10 })
    assert.is_nil(doc)
    assert.equal("the count of a[11] must be at most 10 (PYOCO_FLOW_MAX_ITERATIONS), got 11", errors[1].message)
  end)

  it("reports everything at once: structure, syntax, unknown tasks, selectors", function()
    local lines, errors = refuse [[
flow:
  graph: |
    fetch >> prase
      >> (stats
    fetch >> stats
  grph: 1
tasks:
  fetch: {callable: fetch}
  parse:
    callable: m:parse
    inputs: {a: $node.zz.output, b: $other, c: $env.HOME}
  stats: {callable: m:stats}
]]
    assert.same({
      "3:14 unknown_task flow.graph",
      "4:7 syntax flow.graph",
      "6:3 unknown_flow_keys flow.grph",
      "8:21 invalid_task_callable tasks.fetch.callable",
      "11:17 bad_selector tasks.parse.inputs.a",
      "11:37 bad_selector tasks.parse.inputs.b",
      "11:48 bad_selector tasks.parse.inputs.c",
    }, lines)
    assert.equal("did you mean parse?", errors[1].hint)
    assert.equal("    fetch >> prase\n             ^^^^^", errors[1].caret)
    assert.equal("did you mean graph?", errors[3].hint)
    assert.equal("list HOME in runtime.expose_env", errors[7].hint)
  end)

  it("reports cycles and $node of a later task", function()
    assert.same({ "1:26 cycle flow.graph" },
      refuse "flow: {graph: 'a >> b >> a'}\ntasks: {a: {callable: 'm:a'}, b: {callable: 'm:b'}}")
    assert.same({ "2:42 bad_selector tasks.a.inputs.x" },
      refuse "flow: {graph: a >> b}\ntasks: {a: {callable: 'm:a', inputs: {x: $node.b.output}}, b: {callable: m:b}}")
  end)

  it("survives any single byte deleted, with errors that JSON can carry", function()
    local file <close> = assert(io.open(require("host").home .. "/flows/hello.yaml"))
    local example = file:read("a")
    assert.same({}, assert(document.read(example)).warnings)
    local foreign = "flow:\n  graph: |\n    " .. ("データ & "):rep(20) .. "読む >> (書く | é)\n  defaults: {値: ö}\n" ..
      "tasks:\n  読む: {callable: 'm:é'}\n  データ: {callable: 'm:d', inputs: {x: $node.読む.output.é}}\n"
    local whole = [[
flow:
  graph: |
    (a >> b[2])["$ctx.l as i"] >> switch("$node.b.output")["x" >> c % ("$node.c.output > 1", 9), "*" >> d]
runtime: {expose_env: [H]}
tasks:
  a: {run: [x, $ctx.i, "--n=$ctx.n"], env: {A: $env.H}, retries: 2, parallel: 2}
  b: {callable: 'm:b', inputs: {x: $node.a.output}, backoff: 2, outputs: [results.b]}
  c: {run: "x \"$A\"", cwd: /, timeout_sec: 3}
  d: {callable: 'm:d', fail_policy: isolate}
]]
    assert.truthy(document.read(whole))
    for _, text in ipairs { example, foreign, whole } do
      for i = 1, #text do
        local doc, _, _, errors = document.read(text:sub(1, i - 1) .. text:sub(i + 1))
        assert.is_true(doc ~= nil or #errors > 0)
        for _, found in ipairs(errors or {}) do assert.is_true(found.line >= 1 and found.column >= 1) end
        assert(json.encode(errors or {}))
      end
    end
  end)

  it("stays fast and small on hostile documents", function()
    local rows = {}
    for i = 1, 5000 do rows[i] = ("  t%d: {callable: x, inputs: {a: $node.q%d.output}}"):format(i, i) end
    local lines = refuse("flow:\n  graph: " .. ("zz & "):rep(20000) .. "a\ntasks:\n" .. table.concat(rows, "\n"))
    assert.equal(101, #lines)
    assert.equal("2:10 unknown_task flow.graph", lines[1])
    assert.equal(1, #refuse("flow: {graph: '" .. ("("):rep(10000) .. "'}"))
  end)
end)
