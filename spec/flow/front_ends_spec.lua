--- Both front ends: every construct gives the same graph, byte for byte, from a document and from Lua.
local json = require "host.json"
local pyoco = require "pyoco"
local canonical = require "pyoco.flow.canonical"
local document = require "pyoco.flow.document"

local NAMES = { "a", "b", "c", "d", "e" }
local switch = pyoco.switch

--- The canonical bytes of a graph text in a document whose tasks are a..e; `options` = { task = its options }. A
--- document runs all its tasks, so that only those that the graph names are declared.
local function from_text(source, options)
  local tasks = {}
  for _, name in ipairs(NAMES) do
    if source:find("%f[%w]" .. name .. "%f[%W]") then
      local config = { callable = "m:" .. name }
      for key, value in pairs(options[name] or {}) do config[key] = value end
      tasks[#tasks + 1] = ("  %s: %s\n"):format(name, json.encode(config))
    end
  end
  local text = ("flow:\n  graph: |\n    %s\ntasks:\n%s"):format(source:gsub("\n", "\n    "), table.concat(tasks))
  local doc, message, _, errors = document.read(text, { name = "same" })
  assert(doc, message and require("pyoco.flow.problem").text(errors or {}))
  return canonical.encode(doc.graph, { origins = false })
end

--- Those of what `build(a, b, c, d, e)` returns.
local function from_lua(build, options)
  local tasks = {}
  for i, name in ipairs(NAMES) do tasks[i] = pyoco.task(name, print, options[name]) end
  return canonical.encode(pyoco.flow("same", build(table.unpack(tasks))).graph, { origins = false })
end

--- Text beside Lua; options of tasks as third.
local SAME = {
  { "a >> b", function(a, b) return a >> b end },
  { "a >> (b & c) >> d", function(a, b, c, d) return a >> (b & c) >> d end },
  { "(a | b) >> c", function(a, b, c) return (a | b) >> c end },
  { "a >> b | c & d | e", function(a, b, c, d, e) return a >> b | c & d | e end },
  { "a >> b\na >> c; d", function(a, b, c, d) return { a >> b, a >> c, d } end },
  { "flow >> a >> b", function(a, b) return a >> b end },
  { "a[3] >> b", function(a, b) return a[3] >> b end },
  { 'a["$ctx.n"]', function(a) return a["$ctx.n"] end },
  { 'a["$ctx.n * 2"]', function(a) return a["$ctx.n * 2"] end },
  { 'a["$ctx.items as item"] >> b', function(a, b) return a["$ctx.items as item"] >> b end },
  { 'a[ "$ctx.items   as  item" ]', function(a) return a["$ctx.items   as  item"] end },
  { 'a["$ctx.items as item"]', function(a) return a:each("$ctx.items") end },
  { 'a["[1, 2] as i"]', function(a) return a:each("[1, 2]", "i") end },
  { 'a["$ctx.items as i"]', function(a) return a:each("$ctx.items", "i", { parallel = 4 }) end,
    { a = { parallel = 4 } } },
  { 'a % "$node.a.output > 3"', function(a) return a % "$node.a.output > 3" end },
  { 'a % ("$node.a.output > 3", 7) >> b', function(a, b) return a % { "$node.a.output > 3", 7 } >> b end },
  { 'switch("$ctx.x")["A" >> a, "*" >> b >> c]',
    function(a, b, c) return switch "$ctx.x" { ["*"] = b >> c, A = a } end },
  { 'a >> switch("$node.a.output")[10 >> b, "9" >> (c & d), -1.5 >> e]',
    function(a, b, c, d, e) return a >> switch "$node.a.output" { [10] = b, ["9"] = c & d, [-1.5] = e } end },
  { '(a >> b["$ctx.l as i"] % ("$node.b.output", 5) >> c)[2] & d >> e',
    function(a, b, c, d, e) return (a >> b["$ctx.l as i"] % { "$node.b.output", 5 } >> c)[2] & d >> e end },
  { '(switch("$ctx.i")["A" >> a[2], "B" >> (b | c)] >> d)["$ctx.l as i"] | e',
    function(a, b, c, d, e)
      return (switch "$ctx.i" { A = a[2], B = b | c } >> d)["$ctx.l as i"] | e
    end },
  { "a[2][3]", function(a) return a[2][3] end },
  { "a[2] >> (b & c)", function(a, b, c) return a[2] >> (b & c) end },
  { "a >> b", function(a, b) return a >> b end, {
    a = { inputs = { x = "$ctx.params.x", y = { 1, { z = json.null } } }, outputs = { "results.a", "scratch.x.y" } },
    b = { retries = 3, retry_delay_sec = 0.5, backoff = 1, timeout_sec = 10, fail_policy = "isolate" } } },
}

describe("both front ends", function()
  for i, case in ipairs(SAME) do
    it(("make the same bytes of %s (%d)"):format(case[1]:gsub("\n", "; "), i), function()
      local options = case[3] or {}
      local expected = from_text(case[1], options)
      assert.equal(expected, from_lua(case[2], options))
      assert.is_nil(expected:find("origins", 1, true))
      assert.truthy(json.decode(expected, { max_depth = 200 }).version == 1)
    end)
  end

  it("make the same bytes of any expression", function()
    math.randomseed(20261125)
    local fresh

    --- A task that no other part has; its name as text, and itself.
    local function leaf()
      fresh = fresh + 1
      return "t" .. fresh, pyoco.task("t" .. fresh, print)
    end

    local random
    local BINARY = {
      { ">>", function(a, b) return a >> b end }, { "&", function(a, b) return a & b end },
      { "|", function(a, b) return a | b end },
    }

    --- What may stand around an expression: its text in brackets, and itself.
    local WRAP = {
      function(text, x) return text .. "[2]", x[2] end,
      function(text, x) return text .. '["$ctx.n + 1"]', x["$ctx.n + 1"] end,
      function(text, x)
        fresh = fresh + 1
        return ('%s["$ctx.l as i%d"]'):format(text, fresh), x[("$ctx.l as i%d"):format(fresh)]
      end,
      function(text, x) return ('(%s %% "$ctx.loop.index > 2")'):format(text), x % "$ctx.loop.index > 2" end,
      function(text, x) return ('(%s %% ("$ctx.done", 9))'):format(text), x % { "$ctx.done", 9 } end,
      function(text, x, depth)
        local other, y = random(depth + 1)
        local third, z = leaf()
        return ('switch("$ctx.x")["b" >> %s, "*" >> (%s), 7 >> %s]'):format(text, other, third),
          switch "$ctx.x" { b = x, ["*"] = y, [7] = z }
      end,
    }

    --- A random expression: as text, and as a fragment.
    function random(depth)
      local kind = math.random(10)
      if depth > 4 or kind <= 3 then return leaf() end
      local text, x = random(depth + 1)
      if kind <= 7 then
        local other, y = random(depth + 1)
        local op = BINARY[math.random(#BINARY)]
        return ("(%s) %s (%s)"):format(text, op[1], other), op[2](x, y)
      end
      return WRAP[math.random(#WRAP)]("(" .. text .. ")", x, depth)
    end

    for _ = 1, 150 do
      fresh = 0
      local source, expr = random(1)
      local ok, flow = pcall(pyoco.flow, "same", expr)
      assert.is_true(ok, source .. "\n" .. tostring(flow))
      -- Lua declares in the order of its calls; a document in that of its keys
      local rows = {}
      for i, node in ipairs(flow.graph.nodes) do rows[i] = ("  %s: {callable: 'm:f'}"):format(node.name) end
      local doc, _, _, errors = document.read(("flow:\n  graph: |\n    %s\ntasks:\n%s"):format(source,
        table.concat(rows, "\n")), { name = "same" })
      assert(doc, source .. "\n" .. require("pyoco.flow.problem").text(errors or {}))
      local bare = { origins = false }
      assert.equal(canonical.encode(doc.graph, bare), canonical.encode(flow.graph, bare), source)
    end
  end)

  it("keep places apart, of tasks and of frames", function()
    local text = "flow:\n  graph: |\n\n    a  [2]\ntasks: {a: {callable: 'm:a'}}"
    local doc = assert(document.read(text, { name = "same" }))
    local flow = pyoco.flow("same", pyoco.task("a", print)[2])
    local line = debug.getinfo(1, "l").currentline - 1
    local from_doc, lua = json.decode(canonical.encode(doc.graph)), json.decode(canonical.encode(flow.graph))
    assert.same({ a = { callable = "m:a", line = 5, column = 9 } }, from_doc.origins)
    assert.same({ times1 = { title = "a[2]", line = 4, column = 8 } }, from_doc.frame_origins)
    assert.same({ times1 = { title = "a[2]", file = "spec/flow/front_ends_spec.lua", line = line } }, lua.frame_origins)
    assert.equal(line, lua.origins.a.line)
  end)
end)
