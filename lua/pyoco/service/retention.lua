--- The duty of the gateway that holds the lease: prunes runs older than runs_retention_sec, and removes garbage. It
--- works in slices, so that the other duties of the service VM are not kept waiting.
local clock = require "host.clock"
local shared = require "host.shared"
local garbage = require "pyoco.service.garbage"
local prune = require "pyoco.service.prune"

local M = {}

--- How often the duty is to be called when it has not said otherwise.
M.EVERY_SEC = 1

local SLICE_SEC, REST_SEC = 0.1, 0.3
local LOOK_MAX_SEC = 300     -- between two prunes
local GARBAGE_SEC = 86400    -- between two collections
local GARBAGE_SOON_SEC = 3600 -- between two, when runs were pruned
local FIRST_GARBAGE_SEC = 600 -- after a start, and after one that broke off
local AGAIN_SEC = 10          -- after a failure

local state = { prune_at = 0, garbage_at = clock.monotonic() + FIRST_GARBAGE_SEC, collected_at = -math.huge }

local function total(counts)
  local sum = 0
  for _, count in pairs(counts) do sum = sum + count end
  return sum
end

--- Prunes when it is time. The number of runs that went.
local function prune_runs(app, retention, pause)
  if retention <= 0 or clock.monotonic() < state.prune_at then return 0 end
  if shared.get "health.warming" == "true" then return 0 end -- the read model does not know the runs yet
  state.prune_at = clock.monotonic() + math.min(LOOK_MAX_SEC, math.max(1, retention / 10))
  local now, message, code = app.store.garbage:time()
  local counts
  if now then counts, message, code = prune.run(app, { before = now - retention, pause = pause }) end
  if not counts then return nil, message, code end
  if counts.runs > 0 then app.log:info("runs pruned", counts) end
  return counts.runs
end

local function collect(app, retention, pause)
  state.collected_at = clock.monotonic()
  state.garbage_at = state.collected_at + GARBAGE_SEC
  local counts, message, code = garbage.collect(app, { uploads_only = retention <= 0, pause = pause })
  if not counts then
    state.garbage_at = clock.monotonic() + FIRST_GARBAGE_SEC
    return nil, message, code
  end
  if total(counts) > 0 then app.log:info("garbage removed", counts) end
  return true
end

--- One pass; it pauses when its slice is over.
local function pass(app, pause)
  local retention = app.config.runs_retention_sec
  local pruned, message, code = prune_runs(app, retention, pause)
  if not pruned then return nil, message, code end
  local now = clock.monotonic()
  if now >= state.garbage_at or (pruned > 0 and now >= state.collected_at + GARBAGE_SOON_SEC) then
    return collect(app, retention, pause)
  end
  return true
end

local function begin(app)
  return coroutine.create(function()
    local ok, message, code = pass(app, function()
      if clock.monotonic() > state.until_at then coroutine.yield() end
    end)
    if ok then return end
    state.prune_at = clock.monotonic() + AGAIN_SEC
    local say = code == "unavailable" and app.log.info or app.log.warning -- NATS is away
    say(app.log, "pruning broke off; it goes on later: " .. message)
  end)
end

--- Goes on with the pass under way, or begins one when something is due.
---@param app table { store, config, log }
---@return number|nil delay_sec when it is to be called next
function M.duty(app)
  state.pass = state.pass or begin(app)
  state.until_at = clock.monotonic() + SLICE_SEC
  local fine, message = coroutine.resume(state.pass)
  if fine and coroutine.status(state.pass) == "suspended" then return REST_SEC end
  local failed = not fine and debug.traceback(state.pass, message)
  state.pass = nil
  if failed then error(failed, 0) end
end

return M
