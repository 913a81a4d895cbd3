--- The documents of flows/ with any byte deleted or replaced, and documents made to hurt: an answer or errors, each at
--- a place that the document has; never a crash.
local host = require "host"
local json = require "host.json"
local uv = require "luv"
local canonical = require "pyoco.flow.canonical"
local document = require "pyoco.flow.document"
local packed = require "pyoco.flow.packed"
local answer = require "spec.support.answer"
local mutate = require "spec.support.mutate"

local root = host.home .. "/flows"

--- The documents that come with the program, by name.
local function documents()
  local list, scan = {}, assert(uv.fs_scandir(root))
  for name in uv.fs_scandir_next, scan do
    if name:find("%.yaml$") then
      local file <close> = assert(io.open(root .. "/" .. name, "rb"))
      list[#list + 1] = { name = name, text = file:read("a") }
    end
  end
  assert(#list > 0)
  return list
end

local must_answer = answer.must

describe("a document of flows/", function()
  for _, doc in ipairs(documents()) do
    it(doc.name .. " is good; without any one byte, it is that or says why not", function()
      assert.equal("good", must_answer(doc.text, doc.name))
      local seen = {}
      for at, text in mutate.deletions(doc.text) do
        local found = must_answer(text, doc.name .. " without byte " .. at)
        seen[found] = (seen[found] or 0) + 1
      end
      assert.is_true(seen.good > 0 and seen.bad > 0)
    end)

    it(doc.name .. " with any one byte replaced by a nasty one", function()
      for at, text in mutate.replacements(doc.text, { "\0", "\xff", ":", "&", "*" }) do
        must_answer(text, doc.name .. " with byte " .. at .. " replaced")
      end
    end)
  end

  it("is the same from a slot's memory, good or bad", function()
    local text = documents()[1].text
    for _, changed in ipairs { text, text:gsub("greet", "graet", 1), text:sub(1, 100) } do
      for _ = 1, 2 do
        local one, _, one_code = document.read(changed, { name = "x" })
        local other, _, other_code = packed.read(changed, { name = "x" })
        assert.equal(one_code, other_code)
        assert.equal(one and canonical.encode(one.graph), other and canonical.encode(other.graph))
      end
    end
  end)
end)

local GRAPH = "version: 1\nflow:\n  graph: %s\ntasks:\n  a: {callable: 'm:a'}\n  b: {callable: 'm:b'}\n"

--- n levels of anchors, each ten times the one before.
local function bomb(n, open, close)
  local lines = { "version: 1", "x0: &x0 " .. open .. "'lol'" .. close }
  for i = 1, n do
    local items = {}
    for j = 1, 10 do items[j] = "*x" .. i - 1 end
    lines[#lines + 1] = ("x%d: &x%d [%s]"):format(i, i, table.concat(items, ", "))
  end
  return table.concat(lines, "\n") .. "\n"
end

local hostile = {
  ["nothing"] = "", ["blanks"] = "  \n\n \t\n", ["NUL"] = "\0", ["every byte"] = (function()
    local bytes = {}
    for i = 0, 255 do bytes[#bytes + 1] = string.char(i) end
    return table.concat(bytes)
  end)(),
  ["a bomb of lists"] = bomb(12, "[", "]"), ["a bomb of texts"] = bomb(30, "", ""),
  ["a bomb in the defaults"] = bomb(8, "[", "]")
    .. "flow: {graph: a, defaults: {x: *x8}}\ntasks: {a: {callable: 'm:a'}}\n",
  ["a bomb of merges"] = (function()
    local lines = { "m0: &m0 {a: 1}" }
    for i = 1, 40 do lines[#lines + 1] = ("m%d: &m%d {<<: [*m%d, *m%d], k%d: 1}"):format(i, i, i - 1, i - 1, i) end
    return table.concat(lines, "\n")
  end)(),
  ["an alias in its own anchor"] = "flow: &a {graph: *a}\n", ["a merge of itself"] = "flow: &a {<<: *a}\n",
  ["an unknown alias"] = "flow: *nowhere\n",
  ["10,000 nested lists"] = ("["):rep(10000), ["10,000 nested maps"] = ("{a: "):rep(10000),
  ["10,000 nested blocks"] = ("- "):rep(10000) .. "x", ["10,000 question marks"] = ("? "):rep(10000),
  ["a deep block"] = (function()
    local lines = {}
    for i = 0, 2000 do lines[#lines + 1] = (" "):rep(i) .. "a:" end
    return table.concat(lines, "\n")
  end)(),
  ["equal keys"] = "version: 1\nversion: 1\nflow: {graph: a, graph: b}\ntasks: {a: {}, a: {}}\n",
  ["tabs"] = "version: 1\nflow:\n\tgraph: a\n",
  ["two documents"] = GRAPH:format("a >> b") .. "---\n" .. GRAPH:format("b"),
  ["a document's end"] = GRAPH:format("a >> b") .. "...\ngarbage: [\n",
  ["directives"] = ("%TAG !e! tag:x,2000:\n"):rep(1000) .. "--- a\n",
  ["foreign tags"] = "flow: !!python/object/apply:os.system ['true']\n",
  ["binary"] = "flow: !!binary R0lGODlhDAAMAIQAAP\n",
  ["a scalar"] = "just text", ["a list"] = "- a\n- b\n", ["a number"] = "5", ["null"] = "~",
  ["UTF-16"] = "\xff\xfev\0:\0 \0001\0", ["UTF-8 that is none"] = GRAPH:format("a >> \xc3\x28 >> b"),
  ["surrogates"] = GRAPH:format('"a >> \\ud800"'), ["escapes that are none"] = GRAPH:format('"\\xZZ"'),
  ["a NUL in the graph"] = GRAPH:format('"a >> \\0 >> b"'), ["control characters"] = GRAPH:format("a >> \1\2\27 >> b"),
  ["a line separator"] = GRAPH:format('"a >>\u{2028} b"'),
  ["odd blanks"] = GRAPH:format('"a >>\u{a0}b\u{3000}& \u{200b}a"'),
  ["1 MB on one line"] = GRAPH:format('"' .. ("a >> b & "):rep(110000) .. 'a"'),
  ["1 MB of brackets"] = GRAPH:format('"' .. ("("):rep(1 << 20) .. '"'),
  ["1 MB of one name"] = GRAPH:format(("n"):rep(1 << 20)), ["1 MB of comments"] = ("# c\n"):rep(1 << 18),
  ["1 MB of colons"] = (":"):rep(1 << 20), ["1 MB of dashes"] = ("-"):rep(1 << 20),
  ["1 MB of quotes"] = ('"'):rep(1 << 20),
  ["a number of 100,000 digits"] = "version: " .. ("9"):rep(100000) .. "\n",
  ["a key of 100,000 bytes"] = ("k"):rep(100000) .. ": 1\nflow: {}\n",
  ["keys that are no texts"] = "? [a, b]\n: 1\n? {c: d}\n: 2\n1: x\ntrue: y\n~: z\n1.5: w\n",
  ["values of other kinds"] = "version: []\nflow: {graph: {a: 1}, defaults: 5}\ntasks: [1, 2]\nruntime: text\n",
  ["tasks of other kinds"] = "flow: {graph: a}\n"
    .. "tasks: {a: 5, b: [], c: ~, d: {callable: {}}, e: {callable: 7}, f: text}\n",
  ["ten thousand tasks of no kind"] = (function()
    local lines = { "flow: {graph: a}", "tasks:" }
    for i = 1, 10000 do lines[#lines + 1] = ("  t%d: %d"):format(i, i) end
    return table.concat(lines, "\n")
  end)(),
  ["every option with every value"] = (function()
    local names = { "retries", "retry_delay_sec", "backoff", "timeout_sec", "fail_policy", "parallel", "inputs",
      "outputs", "run", "env", "cwd", "callable" }
    local values = { "-1", "0", "1e309", ".nan", ".inf", "-.inf", "'x'", "[]", "{}", "~", "true", "[[]]", "{a: {b: c}}",
      "99999999999999999999", "'$ctx.x'", "'\\0'", "[1, 'a', ~]", "2001-01-01" }
    local lines, n = { "flow: {graph: t1}", "tasks:" }, 0
    for _, name in ipairs(names) do
      for _, value in ipairs(values) do
        n = n + 1
        lines[#lines + 1] = ("  t%d: {callable: 'm:f', %s: %s}"):format(n, name, value)
      end
    end
    return table.concat(lines, "\n")
  end)(),
}

describe("a hostile document", function()
  for what, text in pairs(hostile) do
    it("is refused: " .. what, function() assert.equal("bad", must_answer(text, what)) end)
  end

  it("that is only long is taken", function()
    assert.equal("good", must_answer(GRAPH:format("|\n" .. ("    a\n"):rep(170000)), "1 MB of lines"))
    assert.equal("good", must_answer(GRAPH:format('"a >>' .. (" "):rep(1 << 20) .. 'b"'), "1 MB of blanks"))
  end)

  it("with a byte order mark or other line ends is taken", function()
    local text = documents()[1].text
    assert.equal("good", must_answer("\u{feff}" .. text, "BOM"))
    assert.equal("good", must_answer((text:gsub("\n", "\r\n")), "CRLF"))
  end)
end)

describe("a task's name", function()
  --- A document with one task of a name, which the graph mentions in quotes.
  local function named(name)
    local text = json.encode(name)
    return ("version: 1\nflow:\n  graph: |\n    '%s'\ntasks:\n  ? %s\n  : {callable: 'hello_tasks:meet'}\n")
      :format(name, text)
  end

  it("may be a keyword, foreign, long, or have dots and blanks", function()
    for _, name in ipairs { "and", "or", "not", "in", "end", "nil", "function", "true", "null", "None", "flow",
      "switch", "ctx", "params", "results", "item", "__index", "読む", "é", "a.b", "a b", "$ctx", "*", "1",
      ("n"):rep(200) } do
      local doc, _, _, errors = document.read(named(name), { name = "x" })
      assert.truthy(doc, name .. ": " .. json.encode(errors or {}))
      assert.equal(name, doc.graph.nodes[1].name)
    end
  end)

  it("may be anything else only if an answer says so", function()
    for _, name in ipairs { "", " ", "\0", "a\0b", "a\nb", "\27[31m", "'", '"', "a'b", "\u{202e}abc",
      ("n"):rep(100000) } do
      must_answer(named(name), "name " .. name:sub(1, 20))
    end
  end)
end)
