--- Random documents, and random runs of those that are good, for as long as told: what is too long for the specs.
--- usage: pyoco-host spec/fuzz/run.lua [--seconds 60] [--seed N]     (make night)
--- Ends at the first thing that should not be, with the seed and the document that shows it.
local root = require("host").home
package.path = table.concat({ root .. "/?.lua", root .. "/?/init.lua", package.path }, ";")

local json = require "host.json"
local uv = require "luv"
local engine_local = require "pyoco.engine.local"
local sandbox = require "pyoco.flow.sandbox"
local answer = require "spec.support.answer"
local mutate = require "spec.support.mutate"

local options = { seconds = 60, seed = os.time() }
for i = 1, #arg, 2 do
  local name = arg[i]:match("^%-%-(%a+)$")
  local value = math.tointeger(tonumber(arg[i + 1]))
  if not options[name] or not value then error("usage: spec/fuzz/run.lua [--seconds N] [--seed N]", 0) end
  options[name] = value
end

local HEAD, TASKS = "version: 1\nflow:\n  graph: |\n    ", [[

  defaults: {n: 2, list: [1, a, {k: v}], flag: true, text: abc}
tasks:
  a: {callable: 'm:a', inputs: {x: $ctx.params.n}, outputs: [scratch.a.b, results.z]}
  b: {callable: 'm:b', retries: 2, retry_delay_sec: 0, backoff: 1, fail_policy: isolate}
  c: {callable: 'm:c', timeout_sec: 0.05, inputs: {y: $node.a.output.v}}
  d: {callable: 'm:d', parallel: 3}
]]

local GRAPHS = {
  "a >> (b & c) >> d", "(a | b) >> c >> d", "a >> b[3] >> c[\"$ctx.n\"] & d",
  "a >> d[\"$ctx.list as item\"] >> (b | c)",
  "a >> (b >> c)[\"$ctx.n\"] >> d % \"$ctx.loop.index >= 1\"", "a >> b % (\"$node.b.output == 1\", 3) >> c >> d",
  "a >> switch(\"$ctx.text\")[\"abc\" >> b, \"*\" >> c >> d]", "(a >> switch(\"$ctx.item\")[\"1\" >> b, \"*\" >> c])"
    .. "[\"$ctx.list as item\"] >> d", "a >> (b & (c | d)[2])[\"$ctx.n\"]", "(a & b & c & d)[\"$ctx.list\"]",
}

--- What the tasks of a run do, by chance.
local function make_task(random)
  local closing = { __close = function() if random(2) == 1 then error("closed") end end }
  local deeds = {
    function() return { v = random(3), w = json.array { 1, json.null } } end,
    function() return random(2) == 1 end,
    function() error({ message = "a table" }) end,
    function() error("a text") end,
    function() error(setmetatable({}, { __tostring = function() error("again") end })) end,
    function() return nil, "said so" end,
    function() return print end,
    function() return 0 / 0 end,
    function(ctx) ctx:sleep(random(4) / 1000) return ctx.attempt end,
    function(ctx) ctx:set("scratch.a.b.c", random(9)) return ctx:get("scratch.a", "none") end,
    function(ctx) ctx:log("%s", ctx.loop and ctx.loop.index) print(("\xff"):rep(100)) return ctx.item end,
    function(ctx)
      local _ <close> = setmetatable({}, closing)
      coroutine.wrap(function() ctx:sleep(0) end)()
      return "waited"
    end,
    function() while true do pcall(function() end) if random(100000) == 1 then return 1 end end end,
    function(ctx) ctx:sleep(10) end,
    function() string.gsub("x", "x", function() error("in a callback") end) end,
  }
  return function(ctx) return deeds[random(10) <= 7 and random(2) or random(#deeds)](ctx) end -- most go well
end

local PARAMS = { 0, 3, -1, 2.5, "abc", "", true, json.null, json.array {}, json.array { 1, { 2 } }, { k = 1 } }

local ENDED = { SUCCEEDED = true, FAILED = true, CANCELLED = true, PENDING = true }

--- Runs a good document with tasks that do anything; checks that the run ends as one does.
local function run(doc, random)
  local flow = { name = "fuzz", graph = doc.graph, defaults = doc.defaults, functions = {}, params = {} }
  local fn = make_task(random)
  for _, node in ipairs(doc.graph.nodes) do
    flow.functions[node.name], flow.params[node.name] = fn, sandbox.parameters(fn)
  end
  local params = {}
  for _, name in ipairs { "n", "list", "flag", "text" } do
    if random(3) == 1 then params[name] = PARAMS[random(#PARAMS)] end
  end
  local timer = uv.new_timer()
  local eng = assert(engine_local.run(flow, { params = params, max_iterations = 20, memory_limit = 1 << 30,
    on_start = function(eng) timer:start(random(100), 0, function() eng:cancel() end) end }))
  timer:close()
  assert(eng.status == "COMPLETED" or eng.status == "FAILED" or eng.status == "CANCELLED", "the run has a status")
  assert(not (eng.error or ""):find("the engine cannot go on", 1, true), eng.error)
  for name, state in pairs(eng.tasks) do
    assert(ENDED[state], name .. " is " .. state)
    assert(eng.records[name].state == state, name .. ": record and state differ")
  end
  assert(json.encode { eng.status, eng.error or "", eng.records, eng.frames or {}, eng.failed_tasks or {} })
  assert(eng.running == 0, "nothing runs")
  return eng.status
end

local function read_file(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read("a")
end

local seeds = { read_file(root .. "/flows/hello.yaml"), read_file(root .. "/flows/study.yaml") }
for _, graph in ipairs(GRAPHS) do seeds[#seeds + 1] = HEAD .. graph .. TASKS end

--- One document, perhaps run. Its seed is all that it depends on.
local function try(seed)
  math.randomseed(seed)
  local random = math.random
  local text = seeds[random(#seeds)]
  for _ = 1, random(6) - 1 do text = mutate.random(text, random, seeds) end
  local ok, found, doc = pcall(answer.must, text, "answer")
  if not ok then return nil, found, text end
  if found == "bad" then return found end
  ok, found = xpcall(run, debug.traceback, doc, random)
  if not ok then return nil, found, text end
  return found
end

print(("seed %d, %d s"):format(options.seed, options.seconds))
local ends, count, deadline = {}, 0, uv.hrtime() + options.seconds * 1000000000
while uv.hrtime() < deadline do
  local seed = options.seed + count
  local found, message, text = try(seed)
  if not found then
    print(("FAILED with --seed %d\n%s\n%s"):format(seed, message, text))
    os.exit(1)
  end
  ends[found], count = (ends[found] or 0) + 1, count + 1
end
local parts = {}
for name, times in pairs(ends) do parts[#parts + 1] = ("%s %d"):format(name, times) end
table.sort(parts)
print(("%d documents: %s"):format(count, table.concat(parts, ", ")))
assert((ends.bad or 0) > 0 and (ends.COMPLETED or 0) > 0 and (ends.FAILED or 0) > 0, "something is wrong with the fuzz")
