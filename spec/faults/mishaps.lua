--- Misfortune: one thing after another happens to the fleet. Each leaves it as it was: what was killed runs again, what
--- was frozen goes on, what was broken is mended.
local uv = require "luv"
local async = require "pyoco.worker.async"
local flows = require "spec.faults.flows"
local follower = require "spec.faults.follower"

local M = {}

local function one_of(list) return list[math.random(#list)] end

--- Seconds that something is away: short, or longer than lease, ack_wait and the time until a worker counts as gone.
local function away_sec() return one_of { 0, 0.1, 0.5, 1, 2.5, 5, 7 } end

--- Ends a member and starts it again.
local function restart(world, one, signal, away)
  local over = world.ledger:mishap(("%s: %s"):format(one.name, signal:upper()))
  one:complain(world.ledger)
  one:finish(signal)
  async.sleep(away)
  while one.kind == "gateway" and world.is_editing do async.sleep(0.05) end -- with a broken script none starts
  if not one:start() then
    world.ledger:breach("it starts again", ("%s: %s"):format(one.name, one:said()[#one:said()].text:sub(-2000)))
  end
  over()
end

local function freeze(world, one, seconds, with_children)
  local pids = with_children and one:children() or {}
  local over = world.ledger:mishap(("%s: SIGSTOP%s for %.1f s"):format(one.name, with_children and " with slots" or "",
    seconds))
  one:freeze()
  for _, pid in ipairs(pids) do uv.kill(pid, "sigstop") end
  async.sleep(seconds)
  for _, pid in ipairs(pids) do uv.kill(pid, "sigcont") end
  one:thaw()
  over()
end

--- A member of a kind to which nothing happens now.
local function free(world, kind)
  local list = {}
  for _, one in ipairs(world.fleet.members) do
    if one.kind == kind and not one.is_busy then list[#list + 1] = one end
  end
  return #list > 0 and one_of(list) or nil
end

--- The gateway that holds the lease.
local function leader(world)
  for _, one in ipairs(world.fleet.gateways) do
    local answer = not one.is_busy and follower.ask { url = one.url .. "/health", timeout_sec = 1 }
    local known = answer and answer.json and answer.json.leader
    if type(known) == "table" and known.here and not one.is_busy then return one end
  end
end

--- Does something to a member that nothing else happens to.
local function with(one, fn)
  if not one then return end
  one.is_busy = true
  fn(one)
  one.is_busy = false
end

local function slot_of(world)
  local worker = free(world, "worker")
  local pids = worker and worker:is_up() and worker:children() or {}
  return worker, #pids > 0 and one_of(pids) or nil
end

local deeds = {
  worker_killed = function(world)
    with(free(world, "worker"), function(one) restart(world, one, "sigkill", away_sec()) end)
  end,
  worker_stopped = function(world)
    with(free(world, "worker"), function(one) restart(world, one, "sigterm", away_sec()) end)
  end,
  worker_frozen = function(world)
    with(free(world, "worker"), function(one) freeze(world, one, away_sec(), math.random(2) == 1) end)
  end,
  slot_killed = function(world)
    local worker, pid = slot_of(world)
    if not pid then return end
    world.ledger:mishap(("%s: slot %d SIGKILL"):format(worker.name, pid))()
    uv.kill(pid, "sigkill")
  end,
  slot_frozen = function(world)
    local worker, pid = slot_of(world)
    if not pid then return end
    local over = world.ledger:mishap(("%s: slot %d SIGSTOP"):format(worker.name, pid))
    uv.kill(pid, "sigstop")
    async.sleep(away_sec())
    uv.kill(pid, "sigcont")
    over()
  end,
  gateway_killed = function(world)
    with(free(world, "gateway"), function(one) restart(world, one, "sigkill", away_sec()) end)
  end,
  leader_killed = function(world)
    with(leader(world), function(one) restart(world, one, "sigkill", away_sec()) end)
  end,
  gateway_stopped = function(world)
    with(free(world, "gateway"), function(one) restart(world, one, "sigterm", away_sec()) end)
  end,
  gateway_frozen = function(world)
    with(math.random(2) == 1 and leader(world) or free(world, "gateway"), function(one)
      freeze(world, one, away_sec())
    end)
  end,
  nats_killed = function(world)
    with(free(world, "nats"), function(one) restart(world, one, "sigkill", one_of { 0, 0.2, 1, 4 }) end)
  end,
  nats_stopped = function(world)
    with(free(world, "nats"), function(one) restart(world, one, "sigterm", one_of { 0, 0.2, 1, 4 }) end)
  end,
  nats_frozen = function(world)
    with(free(world, "nats"), function(one) freeze(world, one, one_of { 0.2, 1, 2.5, 5 }) end)
  end,
  flow_edited = function(world)
    world.version = (world.version or 1) + 1
    local over = world.ledger:mishap "flow: broken"
    world.fleet:write("flows/edited.lua", "return flow(")
    async.sleep(math.random())
    world.fleet:write("flows/edited.lua", flows.edited(world.version))
    over()
  end,
  gateway_script_edited = function(world)
    for _, one in ipairs(world.fleet.gateways) do
      if world.is_editing or one.is_busy or not one:is_up() then return end
    end
    world.is_editing = true
    local over = world.ledger:mishap "gateway.lua: edited"
    world.fleet:write("gateway.lua", one_of { "local app = (", "error('broken')", "return nil",
      world.fleet.gateway_script .. "\n-- edited\n" })
    async.sleep(math.random() * 2)
    world.fleet:write("gateway.lua", world.fleet.gateway_script)
    over()
    world.is_editing = false
  end,
}

local WEIGHTS = { worker_killed = 4, worker_stopped = 2, worker_frozen = 3, slot_killed = 6, slot_frozen = 3,
  gateway_killed = 3, leader_killed = 2, gateway_stopped = 1, gateway_frozen = 3, nats_killed = 1, nats_stopped = 1,
  nats_frozen = 1, flow_edited = 3, gateway_script_edited = 2 }

--- Names of all misfortunes, for options.
M.NAMES = {}
for name in pairs(WEIGHTS) do M.NAMES[#M.NAMES + 1] = name end
table.sort(M.NAMES)

--- Has misfortune strike until world.is_calm; `done` is called when all that it did is undone.
---@param world table { fleet, ledger, is_calm }
---@param opts table rest_sec (mean pause), only (set of names, or nil: all)
---@param done fun()
function M.begin(world, opts, done)
  local deck, open = {}, 1
  for _, name in ipairs(M.NAMES) do
    for _ = 1, (not opts.only or opts.only[name]) and WEIGHTS[name] or 0 do deck[#deck + 1] = name end
  end
  local function closed()
    open = open - 1
    if open == 0 then done() end
  end
  async.go(function()
    while not world.is_calm do
      async.sleep(math.random() * 2 * opts.rest_sec)
      if not world.is_calm and #deck > 0 then
        open = open + 1
        async.go(function()
          deeds[one_of(deck)](world)
          closed()
        end)
      end
    end
    closed()
  end)
end

return M
