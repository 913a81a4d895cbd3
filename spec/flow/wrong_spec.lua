--- Flow files as people write them wrong: each error has its place, and says what to do.
local document = require "pyoco.flow.document"
local process = require "spec.support.process"
local sandbox = require "pyoco.flow.sandbox"
local tmp = require "spec.support.tmp"

local BOM = "\u{FEFF}"
local TASKS = "\ntasks:\n  a: {run: ls}\n  b: {run: ls}\n"

--- Text of a document -> "line:column message | hint" of its first error.
local DOCUMENTS = {
  [BOM .. "flow: {graph: a >> z2}" .. TASKS] = "1:20 unknown task 'z2' | declare it below tasks:, or correct its name",
  ["flow: {graph: a　>> b}" .. TASKS] =
    "1:15 unknown task 'a　' | a full-width blank stands there: write an ordinary one",
  ["flow: {graph: a ＞＞ b}" .. TASKS] =
    "1:17 expected '>>', '&', '|' or the end of the line, got '＞＞' | write > in place of the full-width ＞",
  ["flow: {graph: （a）}" .. TASKS] = "1:15 unknown task '（a）' | write ( in place of the full-width （",
  ["flow: {graph: a}\ntasks：\n  a: {run: ls}\n"] = "2:1 could not find expected ':' while scanning a simple key"
    .. " | write : in place of the full-width ：",
  ["flow: {graph: a}\ntasks:\n  - a: {run: ls}\n"] =
    "3:3 tasks must be a mapping, got a list | write name: value lines below it, without dashes",
  ["flow: {graph: a}\ntasks: {a: {cmd: ls}}\n"] = "2:13 unknown key 'cmd' | did you mean run?",
  ["flow: {graph: a}\ntasks: {a: {run: ls, timeout: 3}}\n"] = "2:22 unknown key 'timeout' | did you mean timeout_sec?",
  ["flow: {graph: a}\ntasks: {a: {run: ls, retry: 3}}\n"] = "2:22 unknown key 'retry' | did you mean retries?",
  ["flow: {graph: a}\ntasks: {a: {run: ls, needs: [b]}}\n"] =
    "2:22 unknown key 'needs' | the order stands in the graph: a >> b for b after a",
  ["flow: {graph: a}\ntasks: {a: {spawn: other}}\n"] =
    "2:13 unknown key 'spawn' | only tasks of a bundle (workflows:) spawn runs",
  ["flow: {graph: my task}" .. TASKS] = "1:18 expected '>>', '&', '|' or the end of the line, got 'task'"
    .. " | join tasks by >>, & or |; a name with a blank in it goes in quotes",
  [""] = "1:1 a flow document is a mapping, this is empty | start with version: 1, flow: and tasks:",
}

