--- The Lua front end: tasks, operators, flows, and what they refuse.
local pyoco = require "pyoco"
local text = require "pyoco.flow.text"
local compile = require "pyoco.flow.compile"
local canonical = require "pyoco.flow.canonical"

--- A task that does nothing.
local function task(name, options) return (pyoco.task(name, function() end, options)) end

--- Runs fn, which must raise; returns the message.
local function refuse(fn)
  local ok, message = pcall(fn)
  assert.is_false(ok)
  return message
end

describe("pyoco", function()
  it("builds a flow with its functions and parameters", function()
    local fetch = pyoco.task("fetch", function(ctx, url) return ctx, url end)
    local size = pyoco.task("size", function(fetch_result) return #fetch_result end,
      { inputs = { fetch_result = "$node.fetch.output" } })
    local flow = pyoco.flow("etl", fetch >> size, { defaults = { url = "http://localhost/" } })
    assert.equal("etl", flow.name)
    assert.same({ url = "http://localhost/" }, flow.defaults)
    assert.same({ fetch = { "ctx", "url" }, size = { "fetch_result" } }, flow.params)
    assert.equal(3, flow.functions.size("abc"))
    assert.same({ { "fetch", "size" } }, flow.graph.edges)
    assert.is_true(pyoco.is_flow(flow))
    assert.is_false(pyoco.is_flow {})
  end)

  it("keeps file and line of each task", function()
    local line = debug.getinfo(1, "l").currentline
    local here = task "here"
    local node = pyoco.flow("f", here).graph.nodes[1]
    assert.truthy(node.file:find("lua_spec.lua", 1, true))
    assert.is_true(node.line < line + 2)
    local function tail() return pyoco.task("tail", function() end) end
    node = pyoco.flow("f", tail()).graph.nodes[1]
    assert.equal(line + 5, node.line)
  end)

  it("leaves a task callable", function()
    assert.equal(5, pyoco.task("add", function(a, b) return a + b end)(2, 3))
  end)

  it("takes a task that runs a program, without a function", function()
    local line = debug.getinfo(1, "l").currentline + 1
    local train = pyoco.task("train", { run = { "train", "--lr", 0.5 }, env = { N = 3 }, cwd = "/tmp", retries = 2 })
    local flow = pyoco.flow("f", train >> pyoco.task("sh", nil, { run = "ls | wc -l" }))
    local node = flow.graph.nodes[1]
    assert.same({ run = { "train", "--lr", "0.5" }, env = { N = "3" }, cwd = "/tmp" }, node.command)
    assert.same({ retries = 2 }, node.options)
    assert.equal(line, node.line)
    assert.equal("ls | wc -l", flow.graph.nodes[2].command.run)
    assert.same({ {}, {} }, { flow.functions, flow.params })
  end)

  it("never changes a fragment, so that it serves twice", function()
    local a, b, c, d = task "a", task "b", task "c", task "d"
    local start = a >> b
    local one, two = start >> c, start >> d
    assert.equal(3, #pyoco.flow("one", one).graph.nodes)
    assert.equal(4, #pyoco.flow("both", one & two).graph.nodes)
  end)

  it("takes a list of expressions", function()
    local a, b, c = task "a", task "b", task "c"
    assert.same({ { "a", "b" }, { "a", "c" } }, pyoco.flow("f", { a >> b, a >> c }).graph.edges)
  end)

  it("makes the same bytes as the text", function()
    local inputs = { b = { x = "$node.a.output", list = { 1, 2 } }, e = { text = "é", n = 0.5 } }
    local outputs = { c = { "results.c" } }
    local t, rows = {}, {}
    for name in ("abcdef"):gmatch(".") do
      t[name] = task(name, { inputs = inputs[name], outputs = outputs[name] })
      rows[#rows + 1] = { name = name, callable = "m:f", inputs = inputs[name], outputs = outputs[name], line = #rows }
    end
    local a, b, c, d, e, f = t.a, t.b, t.c, t.d, t.e, t.f
    for source, expr in pairs {
      ["a >> (b & c) >> d >> e & f"] = a >> (b & c) >> d >> e & f,
      ["(a >> b | c) >> d\na >> e; f"] = { (a >> b | c) >> d, a >> e, f },
      ["((a >> b) >> c) >> (d >> (e >> f))"] = ((a >> b) >> c) >> (d >> (e >> f)),
      ["a >> b | c & d | e >> f"] = a >> b | c & d | e >> f,
    } do
      local from_text = assert(compile.graph(assert(text.parse(source)), rows, { name = "same" }))
      local from_lua = pyoco.flow("same", expr).graph
      local bare = { origins = false }
      assert.equal(canonical.encode(from_text, bare), canonical.encode(from_lua, bare))
      assert.truthy(canonical.encode(from_lua):find('"origins":{"a":{"file":', 1, true))
    end
  end)

  it("holds chains of any length, built from either end", function()
    local left, right
    for i = 1, 10000 do
      local left_task, right_task = task("l" .. i), task("r" .. i)
      left = left and left >> left_task or left_task
      right = right and right_task >> right or right_task
    end
    local graph = pyoco.flow("long", left & right).graph
    assert.equal(20000, #graph.nodes)
    assert.equal(19998, #graph.edges)
  end)

  it("bounds fragments that double", function()
    local a, b = task "a", task "b"
    local x = a | b
    for i = 1, 60 do x = i % 2 == 0 and (x | x) or (x & x) end
    local message = refuse(function() pyoco.flow("f", x) end)
    assert.truthy(message:find("more than 200000 times", 1, true))
  end)

  it("says what stands wrongly beside an operator", function()
    local a = task "a"
    assert.truthy(refuse(function() local x = a >> "b" return x end)
      :find("lua_spec.lua:%d+: >> joins tasks, got a string %('b'%): write the task's variable"))
    assert.truthy(refuse(function() local x = nil & a return x end):find("& joins tasks, got a nil", 1, true))
  end)

  it("refuses wrong tasks", function()
    for message, call in pairs {
      ["task: the name must be a text that is not blank, got a nil"] = function() pyoco.task(nil, print) end,
      ["task: the name must be a text that is not blank, got ''"] = function() pyoco.task(" ", print) end,
      ["task: the name must be a text that is not blank, got one that is not UTF-8"] =
        function() pyoco.task("\xff", print) end,
      ["flow: the name must be a text that is not blank, got ''"] = function() pyoco.flow("", nil) end,
      ["task 'x': unknown option 'runs'; did you mean run?"] = function() pyoco.task("x", { runs = "ls" }) end,
      ["task 'x': unknown option 'retry'; did you mean retries?"] =
        function() pyoco.task("x", print, { retry = 1 }) end,
      ["task 'x': expected a function, or options with run or spawn, got a nil"] = function() pyoco.task("x") end,
      ["task 'x': expected a function, or options with run or spawn"] =
        function() pyoco.task("x", nil, { retries = 1 }) end,
      ["task 'x': options must be a table, got 3"] = function() pyoco.task("x", print, 3) end,
      ["task 'x': unknown option 'input'; did you mean inputs?"] =
        function() pyoco.task("x", print, { input = {} }) end,
      ["task 'x': unknown option 'callable'; known: spawn, fail_on, tag, run, env"] =
        function() pyoco.task("x", print, { callable = "a:b" }) end,
      ["task 'x': inputs must be a mapping of names to values, got a list"] =
        function() pyoco.task("x", print, { inputs = { 1 } }) end,
      ["task 'x': outputs must be a list of paths such as results.size (below scratch, results or params), got 'a'"] =
        function() pyoco.task("x", print, { outputs = "a" }) end,
      ["task 'x': retries must be a whole number from 0 to 1000, got -1"] =
        function() pyoco.task("x", print, { retries = -1 }) end,
      ["task 'x' has a function and a run: keep one of the two"] =
        function() pyoco.task("x", print, { run = "ls" }) end,
      ["task 'x' has cwd, which is for a command, but no run"] =
        function() pyoco.task("x", print, { cwd = "/" }) end,
      ["task x (spec/flow/lua_spec.lua"] = function() pyoco.task("x", { run = "ls" })() end,
    } do
      local got = refuse(call)
      assert.truthy(got:find("lua_spec.lua:%d+: ") and got:find(message, 1, true), got)
    end
  end)

  it("refuses wrong flows, all errors at once", function()
    local a, b = task "a", task "b"
    local late = task("late", { inputs = { x = "$node.b.output", y = "$nope" } })
    local message = refuse(function() pyoco.flow("f", a >> b & late) end)
    assert.truthy(message:find("flow 'f' is wrong:", 1, true))
    assert.truthy(message:find("Invalid reference '$nope'", 1, true))
    message = refuse(function() pyoco.flow("f", a >> b >> a) end)
    assert.truthy(message:find("lua_spec.lua:%d+: cycle: a >> b >> a"))
    message = refuse(function() pyoco.flow("f", a >> task "a") end)
    assert.truthy(message:find("two tasks are called 'a': .*:%d+ and .*:%d+"))
    for text_part, call in pairs {
      ["flow: the name must be a text"] = function() pyoco.flow(a) end,
      ["expected tasks joined by >> & |, got a nil"] = function() pyoco.flow("f") end,
      ["expected tasks joined by >> & |, got an empty list"] = function() pyoco.flow("f", {}) end,
      ["item 2 of the list must be tasks"] = function() pyoco.flow("f", { a, "b" }) end,
      ["unknown option 'default'; did you mean defaults?"] = function() pyoco.flow("f", a, { default = {} }) end,
    } do
      local got = refuse(call)
      assert.truthy(got:find(text_part, 1, true), got)
    end
  end)
end)
