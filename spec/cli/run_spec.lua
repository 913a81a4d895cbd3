--- client.lua run as a user runs it: flows in the program's own process, no server anywhere.
local host = require "host"
local json = require "host.json"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local uv = require "luv"

local dir

local function options() return { cwd = dir, env = { PYOCO_TASK_PATH = dir .. "/tasks", NO_COLOR = "1" } } end

--- Runs `client.lua run` in the temporary folder to its end.
local function run(...) return process.run({ "client.lua", "run", ... }, options()) end

--- Starts it.
local function start(...) return process.host({ "client.lua", "run", ... }, options()) end

--- Starts it on a terminal.
local function on_terminal(arguments)
  local command = ("stty cols 80 rows 24; exec '%s' client.lua run %s"):format(host.exe, arguments)
  return process.spawn("script", { "-qefc", command, "/dev/null" }, options())
end

--- The process that `script` runs.
local function child_of(script)
  local file <close> = assert(io.open(("/proc/%d/task/%d/children"):format(script.pid, script.pid)))
  return math.tointeger(file:read("n"))
end

--- What stands on the screen: the text after the last redraw, without escape sequences.
local function last_screen(text)
  return (text:gsub("^.*\27%[%d+A\r", ""):gsub("\27%[[%d;?]*%a", ""):gsub("\r", ""))
end

local function write(name, text) return tmp.write(dir .. "/" .. name, text) end

--- Asserts that a text holds each of the pieces.
local function holds(text, ...)
  for _, piece in ipairs { ... } do assert.truthy(text:find(piece, 1, true), piece .. "\nis not in:\n" .. text) end
end

--- A Lua flow file whose tasks are `code`.
local function flow(code)
  return 'local pyoco = require "pyoco"\nlocal task, flow = pyoco.task, pyoco.flow\n' .. code
end

local SUM = flow [[
local add = task("add", function(ctx, a, b)
  ctx:log("adding %d", a)
  return a + b
end)
local twice = task("twice", function(add) return add * 2 end)
return flow("sum", add >> twice, { defaults = { a = 1, b = 2 } })
]]

