--- `make bench`: how fast and how big we are, beside the floor (spec/bench/floor.c) on the same nats-server.
--- Its options: pyoco-host spec/bench/bench.lua --help
local host = require "host"
package.path = host.home .. "/?.lua;" .. package.path
local system = require "spec.bench.system"
local proc = require "spec.bench.proc"
local profile = require "spec.bench.profile"

--- Parts that need no gateway and worker of ours to run (list starts its own): each module returns fn(out), out = {
--- say = fn(format, ...), row = fn(what, figure, aim, is_met), times = repetitions }.
local ALONE = {
  { name = "compile", module = "spec.bench.compile" },
  { name = "engine", module = "spec.bench.engine" },
  { name = "vm", module = "spec.bench.vm" },
  { name = "exec", module = "spec.bench.exec" },
  { name = "list", module = "spec.bench.list" },
  { name = "batch", module = "spec.bench.batch" },
  { name = "objects", module = "spec.bench.objects" },
  { name = "watch", module = "spec.bench.watch" },
  { name = "bundles", module = "spec.bench.bundles" },
  { name = "wheels", module = "spec.bench.wheels" },
}

--- Parts with a fleet of ours. floor and profile run only when asked for: profile is the throughput part under perf,
--- with the functions that took most in each process.
local WITH_FLEET = { "start", "memory", "latency", "throughput", "floor", "profile" }

local options = { ["latency-runs"] = 500, runs = 5000, connections = 16, slots = 2, ["repeat"] = 3, starts = 9,
  only = "" }

