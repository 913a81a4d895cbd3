--- client.lua check as a user runs it: no gateway anywhere.
local host = require "host"
local json = require "host.json"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local uv = require "luv"

local dir

--- Runs `client.lua check` in the temporary folder.
local function check(...)
  return process.run({ "client.lua", "check", ... }, { cwd = dir, env = { PYOCO_TASK_PATH = dir .. "/tasks" } })
end

local function write(name, text) return tmp.write(dir .. "/" .. name, text) end

--- Asserts that a text holds each of the pieces.
local function holds(text, ...)
  for _, piece in ipairs { ... } do assert.truthy(text:find(piece, 1, true), piece .. "\nis not in:\n" .. text) end
end

local GOOD = [[
version: 1
flow:
  graph: a >> b
tasks:
  a: {callable: "steps:one"}
  b: {callable: "steps:two", retries: 2}
]]
local STEPS = "return { one = function() return 1 end, two = function(a) return a end }\n"
local LUA = [[
local pyoco = require "pyoco"
local a = pyoco.task("a", require("steps").one)
return pyoco.flow("mine", a)
]]

describe("client.lua check", function()
  before_each(function()
    dir = tmp.dir()
    uv.fs_mkdir(dir .. "/tasks", 448)
    write("tasks/steps.lua", STEPS)
  end)
  after_each(function() tmp.remove(dir) end)

  it("draws a document that is fine", function()
    write("good.yaml", GOOD)
    local got = check "good.yaml"
    assert.equal("✔ good.yaml  flow good: 2 tasks\n  └─ a\n     └─ b  retries=2\n", got.stdout)
    assert.equal(0, got.code)
    assert.equal(got.stdout, check("--workflow-file", "good.yaml").stdout)
  end)

  it("draws a Lua flow, whose modules come from the task path", function()
    write("mine.lua", LUA)
    local got = check "mine.lua"
    assert.equal("✔ mine.lua  flow mine: 1 task\n  └─ a\n", got.stdout)
    assert.equal(0, got.code)
  end)

  it("lists all errors of a document with place, caret line and hint", function()
    write("bad.yaml", "flow:\n  graph: |\n    a >> bb\ntasks:\n  a: {callabel: 'steps:one'}\n  b: {retries: -1}\n")
    local got = check "bad.yaml"
    assert.equal(1, got.code)
    holds(got.stdout, "✘ bad.yaml  3 errors\n", "bad.yaml:3:10: error: unknown task 'bb'\n", "\n      a >> bb\n"
      .. "           ^^\n  did you mean b?\n", "bad.yaml:5:7: error: unknown key 'callabel'", "did you mean callable?",
      "bad.yaml:6:16: error: tasks.b.retries must be a whole number from 0 to 1000, got -1\n")
  end)

  it("lists callables that are not there, with the nearest name", function()
    write("far.yaml", GOOD:gsub("steps:one", "steps:onee"):gsub("steps:two", "step:two"))
    local got = check "far.yaml"
    assert.equal(1, got.code)
    holds(got.stdout, "far.yaml:5:17: error: task 'a': callable 'steps:onee': module 'steps' has no function 'onee'; "
      .. "did you mean one?", "far.yaml:6:17: error: task 'b': callable 'step:two': no module 'step' in")
  end)

  it("points at a task that has nothing to run", function()
    write("empty.yaml", GOOD:gsub('b: {callable: "steps:two", retries: 2}', "b: {retries: 2}"))
    holds(check("empty.yaml").stdout, "empty.yaml:6:3: error: task 'b': it has no callable and no run\n")
  end)

  it("takes other folders for modules", function()
    write("good.yaml", (GOOD:gsub("steps", "other")))
    uv.fs_mkdir(dir .. "/more", 448)
    write("more/other.lua", STEPS)
    assert.equal(1, check("good.yaml").code)
    assert.equal(0, check("good.yaml", "--tasks", "more").code)
  end)

  it("lists all errors of a Lua flow with file and line", function()
    write("bad.lua", [[
local pyoco = require "pyoco"
local a = pyoco.task("a", print, { inputs = { x = "$node.zz.output" } })
local b = pyoco.task("b", print)
return pyoco.flow("bad", (a >> b) & (b >> a))
]])
    local got = check "bad.lua"
    assert.equal(1, got.code)
    holds(got.stdout, "✘ bad.lua  2 errors\n", "bad.lua:2: error: cycle: a >> b >> a\n",
      "bad.lua:2: error: $node.zz.output: unknown task 'zz'\n", 'local a = pyoco.task("a"')
  end)

  it("says where a Lua file does not compile, and where it raises", function()
    write("syntax.lua", "local x = 1\nlocal y = = 2\n")
    holds(check("syntax.lua").stdout, "syntax.lua:2: error: unexpected symbol near '='\n  local y = = 2\n")
    write("raise.lua", "\nlocal t\nreturn t.x\n")
    holds(check("raise.lua").stdout, "raise.lua:3: error: attempt to index a nil value (local 't')\n  return t.x\n")
    write("nothing.lua", "local x = 1\n")
    local got = check "nothing.lua"
    assert.equal(1, got.code)
    holds(got.stdout, "neither a flow nor a module of tasks", "end a flow file with: return flow(")
  end)

  it("checks a folder, and sums up", function()
    write("good.yaml", GOOD)
    write("mine.lua", LUA)
    write("twin.lua", LUA)
    write("other.yaml", "services: {web: 1}\n")
    write("bad.yaml", "flow: 1\n")
    write("note.txt", "not looked at")
    write("steps.lua", STEPS)
    local got = check "."
    assert.equal(1, got.code)
    holds(got.stdout, "✘ ./bad.yaml  1 error\n", "✔ ./good.yaml  flow good: 2 tasks\n",
      "✔ ./mine.lua  flow mine: 1 task\n", "· ./other.yaml  no flow document\n",
      "· ./steps.lua  a module of tasks: one, two\n", "✘ ./twin.lua  1 error\n",
      "flow 'mine' is declared twice: in ./mine.lua and in ./twin.lua", "\n6 files, 3 flows, 2 errors, 0 warnings\n")
  end)

  it("shows warnings, and succeeds", function()
    write("warn.yaml", GOOD:gsub("a >> b", '"a >> b; a >> b"'))
    local got = check "warn.yaml"
    assert.equal(0, got.code)
    holds(got.stdout, "! warn.yaml  flow warn: 2 tasks\n", "warn.yaml:3:24: warning: 'a' >> 'b' is written twice\n")
  end)

  it("shows parameters of the run, and warns of inputs that no function takes", function()
    write("tasks/steps.lua", "return { one = function(ctx, size, tow) end, two = function(one, values) end }")
    write("in.yaml", "flow:\n  graph: one >> two\n  defaults: {size: 3}\ntasks:\n  one: {callable: 'steps:one'}\n"
      .. "  two: {callable: 'steps:two', inputs: {valuse: 1}}\n")
    local got = check "in.yaml"
    assert.equal(0, got.code)
    holds(got.stdout, "  params: size=3, tow (or is two meant?), values\n", "in.yaml:6:40: warning: task 'two': its "
      .. "function has no parameter 'valuse'\n  did you mean values?\n")
    write("in.lua", [[
local pyoco = require "pyoco"
return pyoco.flow("in", pyoco.task("a", function(b) end, { inputs = { total = 1 } })["$ctx.list as b"])
]])
    got = check "in.lua"
    holds(got.stdout, "in.lua:2: warning: task 'a': its function has no parameter 'total'\n  it has: b\n")
    assert.falsy(got.stdout:find("params: b", 1, true)) -- the item of the loop
  end)

  it("says that a document runs programs", function()
    write("cmd.yaml", "flow: {graph: a}\ntasks:\n  a: {run: [sh, -c, 'echo 1']}\n")
    holds(check("cmd.yaml").stdout, "└─ a  $ sh -c echo 1\n  it runs programs: only workers started with "
      .. "--allow-commands take it\n")
  end)

  it("prints graphs for other programs, errors on standard error", function()
    write("good.yaml", GOOD)
    write("bad.yaml", "flow: 1\n")
    local graph = assert(json.decode(check("good.yaml", "--format", "json").stdout))
    assert.equal("a", graph.nodes[1].name)
    assert.same({ { "a", "b" } }, graph.edges)
    assert.equal("flowchart TD\n", check("good.yaml", "--format", "mermaid").stdout:sub(1, 13))
    assert.equal('digraph "good" {\n', check("good.yaml", "--format", "dot").stdout:sub(1, 17))
    local got = check("bad.yaml", "--format", "dot")
    assert.equal("", got.stdout)
    holds(got.stderr, "bad.yaml:1:7: error: ")
    assert.equal(1, got.code)
  end)

  it("prints a line of JSON for each file", function()
    write("good.yaml", GOOD)
    write("bad.yaml", "flow: 1\n")
    local got = check(".", "--output", "json")
    local bad, good = got.stdout:match("^([^\n]*)\n([^\n]*)\n$")
    bad = json.decode(bad)
    assert.equal("./bad.yaml", bad.file)
    assert.equal(1, bad.errors[1].line)
    assert.same({ { name = "good", tasks = 2 } }, json.decode(good).flows)
  end)

  it("goes on after a file of a folder that cannot be read", function()
    assert(uv.fs_symlink("/nonexistent/flow", dir .. "/gone.lua"))
    write("good.yaml", GOOD)
    write("bytes.yaml", "\255\0")
    local got = check "."
    assert.equal(1, got.code)
    holds(got.stdout, "./gone.lua: error: ./gone.lua: No such file", "✔ ./good.yaml",
      "./bytes.yaml:1:1: error: the text is not UTF-8",
      "3 files, 1 flow, 2 errors")
  end)

  it("checks bundles: each workflow is a flow, and what is wrong has its place", function()
    write("m.lua", "return { f = function(x) return x end }\n")
    local BUNDLE = "workflows:\n  main:\n    flow: {graph: a >> b}\n"
      .. "    tasks: {a: {callable: 'm:f'}, b: {spawn: trial}}\n"
      .. "  trial:\n    flow: {graph: c}\n    tasks: {c: {callable: 'm:f', inputs: {y: 1}}}\n"
      .. "submit: {entry_workflow: main, inputs: {x: 1}}\n"
    write("pack.yaml", BUNDLE)
    local got = check "pack.yaml"
    assert.equal(0, got.code, got.stdout .. got.stderr)
    holds(got.stdout, "pack.yaml  flow main: 2 tasks", "flow trial: 1 task", "spawns trial", "params: x=1",
      "it spawns runs: a submit of it waits for approval",
      "pack.yaml:7:42: warning: task 'c': its function has no parameter 'y'")
    write("pack.yaml", (BUNDLE:gsub("spawn: trial", "spawn: trail"):gsub("m:f', inputs", "m:g', inputs")))
    got = check "pack.yaml"
    assert.equal(1, got.code)
    holds(got.stdout, "pack.yaml:4:46: error: no workflow is called 'trail'", "did you mean trial?")
    write("pack.yaml", (BUNDLE:gsub("m:f', inputs", "m:g', inputs")))
    holds(check("pack.yaml").stdout, "pack.yaml:7:27: error: task 'c': callable 'm:g': module 'm' has no function 'g'")
  end)

  it("says what it was not given", function()
    holds(check().stderr, "- reason: missing argument 'FILE'\n")
    local got = check "none.yaml"
    assert.equal(1, got.code)
    holds(got.stderr, "ERR-PYOCO-0018: file I/O error\n- reason: none.yaml: No such file or directory\n")
  end)

  it("ends with 130 on Ctrl-C, also while a file's top level never ends", function()
    write("loop.lua", "io.stderr:write('here')\nwhile true do end\n")
    local child = process.host({ "client.lua", "check", "loop.lua" }, { cwd = dir })
    process.wait_for(function() return child.stderr:find("here") end)
    child:kill "sigint"
    assert.equal(130, (child:wait()))
  end)

  it("finds nothing wrong with the examples that come with it", function()
    local got = process.run({ "client.lua", "check", "flows" }, { cwd = host.home })
    assert.equal(0, got.code, got.stdout)
    holds(got.stdout, " 0 errors, 0 warnings\n")
  end)
end)
