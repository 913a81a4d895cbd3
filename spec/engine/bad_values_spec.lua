--- Values of every kind where the language needs one kind: loops, conditions, switches, selectors, inputs, save paths,
--- commands. A run ends, and its error names the place, the selector and what the value is. From documents, end to end.
local json = require "host.json"
local uv = require "luv"
local document = require "pyoco.flow.document"
local engine_local = require "pyoco.engine.local"
local sandbox = require "pyoco.flow.sandbox"

--- A document with a graph and tasks; `more` has lines of YAML for tasks.
local function read(graph, names, more)
  local lines = { "version: 1", "flow:", "  graph: |", "    " .. graph, "tasks:" }
  for _, name in ipairs(names) do
    lines[#lines + 1] = ("  %s:\n    callable: m:%s%s"):format(name, name, more and more[name] or "")
  end
  return document.read(table.concat(lines, "\n") .. "\n", { name = "spec" })
end

--- Runs a graph; returns the engine.
local function run(graph, functions, options, more)
  local names = {}
  for name in pairs(functions) do names[#names + 1] = name end
  table.sort(names)
  local doc, _, _, errors = read(graph, names, more)
  assert(doc, errors and json.encode(errors))
  local flow = { name = "spec", graph = doc.graph, functions = functions, params = {} }
  for name, fn in pairs(functions) do flow.params[name] = sandbox.parameters(fn) end
  return (assert(engine_local.run(flow, options)))
end

local function one() return 1 end

local nested = 1
for _ = 1, 100 do nested = json.array { nested } end

local VALUES = {
  { "nothing", nil, "null" }, { "null", json.null, "null" }, { "true", true, "a boolean" },
  { "a text", "abc", "a text" }, { "a number as text", "3", "a text" }, { "an empty text", "", "a text" },
  { "a long text", ("x"):rep(1000000), "a text" }, { "NUL", "\0", "a text" }, { "-1", -1, "a number" },
  { "2.5", 2.5, "a number" }, { "1e9", 1e9, "a number" }, { "the largest integer", math.maxinteger, "a number" },
  { "the largest number", 1.7e308, "a number" }, { "a mapping", { a = 1 }, "a mapping" },
  { "nothing in a table", {}, "a mapping" }, { "a list", json.array { 1, 2 }, "a list" },
  { "an empty list", json.array {}, "a list" }, { "a hundred lists in each other", nested, "a list" },
}

--- graph, what begins an error, and which kinds end well
local PLACES = {
  { 'x["$ctx.n"]', '^loop at 4:6 %(x%["%$ctx.n"%]%): ', {} },
  { 'x["$ctx.n as i"]', '^loop at 4:6 ', { ["a list"] = true, ["a mapping"] = true } },
  { 'x["$ctx.n.a.b as i"]', '^loop at 4:6 .*%$ctx%.n%.a%.b: there is no ', {} },
  { 'x % "$ctx.n"', '^loop at 4:7 .*a condition must be true or false: %$ctx%.n is ', { ["a boolean"] = true } },
  { 'x % ("$ctx.n >= 1 and $ctx.n < 5", 2)', '^loop at 4:7 ', {} },
  { 'x % "not $ctx.n"', '^loop at 4:7 .*\'not\' needs true or false', { null = true } },
  { 'x % "\'a\' in $ctx.n"', '^loop at 4:7 ', { ["a text"] = true, ["a mapping"] = true } },
  { 'x % "$ctx.n[0] == 1"', '^loop at 4:7 ', { ["a list"] = true } },
  { 'x % "-$ctx.n * 9223372036854775807 < 0"', '^loop at 4:7 ', { ["a number"] = true } },
  { 'x % "$ctx.n % 0 == 1"', '^loop at 4:7 ', {} },
  { 'switch("$ctx.n")["abc" >> x, "*" >> y]', '^switch at 4:5 .*a switch needs ', { null = true, ["a text"] = true,
    ["a number"] = true, ["a boolean"] = true } },
}

describe("a value of the wrong kind", function()
  for _, place in ipairs(PLACES) do
    it("in " .. place[1] .. " is an error that says where and what, or has a meaning", function()
      for _, row in ipairs(VALUES) do
        local params = { n = row[2] }
        local eng = run(place[1], { x = one, y = one }, { params = params, max_iterations = 50 })
        local what = row[1] .. ": " .. tostring(eng.error)
        assert.truthy(eng.status == "FAILED" or eng.status == "COMPLETED", what)
        if eng.status == "COMPLETED" then
          assert.truthy(place[3][row[3]] or row[3] == "a number", what)
        else
          assert.truthy(eng.error:find(place[2]) or eng.error:find("did not hold after", 1, true), what)
          assert.is_true(#eng.error < 1000, what)
          assert.truthy(json.encode { eng.error, eng.records }, what)
        end
      end
    end)
  end

  it("in an input, out of a result or a save path, is named", function()
    for _, row in ipairs(VALUES) do
      local eng = run("a >> b", { a = function() return row[2] end, b = function(v) return v end }, nil,
        { b = "\n    inputs: {v: $node.a.output.x.y}" })
      if eng.tasks.b == "FAILED" then
        assert.truthy(eng.error:find("$node.a.output.x.y", 1, true), row[1] .. ": " .. eng.error)
      end
      eng = run("a >> b", { a = function() return row[2] end, b = one }, nil,
        { a = "\n    outputs: [scratch.v, scratch.w.x]", b = "\n    outputs: [scratch.v.x.y]" })
      assert.truthy(eng.status == "COMPLETED" or eng.error:find("scratch.v", 1, true), row[1])
    end
  end)

  it("in a command is refused before it starts", function()
    for _, given in ipairs { {}, { 1, nil, 3 }, { "" }, { "true", print }, { "true", {} }, { "a\0b" }, { env = {} },
      { "true", env = { ["A=B"] = "x" } }, { "true", env = { A = {} } }, { "true", cwd = 5 },
      { "true", cwd = "/no/such" },      { "true", timeout_sec = -1 }, { "true", timeout_sec = 0 / 0 }, { "true",
      stdin = 5 }, { "true", chek = true },
      { shell = {} }, { shell = "true", "x" }, 5, "true", { "/no/such/program" }, { "/etc/passwd" }, { "/" } } do
      local eng = run("x", { x = function(ctx) return ctx:exec(given) end })
      assert.equal("FAILED", eng.status, json.encode(type(given) == "table" and {} or given))
      assert.truthy(eng.error:find("ctx:exec", 1, true) or eng.error:find("cannot start", 1, true), eng.error)
    end
  end)

  it("in an http request is refused before it is sent", function()
    for _, given in ipairs { {}, { url = 5 }, { url = "" }, { url = "no url" }, { url = "file:///etc/passwd" },
      { url = "gopher://x" }, { url = "http://a\nb" }, { url = "http://x", method = "GET / HTTP/1.1\r\nX: y" },
      { url = "http://x", headers = { ["a\nb"] = "c" } }, { url = "http://x", headers = { a = "b\r\nc: d" } },
      { url = "http://x", headers = 5 }, { url = "http://x", timeout_sec = -1 }, { url = "http://x", body = {} },
      { url = "http://x", ulr = 1 }, 5, "http://x\0" } do
      local eng = run("x", { x = function(ctx) return ctx:http(given) end })
      assert.equal("FAILED", eng.status, tostring(given))
      assert.truthy(eng.error:find("ctx:http", 1, true), eng.error)
    end
  end)
end)

describe("a loop over too much", function()
  --- Runs a graph and cancels it soon; the engine must hear it.
  local function cancelled(graph, params)
    local eng = run(graph, { x = one, y = one }, { params = params, on_start = function(eng)
      local timer = uv.new_timer()
      timer:start(20, 0, function()
        timer:close()
        eng:cancel()
      end)
    end })
    assert.equal("CANCELLED", eng.status)
  end

  it("hears a cancel, whether tasks run in it or not", function()
    cancelled('x[10000][10000]')
    cancelled('(x % "true")[10000][10000]')
    cancelled('x["$ctx.e as i"][10000][10000]', { e = json.array {} })
    cancelled('(switch("$ctx.e")["a" >> x])[10000][10000]', { e = "b" })
    cancelled('(x & y)["$ctx.e as i"][10000][10000]', { e = json.array {} })
  end)

  it("is refused by its number, or ends", function()
    for _, graph in ipairs { "x[-1]", "x[1.5]", "x[1000000000000000000000]", 'x % ("true", 0)', 'x % ("true", -1)',
      ("x" .. ("[1]"):rep(1000)), ("("):rep(200) .. "x" .. (")"):rep(200), 'x[""]', 'x["$ctx.a as "]',
      'x["$ctx.a as 1"]',      'x["' .. ("("):rep(1000) .. '"]', 'x % "' .. ("not "):rep(1000) .. 'true"',
      'switch("$ctx.a")[]',
      'switch("$ctx.a")["a" >> x, "a" >> y]', 'switch("$ctx.a")["" >> x]' } do
      local doc, message, code, errors = read(graph, { "x", "y" })
      if doc then
        assert.truthy(run(graph, { x = one, y = one }).status, graph)
      else
        assert.equal("invalid", code)
        assert.truthy(errors[1].line >= 4 and #errors[1].message > 0, message)
      end
    end
  end)
end)
