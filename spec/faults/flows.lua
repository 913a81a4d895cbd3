--- The flows of the stress, and what each may come to. Every task notes its begin and its end in one file, opened to
--- append: that tells how often it ran.
local M = {}

local TASKS = [[
local uv = require "luv"
local EFFECTS = "%s"
local M = {}

local function note(ctx, task, what)
  local loop = ctx.loop
  local file = assert(io.open(EFFECTS, "a"))
  file:write(("%%s %%s %%d %%d %%d %%d %%.3f %%s\n"):format(ctx.run.run_id, task, ctx.run.attempt,
    loop and loop.index or 0, ctx.attempt, uv.os_getpid(), os.time(), what))
  file:close()
end

local function task(name, deed)
  M[name] = function(ctx, ms)
    note(ctx, name, "begin")
    local value = deed(ctx, ms)
    note(ctx, name, "end")
    return value
  end
end

local function nap(ctx, ms) ctx:sleep((ms or 0) / 1000) return ms or 0 end
for _, name in ipairs { "a", "b", "c", "d", "e" } do task(name, nap) end

task("fail", function() error("it was meant to fail", 0) end)
task("again", function(ctx) if ctx.attempt < 3 then error("not yet", 0) end return ctx.attempt end)
task("crash_once", function(ctx) if ctx.run.attempt == 1 then uv.kill(uv.os_getpid(), "sigkill") end return 1 end)
task("crash", function() uv.kill(uv.os_getpid(), "sigkill") end)
task("block", function(_, ms) os.execute(("sleep %%.2f"):format((ms or 0) / 1000)) return 1 end)
task("turn", function() while true do pcall(function() end) end end)
task("loud", function(ctx) for _ = 1, 300 do ctx:log(("l"):rep(500)) end return ("x"):rep(300000) end)
task("seen", function(ctx) return ctx.run.attempt end)
return M
]]

local LUA_FLOWS = [[
local pyoco = require "pyoco"
local tasks = require "fault_tasks"
local t = {}
local OPTIONS = { again = { retries = 3, retry_delay_sec = 0.05 }, turn = { timeout_sec = 3 } }
for name, fn in pairs(tasks) do t[name] = pyoco.task(name, fn, OPTIONS[name] or {}) end
t.stuck = pyoco.task("block", tasks.block, { timeout_sec = 0.3 })
local flow = pyoco.flow
return {
  flow("quick", t.a),
  flow("chain", t.a >> (t.b & t.c) >> t.d),
  flow("either", (t.a | t.b) >> t.c),
  flow("rounds", t.a >> t.b[3] >> t.c),
  flow("fails", t.a >> t.fail >> t.b),
  flow("retried", t.a >> t.again),
  flow("crash_once", t.a >> t.crash_once >> t.b),
  flow("crashes", t.crash),
  flow("blocks", t.block >> t.a),
  flow("stuck", t.stuck >> t.a),
  flow("turns", t.turn),
  flow("loud", t.loud >> t.a),
}
]]

local EDITED = [[
local pyoco = require "pyoco"
local tasks = require "fault_tasks"
return pyoco.flow("edited", pyoco.task("a", tasks.a) >> pyoco.task("b", function() return %d end))
]]

--- Workflow documents for POST /runs/yaml and schedules.
M.YAML = {
  yaml_chain = "version: 1\nflow:\n  graph: a >> (b & c) >> d\n  defaults: {ms: 20}\ntasks:\n"
    .. "  a: {callable: 'fault_tasks:a'}\n  b: {callable: 'fault_tasks:b'}\n  c: {callable: 'fault_tasks:c'}\n"
    .. "  d: {callable: 'fault_tasks:d'}\n",
  yaml_fails = "version: 1\nflow:\n  graph: a >> fail\ntasks:\n  a: {callable: 'fault_tasks:a'}\n"
    .. "  fail: {callable: 'fault_tasks:fail'}\n",
}

--- A bundle whose entry spawns three children, two at once.
M.BUNDLE = [[
version: 1
workflows:
  study:
    flow: {graph: 'a >> trial["$ctx.naps as ms"] >> b'}
    tasks:
      a: {callable: 'fault_tasks:a'}
      trial: {spawn: training, inputs: {ms: $ctx.ms}, parallel: 2}
      b: {callable: 'fault_tasks:b'}
  training:
    flow: {graph: 'c >> d'}
    tasks:
      c: {callable: 'fault_tasks:c'}
      d: {callable: 'fault_tasks:d'}
submit: {entry_workflow: study, inputs: {naps: [10, 300, 60], ms: 10}}
]]

local ABCD = { a = 1, b = 1, c = 1, d = 1 }

--- name -> { status that a run of it comes to by itself, tasks = { name = times that it runs without misfortune },
--- error = pattern of its error, may_miss = its flow is edited meanwhile, is_bundle, is_child }.
M.KINDS = {
  quick = { "COMPLETED", tasks = { a = 1 } },
  chain = { "COMPLETED", tasks = ABCD },
  either = { "COMPLETED", tasks = { a = 1, b = 1, c = 1 } },
  rounds = { "COMPLETED", tasks = { a = 1, b = 3, c = 1 } },
  fails = { "FAILED", tasks = { a = 1, fail = 1 }, error = "meant to fail" },
  retried = { "COMPLETED", tasks = { a = 1, again = 3 } },
  crash_once = { "COMPLETED", tasks = { a = 2, crash_once = 2, b = 1 } },
  crashes = { "FAILED", tasks = { crash = 3 }, error = "worker_crashed" },
  blocks = { "COMPLETED", tasks = { block = 1, a = 1 } },
  stuck = { "FAILED", tasks = { block = 1 }, error = "timed out" },
  turns = { "FAILED", tasks = { turn = 1 }, error = "timed out" },
  loud = { "COMPLETED", tasks = { loud = 1, a = 1 } },
  edited = { "COMPLETED", tasks = { a = 1 }, may_miss = true },
  yaml_chain = { "COMPLETED", tasks = ABCD },
  yaml_fails = { "FAILED", tasks = { a = 1, fail = 1 }, error = "meant to fail" },
  study = { "COMPLETED", tasks = { a = 1, b = 1 }, is_bundle = true },
  training = { "COMPLETED", tasks = { c = 1, d = 1 }, is_child = true },
}

--- Names of kinds that are submitted by flow name, sorted.
M.NAMES = {}
for name, kind in pairs(M.KINDS) do
  if not M.YAML[name] and not kind.is_bundle and not kind.is_child then M.NAMES[#M.NAMES + 1] = name end
end
table.sort(M.NAMES)

--- The text of edited.lua.
---@param version integer
---@return string
function M.edited(version) return EDITED:format(version) end

--- Files of the task root.
---@param effects string path of the file that tasks append to
---@return table<string, string>
function M.files(effects)
  return { ["fault_tasks.lua"] = TASKS:format(effects), ["faults.lua"] = LUA_FLOWS, ["edited.lua"] = M.edited(1) }
end

return M