describe("client.lua run", function()
  before_each(function()
    dir = tmp.dir()
    uv.fs_mkdir(dir .. "/tasks", 448)
  end)
  after_each(function() tmp.remove(dir) end)

  --- A bundle whose workflow `main` spawns `trial` for each item, and adds up what they tell.
  local function write_bundle(child)
    write("tasks/m.lua", ([[
local M = {}
function M.f(ctx, item) ctx:log("item %%s", item) %s return item * 2 end
function M.sum(a)
  local sum = 0
  for _, child in ipairs(a) do if child.status == "COMPLETED" then sum = sum + child.outputs.b end end
  return sum
end
return M]]):format(child or ""))
    write("bundle.yaml", "workflows:\n  main: {flow: {graph: 'a[\"$ctx.items as item\"] >> sum'}, tasks: {"
      .. "a: {spawn: trial, inputs: {item: $ctx.item}, parallel: 2}, sum: {callable: 'm:sum'}}}\n"
      .. "  trial: {flow: {graph: b}, tasks: {b: {callable: 'm:f'}}}\n"
      .. "submit: {entry_workflow: main, inputs: {items: [1, 2]}}\n")
  end

  it("runs a bundle with its child runs: lines of JSON tell of both", function()
    write_bundle()
    local got, events, of_child = run "bundle.yaml", {}, {}
    assert.equal(0, got.code, got.stderr)
    for line in got.stdout:gmatch("[^\n]+") do
      local event = assert(json.decode(line))
      events[#events + 1] = event
      if event.event == "child" then of_child[event.data.run_id] = {} end
      local mine = of_child[event.data.run_id]
      if mine then mine[#mine + 1] = event end
    end
    local last = events[#events].data
    assert.same({ "COMPLETED", 6, 2 }, { last.status, last.task_records.sum.output, last.spawn_count })
    assert.same({ b = 4 }, last.result_summary.outputs.a[2].outputs)
    local second = of_child[last.child_run_ids[2]]
    local kinds = {}
    for i, event in ipairs(second) do kinds[i] = event.event end
    assert.same({ "child", "task", "log", "task", "run" }, kinds)
    assert.same({ "a", "trial", 1 }, { second[1].data.task, second[1].data.flow_name, second[1].data.iteration[1] })
    assert.same({ "COMPLETED", last.run_id, "a", 1, 4 }, { second[5].data.status, second[5].data.parent_run_id,
      second[5].data.spawned_from_task, second[5].data.spawn_depth, second[5].data.task_records.b.output })
  end)

  it("runs the entry workflow of a bundle unless told otherwise; --output plain names whose lines they are", function()
    write_bundle()
    assert.equal(0, run("bundle.yaml", "--flow", "trial", "--param", "item=1").code)
    local got = run("bundle.yaml", "--output", "plain")
    holds(got.stdout, "a[1] spawns trial, run ", "a[1]/b: item 2\n", "a[1]/b SUCCEEDED ", "a[1] trial COMPLETED\n",
      "\n  sum  6\n")
  end)

  it("shows child runs below the task that has spawned them; why one failed stands at the end", function()
    write_bundle('if item == 2 then error("two is too many") end')
    local child = on_terminal "bundle.yaml"
    assert.equal(0, (child:wait()))
    local screen = last_screen(child.stdout)
    holds(screen, "└─ ↻ each item of $ctx.items, 2 at a time  ×2\n   ┆  └─ ✔ a ", "\n   ┆     ┆  ├─ ✔ a[0] trial  ",
      "\n   ┆     ┆  └─ ✘ a[1] trial  ", "\n   ┆     ┆     └─ ✘ b ", "\n   └─ ✔ sum ",
      "child run a[1] of trial\nerror\n  ", "two is too many\n  in task b\n", "  >     2 | function M.f(")
    assert.falsy(screen:find("✔ b", 1, true), screen) -- of one that ended well the line is enough
  end)

  it("keeps its drawing together on a terminal that is too narrow for it: lines are cut, not wrapped", function()
    write_bundle()
    local command = ("stty cols 24 rows 12; exec '%s' client.lua run bundle.yaml"):format(host.exe)
    local child = process.spawn("script", { "-qefc", command, "/dev/null" }, options())
    assert.equal(0, (child:wait()))
    local off, on = 0, 0
    for at in child.stdout:gmatch("()\27%[%?7l") do off = at end
    for at in child.stdout:gmatch("()\27%[%?7h") do on = at end
    assert.truthy(off > 0 and on > off, child.stdout)
  end)

  it("takes child runs along when it is interrupted, waiting or computing", function()
    for _, code in ipairs { "ctx:sleep(60)", "while true do end" } do
      write_bundle(code)
      local child = start("bundle.yaml", "--output", "plain")
      process.wait_for(function() return child.stdout:find("a[0]/b: item 1", 1, true) end)
      child:kill "sigint"
      assert.equal(130, (child:wait()))
      holds(child.stdout, "a[0] trial CANCELLED", "a[1] trial CANCELLED", "main  CANCELLED")
    end
  end)

  it("runs a Lua flow; --output plain says what happens, then the outputs", function()
    write("sum.lua", SUM)
    local got = run("sum.lua", "--param", "a=5", "--output", "plain")
    assert.equal(0, got.code)
    holds(got.stdout, "add: adding 5\n", "add SUCCEEDED ", "twice SUCCEEDED ", "sum  COMPLETED  ",
      "\noutputs\n  add    7\n  twice  14\n")
    assert.equal("", got.stderr)
  end)

  it("runs a document, with callables of the task path or of its own folder", function()
    write("doc.yaml", "flow: {graph: a >> b}\ntasks:\n  a: {callable: 'steps:one'}\n  b: {callable: 'near:two'}\n")
    write("tasks/steps.lua", "return { one = function() return 1 end }")
    write("near.lua", "return { two = function(a) return a + 1 end }")
    local got = run("doc.yaml", "--output", "plain")
    assert.equal(0, got.code, got.stderr)
    holds(got.stdout, "doc  COMPLETED", "  b  2\n")
  end)

  it("prints a line of JSON for each event, and the whole run at last", function()
    write("sum.lua", SUM)
    local got, events = run "sum.lua", {}
    for line in got.stdout:gmatch("[^\n]+") do events[#events + 1] = assert(json.decode(line)) end
    assert.equal("task", events[1].event)
    assert.same({ "add", "RUNNING" }, { events[1].data.task, events[1].data.state })
    assert.same({ "log", "adding 1\n" }, { events[2].event, events[2].data.text })
    local last = events[#events]
    assert.equal("run", last.event)
    assert.equal("COMPLETED", last.data.status)
    assert.equal(6, last.data.task_records.twice.output)
    assert.equal("number", type(last.data.end_time))
  end)

  it("fails with the error, the traceback and the line of the flow's own source", function()
    write("bad.lua", flow [[
local boom = task("boom", function(ctx)
  local t
  return t.field
end)
return flow("bad", boom)
]])
    local got = run("bad.lua", "--output", "plain")
    assert.equal(1, got.code)
    holds(got.stdout, "boom FAILED", "error\n  bad.lua:5: attempt to index a nil value (local 't')\n", "in task boom",
      "bad.lua:5\n        3 | local boom = task(\"boom\", function(ctx)\n        4 |   local t\n"
      .. "  >     5 |   return t.field\n")
  end)

  it("shows loops, retries, branches and isolated failures", function()
    write("all.lua", flow [[
local list = task("list", function() return { 1, 2, 3 } end)
local tries = 0
local work = task("work", function(item)
  tries = tries + 1
  if tries == 1 then error("flaky", 0) end
  return item * 2
end, { retries = 1, retry_delay_sec = 0.01 })
local left, right = task("left", function() return "l" end), task("right", function() return "r" end)
local lame = task("lame", function() error("on purpose", 0) end, { fail_policy = "isolate" })
return flow("all", list >> work["$node.list.output as item"] >> pyoco.switch "$ctx.way" { L = left, ["*"] = right }
  & lame, { defaults = { way = "L" } })
]])
    local got = run("all.lua", "--output", "plain")
    assert.equal(0, got.code, got.stdout)
    holds(got.stdout, "work failed, attempt 2 in ", ": flaky\n", "  work  [2,4,6]\n",
      "isolated failure\n  lame: on purpose\n")
    local child = on_terminal "all.lua"
    assert.equal(0, (child:wait()))
    local screen = last_screen(child.stdout)
    holds(screen, "↻ each item of $node.list.output  ×3\n", "work   ", "×3 attempt 2", "◇ by $ctx.way\n",
      'otherwise  not taken\n', "– right", "skipped", "✘ lame", "isolated  on purpose")
  end)

  it("shows a live tree on a terminal, and what tasks print above it", function()
    write("go", "")
    write("wait.lua", flow [[
local a = task("a", function(ctx)
  print("hello from a")
  while not io.open("now") do ctx:sleep(0.01) end
  return 1
end)
local b = task("b", function(a) print("no newline"); io.write("at the end") return a + 1 end)
return flow("wait", a >> b)
]])
    local child = on_terminal "wait.lua"
    process.wait_for(function() return child.stdout:find("a │ hello from a") end)
    process.wait_for(function() return child.stdout:find("wait  RUNNING") end)
    write("now", "")
    assert.equal(0, (child:wait()))
    holds(child.stdout, "b │ no newline", "b │ at the end")
    local screen = last_screen(child.stdout)
    holds(screen, "wait  COMPLETED  ", "└─ ✔ a", "   └─ ✔ b", "outputs\n  a  1\n  b  2\n")
    assert.truthy(child.stdout:find("\27[?25h", 1, true))
  end)

  it("says what is wrong with a file, and does not run it", function()
    write("bad.yaml", "flow:\n  graph: a >> bb\ntasks:\n  a: {callable: 'x:y'}\n  b: {callable: 'x:y'}\n")
    local got = run "bad.yaml"
    assert.equal(1, got.code)
    assert.equal("", got.stdout)
    holds(got.stderr, "bad.yaml:2:15: error: unknown task 'bb'\n", "did you mean b?\n")
  end)

  it("wants to know which of several flows, and names the nearest", function()
    write("two.lua", flow [[
local a = task("a", function() return 1 end)
return { flow("first", a), flow("second", a) }
]])
    holds(run("two.lua").stderr, "two.lua declares several flows", "--flow: first, second")
    holds(run("two.lua", "--flow", "secnd").stderr, "declares no flow 'secnd'", "did you mean --flow second?")
    assert.equal(0, run("two.lua", "--flow", "second").code)
    write("steps.lua", "return { one = function() end }")
    holds(run("steps.lua").stderr, "steps.lua has no flow in it: it is a module of tasks")
    holds(run(".").stderr, "name one file of it; check takes folders")
    holds(run("none.lua").stderr, "ERR-PYOCO-0018: file I/O error\n- reason: none.lua: No such file")
    holds(run("two.lua", "--params", "[1]").stderr, "--params must be a JSON object")
  end)

  it("cancels on Ctrl-C, wherever a task is, and exits with 130", function()
    local waits = 'print("here")\n  ctx:sleep(1000)'
    local computes = 'print("here")\n  while true do end'
    for _, code in ipairs { waits, computes } do
      write("long.lua", flow('local a = task("a", function(ctx)\n  ' .. code .. '\nend)\nreturn flow("long", a)\n'))
      local child = start("long.lua", "--output", "plain")
      process.wait_for(function() return child.stdout:find("here") end)
      child:kill "sigint"
      assert.equal(130, (child:wait()))
      holds(child.stdout, "a CANCELLED", "long  CANCELLED")
    end
  end)

  it("ends the programs of a run that is cancelled, daemons too", function()
    write("cmd.lua", flow [[
local a = task("a", { run = "setsid sleep 300 & echo $$ $!; sleep 301" })
return flow("cmd", a)
]])
    local child = start("cmd.lua", "--output", "plain")
    process.wait_for(function() return child.stdout:find("a: %d+ %d+\n") end)
    local shell, daemon = child.stdout:match("a: (%d+) (%d+)\n")
    child:kill "sigint"
    assert.equal(130, (child:wait()))
    for _, pid in ipairs { shell, daemon } do
      assert.is_nil((uv.kill(math.tointeger(tonumber(pid)), 0)), pid .. " is still there")
    end
    holds(child.stdout, "cmd  CANCELLED")
  end)

  it("runs commands of documents: it is the user's own machine", function()
    write("cmd.yaml", "flow: {graph: a}\ntasks:\n  a: {run: [sh, -c, 'echo 42']}\n")
    local got = run("cmd.yaml", "--output", "plain")
    assert.equal(0, got.code, got.stdout .. got.stderr)
    holds(got.stdout, "a: 42\n", "  a  42\n")
  end)

  it("ends at once on a second Ctrl-C, though a task is in code that does not return", function()
    write("stuck.lua", flow [[
local a = task("a", function() print("here") return (("a"):rep(60):find(("a*"):rep(30) .. "b")) end)
return flow("stuck", a)
]])
    local child = start("stuck.lua", "--output", "plain")
    process.wait_for(function() return child.stdout:find("here") end)
    child:kill "sigint"
    process.wait_for(function() -- the first one has been taken: the system's own way is back
      local caught = io.open("/proc/" .. child.pid .. "/status"):read("a"):match("SigCgt:%s*(%x+)")
      return tonumber(caught, 16) & 2 == 0
    end)
    child:kill "sigint"
    local _, signal = child:wait()
    assert.equal(2, signal)
  end)

  it("shows the cursor again after Ctrl-C on a terminal", function()
    write("long.lua", flow 'local a = task("a", function(ctx) ctx:sleep(1000) end)\nreturn flow("long", a)\n')
    local child = on_terminal "long.lua"
    process.wait_for(function() return child.stdout:find("RUNNING") end)
    uv.kill(child_of(child), "sigint")
    assert.equal(130, (child:wait()))
    holds(last_screen(child.stdout), "long  CANCELLED", "⊘ a")
    assert.truthy(child.stdout:find("\27[?25h", 1, true))
  end)
end)

describe("client.lua run --watch", function()
  before_each(function()
    dir = tmp.dir()
    uv.fs_mkdir(dir .. "/tasks", 448)
  end)
  after_each(function() tmp.remove(dir) end)

  --- Replaces a file in the way of an editor.
  local function save(name, text)
    write(name .. ".new", text)
    assert(uv.fs_rename(dir .. "/" .. name .. ".new", dir .. "/" .. name))
  end

  local MAIN = flow 'local a = task("a", require("steps").one)\nreturn flow("main", a)\n'

  it("runs again when the file or a module is saved, through a broken edit, until Ctrl-C", function()
    write("main.lua", MAIN)
    write("tasks/steps.lua", "return { one = function() return 'first' end }")
    local child = start("main.lua", "--watch", "--output", "plain")
    process.wait_for(function() return child.stdout:find('a  "first"', 1, true) end)
    save("tasks/steps.lua", "return { one = function() return 'second' end }")
    process.wait_for(function() return child.stdout:find('a  "second"', 1, true) end)
    save("main.lua", "local = 1\n")
    process.wait_for(function() return child.stderr:find("main.lua:1: error: ", 1, true) end)
    save("main.lua", (MAIN:gsub('"main"', '"mended"')))
    process.wait_for(function() return child.stdout:find("mended  COMPLETED", 1, true) end)
    child:kill "sigint"
    assert.equal(130, (child:wait()))
  end)

  it("cuts a run that goes on, and starts the saved one", function()
    write("main.lua", flow [[
local a = task("a", function(ctx) print("old") ctx:sleep(1000) end)
return flow("main", a)
]])
    local child = start("main.lua", "--watch", "--output", "plain")
    process.wait_for(function() return child.stdout:find("a: old") end)
    save("main.lua", flow 'local a = task("a", function() return "new" end)\nreturn flow("main", a)\n')
    process.wait_for(function() return child.stdout:find('a  "new"', 1, true) end)
    holds(child.stdout, "main  CANCELLED")
    child:kill "sigint"
    assert.equal(130, (child:wait()))
  end)

  it("watches documents and the modules of their callables", function()
    write("doc.yaml", "flow: {graph: a}\ntasks:\n  a: {callable: 'steps:one'}\n")
    write("tasks/steps.lua", "return { one = function() return 1 end }")
    local child = start("doc.yaml", "--watch", "--output", "plain")
    process.wait_for(function() return child.stdout:find("a  1", 1, true) end)
    save("tasks/steps.lua", "return { one = function() return 22 end }")
    process.wait_for(function() return child.stdout:find("a  22", 1, true) end)
    child:kill "sigterm"
    assert.equal(130, (child:wait()))
  end)
end)
