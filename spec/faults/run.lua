--- A fleet under stress and misfortune, for as long as told: what is too long and too random for the specs.
--- usage: make faults A="--seconds 600 --seed 7"      (make night)
---
--- Each round a new fleet (spec/faults/fleet) gets people who submit, cancel, approve, schedule, upload, watch (people)
--- and misfortune (mishaps): processes are killed and frozen, files broken. Then misfortune ends and everything must
--- come to rest (quiet), with nothing lost, done twice or left over (checks). After some of these phases the fleet is
--- stopped, and nothing may be left. The first round has no misfortune: then each task must run exactly as often as it
--- should. Ends with the first round that breaks a promise: the seed, and the whole story of each run concerned.
local root = require("host").home
package.path = table.concat({ root .. "/?.lua", root .. "/?/init.lua", package.path }, ";")

local uv = require "luv"
local async = require "pyoco.worker.async"
local checks = require "spec.faults.checks"
local fleets = require "spec.faults.fleet"
local follower = require "spec.faults.follower"
local histories = require "spec.faults.history"
local ledgers = require "spec.faults.ledger"
local mishaps = require "spec.faults.mishaps"
local people = require "spec.faults.people"
local quiet = require "spec.faults.quiet"
local story = require "spec.faults.story"

local OPTIONS = { -- name -> default; see usage
  seconds = 240, seed = os.time(), people = 8, round = 25, phases = 2, calm = 1, only = "", keep = 0,
}
local USAGE = [[
usage: spec/faults/run.lua [--NAME VALUE]...
  --seconds  begin no round after so long (240)     --seed     the first round's; each further one has the next
  --round    seconds (25) of people and misfortune until everything must come to rest
  --phases   how often (2) that is in a round, with the same fleet
  --people   at once (8)                            --calm     1: the first round has no misfortune (the default)
  --only     misfortunes that may happen: %s
  --keep     1: the folder of the last fleet stays]]

local function options_of(list)
  local options = {}
  for name, value in pairs(OPTIONS) do options[name] = value end
  for i = 1, #list, 2 do
    local name = list[i]:match "^%-%-(%a+)$"
    local value = name and type(OPTIONS[name]) == "string" and list[i + 1] or math.tointeger(tonumber(list[i + 1]))
    if OPTIONS[name] == nil or value == nil then error(USAGE:format(table.concat(mishaps.NAMES, ", ")), 0) end
    options[name] = value
  end
  return options
end

local options = options_of(arg)

local function say(...)
  io.write(string.format(...), "\n")
  io.flush()
end

local function set_of(text)
  if text == "" then return nil end
  local set = {}
  for name in text:gmatch "[%a_]+" do set[name] = true end
  return set
end

--- People, and misfortune, for a time; then people go, misfortune ends. In a coroutine.
local function stress(world, is_calm)
  world.is_over, world.is_calm = false, is_calm
  local waiting = 0
  local function begin(fn)
    waiting = waiting + 1
    fn(function() waiting = waiting - 1 end)
  end
  for _ = 1, options.people do begin(function(done) people.person(world, 0.35, done) end) end
  if not is_calm then
    begin(function(done) mishaps.begin(world, { rest_sec = 1.2, only = set_of(options.only) }, done) end)
  end
  async.sleep(options.round)
  world.is_over, world.is_calm = true, true
  while waiting > 0 do async.sleep(0.05) end
end

local function memory_line(world)
  local parts = {}
  for _, one in ipairs(world.fleet.members) do
    local slots, own = one:memory()
    parts[#parts + 1] = ("%s#%d %.1f%s"):format(one.name, #one.lives, own / 1e6,
      slots > 0 and ("+%.1f"):format(slots / 1e6) or "")
  end
  return table.concat(parts, " ")
end

local function counts_line(counts)
  local names, parts = {}, {}
  for name in pairs(counts) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do parts[i] = ("%s %d"):format(name, counts[name]) end
  return table.concat(parts, ", ")
end

--- One fleet's life. In a coroutine. Returns whether all promises were kept.
local function round(seed, is_calm)
  math.randomseed(seed)
  local ledger = ledgers.new()
  local world = { ledger = ledger, fleet = fleets.start(), watchers = {}, followers = {}, answers = {},
    wheel_number = 0 }
  async.on_error = function(text) ledger:breach("the stress itself works", text) end
  world.pick = function() return world.fleet.gateways[math.random(#world.fleet.gateways)] end
  world.history = histories.start(world.fleet.nats_url, ledger)
  for number = 1, 2 do
    local pick = number == 1 and world.pick or function() return world.fleet.gateways[2] end
    world.followers[number] = follower.events(pick)
  end
  for phase = 1, options.phases do
    stress(world, is_calm)
    local runs, seconds = quiet.await(world)
    if runs then checks.all(world, runs) end
    local statuses = {}
    for _, it in pairs(runs or {}) do
      statuses[it.snapshot.status] = (statuses[it.snapshot.status] or 0) + 1
    end
    say("  phase %d: %s after %.1f s; %d runs accepted; %s; answers %s; MB: %s", phase,
      runs and "at rest" or "NOT AT REST", seconds, ledger.count, counts_line(statuses), counts_line(world.answers),
      memory_line(world))
    if #ledger.breaches > 0 then break end
  end
  for _, list in ipairs { world.followers, world.watchers } do
    for _, one in ipairs(list) do one.is_stopped = true end
  end
  async.sleep(0.1)
  world.history:stop()
  for _, text in ipairs(world.fleet:stop(ledger)) do ledger:breach("nothing is left after the stop", text) end
  say("  acts: %s; %d misfortunes", counts_line(ledger.acts), #ledger.mishaps)
  for _, line in ipairs(story.of(world)) do say("%s", line) end
  if options.keep == 1 then say("  kept: %s", world.fleet.dir) else world.fleet:remove() end
  return #ledger.breaches == 0
end

local began, number, is_kept, is_done = uv.hrtime(), 0, true, false
say("seed %d, %d s", options.seed, options.seconds)
async.on_error = function(text)
  io.stderr:write(text, "\n")
  os.exit(1)
end
async.go(function()
  while is_kept and (uv.hrtime() - began) / 1e9 < options.seconds do
    local is_calm = number == 0 and options.calm == 1
    say("round %d, --seed %d%s", number + 1, options.seed + number, is_calm and ", without misfortune" or " --calm 0")
    is_kept = round(options.seed + number, is_calm)
    number = number + 1
  end
  is_done = true
end)
while not is_done do uv.run "once" end
say("%d rounds%s", number, is_kept and ", no promise broken" or "")
os.exit(is_kept and 0 or 1)