--- Last lines of a Lua file that has the tasks a and b -> "line: message".
local LUA = {
  ['return flow("x", "a >> b")'] = "4: flow 'x': expected tasks joined by >> & |, got a string ('a >> b')",
  ['return flow("x", a >> b, { default = {} })'] = "4: flow 'x': unknown option 'default'; did you mean defaults?",
  ['local c = task("a", print)\nreturn flow("x", a >> c)'] = "5: flow 'x': two tasks are called 'a'",
  ['return flow("x", a + b)'] = "4: tasks have no +; they are joined by x >> y (y after x), x & y",
  ['return flow("x", a > b)'] = "4: tasks have no < and >; they are joined by x >> y",
  ['return flow("x", a .. b)'] = "4: tasks have no ..; they are joined by x >> y",
  ['return flow("x", a() >> b)'] = "4: >> joins tasks, got a number: write the task itself, not a call of it",
  ['return flow("x", pyoco.switch("$ctx.m")["A" >> a])'] = [[got a string ('A'): write the task's variable, not its ]]
    .. [[name; in Lua a switch is written switch "$ctx.mode" { A = x, ["*"] = y }]],
  ['return flow("x", a.retries(3))'] = "4: tasks have no 'retries'; options are the last argument: task(\"name\", fn, "
    .. "{ retries = ... })",
  ['return flow("x", a >> bb)'] = "4: undeclared global 'bb'; did you mean b?",
  ['local sum = a\nreturn flow("x", a >> sun)'] = "5: undeclared global 'sun'; did you mean sum?",
  ['local c = prnt'] = "4: undeclared global 'prnt'; did you mean print?",
  ['return flow("x", task("c", print, { spawn = "y" }))'] =
    "4: task 'c' has a function and a spawn: keep one of the two",
  ['return flow("x", task("c", { spawn = "y", tag = "a b" }))'] = "4: task 'c': tag must be a tag: one word",
  ['local z = require "zzz"'] = "4: module 'zzz' not found: not in ",
}

describe("flow files that are wrong", function()
  for text, expected in pairs(DOCUMENTS) do
    it("say what to do: " .. expected, function()
      local _, _, _, errors = document.read(text)
      local first = errors[1]
      local got = ("%d:%d %s | %s"):format(first.line, first.column, first.message:gsub("; known: .*", ""), first.hint)
      assert.equal(expected, got)
    end)
  end

  for text, expected in pairs(LUA) do
    it("in Lua have the line: " .. expected, function()
      local _, message = sandbox.new({ "/nowhere" }):run("x.lua", 'local pyoco = require "pyoco"\n'
        .. 'local task, flow = pyoco.task, pyoco.flow\n'
        .. 'local a, b = task("a", function() return 1 end), task("b", print)\n' .. text)
      assert.truthy(message:find(expected, 1, true), message)
    end)
  end

  it("may begin with an editor's byte order mark, and end their lines as Windows does", function()
    local doc = assert(document.read(BOM .. ("flow: {graph: a >> b}" .. TASKS):gsub("\n", "\r\n")))
    assert.equal(2, #doc.graph.nodes)
    local ok, value = sandbox.new({}):run("x.lua", BOM .. "#!/usr/bin/env x\r\nreturn 7\r\n")
    assert.same({ true, 7 }, { ok, value })
  end)

  it("have carets as wide as what stands above them", function()
    local _, _, _, errors = document.read("flow: {graph: 取得 >> 解折}\ntasks: {取得: {run: ls}, 解析: {run: ls}}\n")
    assert.equal("flow: {graph: 取得 >> 解折}\n              　　    ^^^^", errors[1].caret)
  end)

  describe("at check", function()
    local dir

    before_each(function() dir = tmp.dir() end)
    after_each(function() tmp.remove(dir) end)

    local function check(text)
      tmp.write(dir .. "/f.lua", text)
      return process.run({ "client.lua", "check", "f.lua" }, { cwd = dir }).stdout
    end

    local HEAD = 'local pyoco = require "pyoco"\nlocal a = pyoco.task("a", function(cxt) end)\n'

    it("come to an end when tasks are returned instead of a flow", function()
      for _, last in ipairs { "return a", "return a >> a", "return { a >> a }" } do
        local got = check(HEAD .. last)
        assert.truthy(got:find('end a flow file with: return flow("name", first >> second)', 1, true), got)
      end
      -- a worker looks through all files of its folder for a flow
      assert.same({}, require("pyoco.flow.load").list({ dir }).flows)
    end)

    it("may spawn what nobody declares: a warning, since other workers may have it", function()
      tmp.write(dir .. "/other.lua", 'local pyoco = require "pyoco"\n'
        .. 'return pyoco.flow("training", pyoco.task("t", function() end))')
      local spawn = 'return pyoco.flow("x", pyoco.task("s", { spawn = "%s" }))'
      local got = check(HEAD .. spawn:format "training")
      assert.falsy(got:find("warning", 1, true), got)
      assert.truthy(got:find("only workers started with --allow-spawn run it", 1, true), got)
      got = check(HEAD .. spawn:format "trainign")
      assert.truthy(got:find("f.lua:3: warning: task 's' spawns 'trainign': flow 'trainign' is not declared in .; "
        .. "did you mean training?", 1, true), got)
    end)

    it("are explained where Lua's own words are not enough", function()
      local got = check(HEAD .. "local 訓練 = a\n")
      assert.truthy(got:find("f.lua:3: error: <name> expected near", 1, true)
        and got:find("names of variables are a-z", 1, true), got)
      got = check(HEAD .. 'return pyoco.flow("x", a)')
      assert.truthy(got:find("params: cxt (or is ctx meant?)", 1, true), got)
    end)
  end)
end)
