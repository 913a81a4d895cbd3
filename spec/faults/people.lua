--- What people do to the fleet, at random: each person is a coroutine that does one thing after another, at whichever
--- gateway. What they are answered goes into the ledger.
local host = require "host"
local http = require "host.http"
local json = require "host.json"
local crypto = require "host.crypto"
local async = require "pyoco.worker.async"
local process = require "spec.support.process"
local wheels = require "spec.support.wheel"
local flows = require "spec.faults.flows"
local follower = require "spec.faults.follower"

local M = {}

local TIMEOUT_SEC = 8
local ask = follower.ask

--- One of a list.
local function one_of(list) return list[math.random(#list)] end

local function request(world, gateway, path, opts)
  local all = { url = gateway.url .. path, timeout_sec = TIMEOUT_SEC, connect_timeout_sec = 2 }
  for key, value in pairs(opts or {}) do all[key] = value end
  if all.json then
    all.body, all.method, all.json = assert(json.encode(all.json)), all.method or "POST", nil
    all.headers = all.headers or {}
    all.headers["content-type"] = "application/json"
  end
  local answer, message = ask(all)
  local kind = answer and tostring(answer.status) or "none"
  world.answers[kind] = (world.answers[kind] or 0) + 1
  if answer and answer.status >= 500 and answer.status ~= 503 then
    world.ledger:breach("no answer is a fault of ours", ("%s %s: %d %s"):format(all.method or "GET", path,
      answer.status, answer.body))
  end
  return answer, message
end

--- How long naps last: mostly short; some longer than ack_wait.
local function nap_ms() return one_of { 0, 0, 0, 5, 5, 20, 20, 100, 100, 300, 700, 4000 } end

local function params_of(name)
  if name == "stuck" then return { ms = 20000 } end
  return { ms = nap_ms() }
end

local TAGS = { "default", "default", "default", "default", "cpu", "cpu", "gpu" }

--- Where a submit goes and what it is: { path, opts, kind }.
local function flow_request()
  local name = one_of(flows.NAMES)
  if (name == "crashes" or name == "stuck" or name == "turns") and math.random(3) > 1 then name = "quick" end
  return "/runs", { json = { flow_name = name, params = params_of(name), tag = one_of(TAGS) } }, name
end

local function form(fields, part, filename, data)
  local body, kind = http.multipart(fields, { { name = part, filename = filename, content_type = "application/x-yaml",
    data = data } })
  return { method = "POST", body = body, headers = { ["content-type"] = kind } }
end

local function yaml_request()
  local name = one_of { "yaml_chain", "yaml_chain", "yaml_fails" }
  return "/runs/yaml", form({ { "flow_name", name }, { "tag", one_of(TAGS) } }, "workflow", "flow.yaml",
    flows.YAML[name]), name
end

local function bundle_request()
  local fields = { { "tag", one_of { "default", "cpu" } } }
  return "/runs/bundle", form(fields, "bundle", "bundle.yaml", flows.BUNDLE), "study"
end

--- Notes what a submit was answered. Returns the run's id when it was accepted.
local function note(world, answer, gateway, kind, key)
  if not answer then return nil end
  if (answer.status == 200 or answer.status == 202) and answer.json.run_id then
    world.ledger:accepted(answer.json.run_id, { kind = kind, key = key, gateway = gateway.name })
    return answer.json.run_id
  elseif answer.status ~= 503 then
    world.ledger:breach("a good submit is taken", ("%s: %d %s"):format(kind, answer.status, answer.body))
  end
end

--- Submits, with a key until it is known what became of it.
local function submit(world, make)
  local path, opts, kind = make()
  local key = math.random(3) == 1 and crypto.uuid4() or nil
  opts.headers = opts.headers or {}
  opts.headers["Idempotency-Key"] = key
  if math.random(8) == 1 then path = path .. "?wait=1" end
  local gateway, tries = world.pick(), 0
  local run_id = note(world, request(world, gateway, path, opts), gateway, kind, key)
  local more = key and math.random(3) - 1 or 0 -- replays of what is known
  while key and tries < 8 and (not run_id or more > 0) do
    if run_id then more = more - 1 end
    tries = tries + 1
    async.sleep(math.random(50, 1000) / 1000)
    gateway = world.pick()
    run_id = note(world, request(world, gateway, path, opts), gateway, kind, key) or run_id
  end
  return run_id, kind
end

local acts = {}

function acts.flow(world) return submit(world, flow_request) end
function acts.yaml(world) return submit(world, yaml_request) end

function acts.bundle(world)
  local run_id = submit(world, bundle_request)
  if not run_id then return end
  async.sleep(math.random(0, 300) / 1000)
  M.decide(world, run_id)
end

function acts.batch(world)
  local runs, gateway = {}, world.pick()
  for i = 1, math.random(2, 12) do
    local name = one_of { "quick", "chain", "rounds", "fails" }
    runs[i] = { flow_name = name, params = params_of(name), tag = one_of(TAGS),
      idempotency_key = math.random(2) == 1 and crypto.uuid4() or nil }
  end
  for _ = 1, math.random(2) do -- the second is a replay of those with a key
    local answer = request(world, gateway, "/runs/batch", { json = { runs = runs } })
    for i, result in ipairs(answer and answer.status == 200 and answer.json.results or {}) do
      if result.run_id then
        world.ledger:accepted(result.run_id, { kind = runs[i].flow_name, key = runs[i].idempotency_key,
          gateway = gateway.name })
      end
    end
    gateway = world.pick()
  end
end

--- A run that was accepted, a late one more likely.
local function some_run(world)
  local ids = {}
  for id in pairs(world.ledger.runs) do ids[#ids + 1] = id end
  if #ids == 0 then return nil end
  local best
  for _ = 1, 3 do
    local id = one_of(ids)
    if not best or world.ledger.runs[id].at > world.ledger.runs[best].at then best = id end
  end
  return best
end

local function cancel(world, run_id)
  local gateway = world.pick()
  local answer = request(world, gateway, ("/runs/%s/cancel"):format(run_id), { method = "POST" })
  if answer and answer.status == 200 then world.ledger:cancelled(run_id, answer.json.status, gateway.name) end
end

function acts.cancel(world)
  local run_id = some_run(world)
  if run_id then cancel(world, run_id) end
end

function acts.cancel_at_once(world)
  local run_id = submit(world, one_of { flow_request, yaml_request, flow_request })
  async.sleep(one_of { 0, 0.005, 0.02, 0.1, 0.5, 2 })
  if run_id then cancel(world, run_id) end
end

function acts.watch(world)
  local run_id = some_run(world)
  if run_id and #world.watchers < 60 then
    world.watchers[#world.watchers + 1] = follower.watch(world.ledger, run_id, world.pick)
  end
end

function acts.schedule(world)
  local fields = { { "flow_name", "yaml_chain" }, { "tag", one_of(TAGS) } }
  if math.random(2) == 1 then
    fields[3] = { "interval_seconds", tostring(one_of { 0.5, 1, 2 }) }
  else
    fields[3] = { "run_at", os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() + math.random(2, 8)) }
  end
  local answer = request(world, world.pick(), "/schedules/yaml", form(fields, "workflow", "flow.yaml",
    flows.YAML.yaml_chain))
  local id = answer and answer.status == 200 and answer.json.schedule_id
  if not id then return end
  world.ledger.schedules[id] = { created_at = world.ledger:time() - TIMEOUT_SEC,
    interval_sec = fields[3][1] == "interval_seconds" and tonumber(fields[3][2]) or nil }
  async.sleep(math.random(1, 12))
  M.unschedule(world, id)
end

--- Deletes a schedule, until it is known to be gone.
function M.unschedule(world, id)
  repeat
    local answer = request(world, world.pick(), "/schedules/" .. id, { method = "DELETE" })
    local is_gone = answer and (answer.status == 200 or answer.status == 404)
    if not is_gone then async.sleep(0.5) end
  until is_gone or world.is_over
  local known = world.ledger.schedules[id]
  if known then known.deleted_at = world.ledger:time() end
end

function acts.wheel(world)
  world.wheel_number = world.wheel_number + 1
  local path, file_name = wheels.write(world.fleet.dir, { name = "faults", version = "1." .. world.wheel_number,
    files = { ["from_wheel.lua"] = "return {}\n" } })
  local file <close> = assert(io.open(path, "rb"))
  local body, kind = http.multipart({}, { { name = "wheel", filename = file_name,
    content_type = "application/octet-stream", data = file:read "a" } })
  local answer = request(world, world.pick(), "/wheels", { method = "POST", body = body,
    headers = { ["content-type"] = kind } })
  if not answer or answer.status ~= 200 then return end
  async.sleep(math.random(1, 5))
  request(world, world.pick(), "/wheels/" .. file_name, { method = "DELETE" })
end

function acts.requeue(world)
  local answer = request(world, world.pick(), "/dlq?limit=50")
  local items = answer and answer.status == 200 and answer.json.items
  if not items or #items == 0 then return end
  local gateway = world.pick()
  local letter = one_of(items)
  answer = request(world, gateway, ("/dlq/%d/requeue"):format(letter.seq), { method = "POST" })
  if answer and answer.status == 200 and answer.json.run_id then
    world.ledger:accepted(answer.json.run_id, { kind = letter.flow_name, gateway = gateway.name, is_requeued = true })
  end
end

function acts.list(world) follower.list(world.pick()) end

--- Runs that ended a while ago go. One at a time: it is a process.
function acts.prune(world)
  if world.is_pruning then return end
  world.is_pruning = true
  local args = { "admin.lua", "--nats-url", world.fleet.nats_url, "runs", "prune", "--older-than", "15s" }
  local admin = process.host(args, { env = { PYOCO_LOAD_DOTENV = "0" }, cwd = host.home })
  while admin.code == nil or admin.open > 0 do async.sleep(0.05) end
  world.pruned, world.is_pruning = world.pruned or admin.code == 0, false
  world.ledger:note(nil, ("prune ended %d: %s%s"):format(admin.code, admin.stdout, admin.stderr))
end

local WEIGHTS = { flow = 30, yaml = 14, bundle = 8, batch = 5, cancel = 10, cancel_at_once = 8, watch = 8, schedule = 4,
  wheel = 2, requeue = 3, list = 4, prune = 1 }

local deck = {}
for name, weight in pairs(WEIGHTS) do
  for _ = 1, weight do deck[#deck + 1] = name end
end
table.sort(deck)

--- Approves, rejects or cancels a bundle's run, until the answer is known.
---@param world table
---@param run_id string
function M.decide(world, run_id)
  local verdict = one_of { "approve", "approve", "approve", "approve", "reject", "cancel" }
  repeat
    local gateway = world.pick()
    local answer = request(world, gateway, ("/runs/%s/%s"):format(run_id, verdict), { method = "POST" })
    world.ledger:note(run_id, ("%s answered %s by %s"):format(verdict, answer and answer.status or "nothing",
      gateway.name))
    local is_known = answer and answer.status < 500
    if is_known and answer.status == 200 and verdict == "cancel" then
      world.ledger:cancelled(run_id, answer.json.status, gateway.name)
    end
    if not is_known then async.sleep(0.5) end
  until is_known or world.is_over
end

--- One person, until world.is_over. Calls `done` then.
---@param world table { ledger, fleet, pick, watchers, answers, is_over }
---@param rest_sec number mean pause between two acts
---@param done fun()
function M.person(world, rest_sec, done)
  async.go(function()
    while not world.is_over do
      local name = one_of(deck)
      world.ledger.acts[name] = (world.ledger.acts[name] or 0) + 1
      acts[name](world)
      async.sleep(math.random() * 2 * rest_sec)
    end
    done()
  end)
end

return M