local function parts()
  local names = table.move(WITH_FLEET, 1, #WITH_FLEET, 1, {})
  for _, part in ipairs(ALONE) do names[#names + 1] = part.name end
  return names
end

local function usage()
  local lines = {}
  for name, default in pairs(options) do
    lines[#lines + 1] = ("  --%s %s"):format(name, default == "" and "PART" or default)
  end
  table.sort(lines)
  return ("usage: make bench A=\"...\", with these options and defaults:\n%s\nparts: %s\n"):format(
    table.concat(lines, "\n"), table.concat(parts(), ", "))
end

--- Sets an option; false when there is none like that.
local function set(name, value)
  if not value or options[name] == nil then return false end
  local number = tonumber(value)
  if name ~= "only" then
    options[name] = number
    return number ~= nil
  end
  options.only = value
  return (" " .. table.concat(parts(), " ") .. " "):find(" " .. value .. " ", 1, true) ~= nil
end

for i = 1, #arg, 2 do
  if arg[i] == "--help" then
    io.write(usage())
    return 0
  end
  if not set(arg[i]:match "^%-%-(.+)" or "", arg[i + 1]) then
    io.stderr:write(("bench: %s %s is no option\n"):format(arg[i], arg[i + 1] or ""), usage())
    return 1
  end
end

local function say(fmt, ...)
  io.write(fmt:format(...), "\n")
  io.flush()
end

--- One row of the table: what, the figure, the aim and whether it is met.
local function row(what, figure, aim, is_met)
  say("  %-42s %12s  %s", what, figure, aim and ("aim %s: %s"):format(aim, is_met and "met" or "MISSED") or "")
end

local function ms(us) return ("%.2f ms"):format(us / 1000) end
local function mb(bytes) return ("%.1f MB"):format(bytes / 1048576) end

--- Runs fn several times; the run whose `key` is the median.
local function median(times, key, fn)
  local all = {}
  for i = 1, times do all[i] = fn() end
  table.sort(all, function(a, b) return a[key] < b[key] end)
  return all[(#all + 1) // 2], all
end

local function wanted(part) return options.only == "" or options.only == part end

--- The floor's arguments for runs like ours.
local function floor_args(mode, in_flight, runs, sizes, running_percent)
  local args = { "--mode", mode, "--in-flight", tostring(in_flight), "--runs", tostring(runs),
    "--running", tostring(running_percent) }
  for option, key in pairs { initial = "initial", job = "job", terminal = "terminal", ["running-size"] = "running",
    get = "get" } do
    if sizes[key] then table.move({ "--" .. option, tostring(sizes[key]) }, 1, 2, #args + 1, args) end
  end
  return args
end

--- Says when something else used the machine during a measured stretch: the figures are too low then.
local function show_foreign(values)
  local cores = values.foreign / values.seconds
  if cores > 0.15 then say("    OTHER PROCESSES used %.2f cores meanwhile: measure on a quiet machine", cores) end
end

--- Each process's part of the CPU during a measured stretch.
local function show_cpu(values)
  local total = 0
  for _, it in ipairs(values.usage) do total = total + it.seconds end
  say("  CPU by process (100 %% = one core; all together %.0f %%)", total / values.seconds * 100)
  for _, it in ipairs(values.usage) do
    say("    %-16s %5.1f %%  %6.0f us a run  %4.1f %% of all", it.name, it.seconds / values.seconds * 100,
      it.seconds / values.runs * 1e6, it.seconds / total * 100)
    if it.ended then say("    %s, process %d, ENDED MEANWHILE: a slot that crashed is replaced", it.name, it.pid) end
  end
  show_foreign(values)
end

local function show_floor(sys, in_flight, runs, sizes, running_percent, ours)
  for _, mode in ipairs { "events", "threads" } do
    local args = floor_args(mode, in_flight, runs, sizes, running_percent)
    local floor = median(options["repeat"], "runs_per_sec", function()
      return sys:with_cpu(function(on_line) return sys:floor(args, on_line) end)
    end)
    row(("floor, %s, %d in flight"):format(mode, in_flight), ("%d runs/s"):format(floor.runs_per_sec))
    say("    p50 %s, p99 %s; CPU a run: nats-server %.0f us, floor %.0f us", ms(floor.run_p50_us), ms(floor.run_p99_us),
      floor.usage[1].seconds / floor.runs * 1e6, floor.cpu / floor.runs * 1e6)
    show_foreign(floor)
    if ours then
      local share = ours / floor.runs_per_sec
      row("  ours, as a share of it", ("%.0f %%"):format(share * 100), "over 50 %", share > 0.5)
    end
  end
end

local function start_times(sys)
  say("\nfrom exec to ready, %d starts, nats-server running", options.starts)
  local gateway = sys:time_start(options.starts, sys:gateway_command())
  row("gateway, /health answers: p50", ms(gateway.start_p50_us), "< 100 ms", gateway.start_p50_us < 100000)
  say("    worst %s", ms(gateway.start_max_us))
  local worker = sys:time_start(options.starts, system.worker_command(options.slots, "bench-start"), "bench-start")
  row("worker, its record is written: p50", ms(worker.start_p50_us), "< 100 ms", worker.start_p50_us < 100000)
  say("    worst %s", ms(worker.start_max_us))
end

local AIM_MB <const> = { gateway = 20, supervisor = 6, slot = 8 }

local function memory(sys, when)
  say("\nmemory %s", when)
  for _, it in ipairs(sys:processes()) do
    local pss, private = proc.memory(it.pid)
    local aim = AIM_MB[it.name:match("^%a+")]
    row(("%s, Pss (%d threads)"):format(it.name, proc.threads(it.pid)), mb(pss), aim and ("< %d MB"):format(aim),
      aim and pss < aim * 1048576)
    say("    private pages %s", mb(private))
  end
end

local function latency(sys, sizes)
  say("\none at a time: from before POST /runs/yaml to the terminal frame of the watch, %d runs",
    options["latency-runs"])
  local args = { "--runs", tostring(options["latency-runs"]) }
  sys:load("latency", { "--runs", "50" })
  local got = median(options["repeat"], "run_p50_us", function()
    return sys:with_cpu(function(on_line) return sys:load("latency", args, on_line) end)
  end)
  row("p50", ms(got.run_p50_us), "< 2.5 ms", got.run_p50_us < 2500)
  row("p99", ms(got.run_p99_us), "< 8 ms", got.run_p99_us < 8000)
  say("    worst %s; POST alone p50 %s, p99 %s", ms(got.run_max_us), ms(got.post_p50_us), ms(got.post_p99_us))
  show_cpu(got)
  show_floor(sys, 1, 1000, sizes, 0)
end

local function throughput(sys, sizes)
  say("\nmany: %d runs over %d connections, %d slots", options.runs, options.connections, options.slots)
  local args = { "--runs", tostring(options.runs), "--connections", tostring(options.connections) }
  local got, all = median(options["repeat"], "runs_per_sec", function()
    return sys:with_cpu(function(on_line) return sys:load("throughput", args, on_line) end)
  end)
  row("until the last run was terminal", ("%d runs/s"):format(got.runs_per_sec))
  say("    (%d to %d in %d repetitions); all COMPLETED; posts took %.1f of %.1f s, POST p50 %s, p99 %s",
    all[1].runs_per_sec, all[#all].runs_per_sec, #all, got.posts_seconds, got.seconds,
    ms(got.post_p50_us), ms(got.post_p99_us))
  say("    %.2f puts a run", got.puts_per_run)
  show_cpu(got)
  local running = math.max(0, math.floor((got.puts_per_run - 2) * 100 + 0.5))
  show_floor(sys, options.connections, options.runs, sizes, running, got.runs_per_sec)
end

--- Prints the top of each process's profile; the whole is in the named files.
local function show_profile(sys)
  local _, reports = profile.during(sys:processes(), function()
    return sys:load("throughput", { "--runs", tostring(options.runs), "--connections", tostring(options.connections) })
  end)
  for _, it in ipairs(reports) do
    say("\n%s (more in %s, and with callees in .callers.txt)", it.name, it.file)
    local shown = 0
    for line in it.text:gmatch("[^\n]+") do
      if not line:find("^#") and line:find("%%") and shown < 25 then
        shown = shown + 1
        say("%s", line)
      end
    end
  end
end

--- Runs the parts of ALONE that are wanted; true when no other part is.
local function alone()
  local is_only = false
  for _, part in ipairs(ALONE) do
    if wanted(part.name) then require(part.module)({ say = say, row = row, times = options["repeat"] }) end
    is_only = is_only or options.only == part.name
  end
  return is_only
end

local function main(sys)
  if options.only == "floor" then
    say("floor alone")
    for _, n in ipairs { 1, options.connections } do show_floor(sys, n, options.runs, {}, 0) end
    return
  end
  if wanted "start" then start_times(sys) end
  if options.only == "start" then return end
  local sizes = sys:start(options.slots)
  say("\npayload bytes: initial %d, job %d, running %s, terminal %d; get by %s", sizes.initial, sizes.job,
    sizes.running or "not written", sizes.terminal, sizes.get)
  if wanted "memory" then memory(sys, "idle") end
  if wanted "latency" then latency(sys, sizes) end
  if wanted "throughput" then throughput(sys, sizes) end
  if options.only == "profile" then show_profile(sys) end
  if options.only == "" then memory(sys, "after the load") end
end

say("pyoco-host %s bench", host.version)
if alone() then return 0 end
local sys = system.new()
local ok, problem = xpcall(main, debug.traceback, sys)
sys:stop()
if not ok then
  io.stderr:write("bench: ", problem, "\n")
  return 1
end
return 0
