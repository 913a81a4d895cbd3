--- Which gateway does the periodic duties (DESIGN D9). One holds a lease in KV and renews it; a holder that falls
--- silent loses it to whoever sees, by the server's own timestamp of the entry, that its time is over. An orderly stop
--- gives it back at once.
---
--- Two gateways may believe for a moment that they hold it (a machine that slept): a duty must be safe to do twice.
--- What this process holds is in host.shared: a reload makes another service VM, and the main one gives it back.
local clock = require "host.clock"
local crypto = require "host.crypto"
local json = require "host.json"
local shared = require "host.shared"
local uv = require "luv"

local M = {}

--- How often the duty `tick` is to run: it looks who holds the lease, and renews it when a quarter of it has passed.
M.TICK_SEC = 0.5

local RENEW_PART = 0.25
local MARGIN_SEC = 0.3 -- what our idea of the server's clock may be wrong by
local SOON_SEC = 0.5   -- a duty that waits for the lease looks again after this

local function id()
  shared.add("lease.id", crypto.uuid4())
  return shared.get "lease.id"
end

--- Whether this process holds the lease now. Any VM.
---@return boolean
function M.held()
  return clock.monotonic() < (shared.get "lease.until" or 0)
end

local function show(app, record)
  local here = record ~= nil and record.holder == id()
  local value = record and { here = here, host = record.host, pid = record.pid, since = record.since }
  local text = value and json.encode(value, { sort = true }) or "null"
  if shared.get "health.leader" == text then return end
  if here then app.log:info("this gateway does the periodic duties") end
  shared.set("health.leader", text)
end

--- Notes that the lease is ours. asked_at: before the write was sent, so that we count its time from too early.
local function hold(app, record, revision, asked_at)
  shared.set("lease.revision", revision)
  shared.set("lease.since", record.since)
  shared.set("lease.until", asked_at + app.config.lease_ttl_sec)
  show(app, record)
end

local function lose()
  shared.delete "lease.until"
  shared.delete "lease.revision"
end

local function our_record(since)
  return { holder = id(), host = uv.os_gethostname(), pid = math.tointeger(uv.os_getpid()), since = since }
end

local function take(app, revision, since)
  local asked_at, record = clock.monotonic(), our_record(since or app.store:now())
  local written, message, code = app.store.lease:take(record, revision)
  if written then hold(app, record, written, asked_at) end
  return written, message, code
end

--- Takes the lease if nobody has it.
local function look(app)
  local record, revision, created = app.store.lease:get()
  if not record then
    if created == "not_found" then
      show(app, nil)
      take(app, nil)
    end
    return
  end
  local is_ours = record.holder == id() -- written by a request whose answer was lost
  local is_over = app.store:knows_time() and app.store:now() - created > app.config.lease_ttl_sec + MARGIN_SEC
  if is_ours or is_over then
    take(app, revision, is_ours and record.since or nil)
  else
    show(app, record)
  end
end

--- Renews the lease, or takes it when it is free. While NATS is away nothing changes: a lease that is held runs out.
---@param app table { store, config, log }
function M.tick(app)
  local revision = shared.get "lease.revision"
  if not revision then return look(app) end
  local left = (shared.get "lease.until" or 0) - clock.monotonic()
  if left > app.config.lease_ttl_sec * (1 - RENEW_PART) then return end
  local written, _, code = take(app, revision, shared.get "lease.since")
  if written then return end
  if code == "conflict" then
    lose()
    look(app)
  elseif not M.held() then
    show(app, nil)
  end
end

--- For a duty that takes longer than a moment: renews the lease when it is time.
---@param app table
---@return boolean held false: stop, somebody else may be at it
function M.keep(app)
  if M.held() then M.tick(app) end
  return M.held()
end

--- Wraps a duty so that it runs only while this gateway holds the lease.
---   app:every(60, "prune", lease.duty("prune", fn))
---@param name string the duty's
---@param fn function(app)
---@return function(app) for app:every
function M.duty(name, fn)
  assert(type(name) == "string" and type(fn) == "function", "lease.duty: a name and a function are needed")
  return function(app)
    if M.held() then return fn(app) end
    return SOON_SEC
  end
end

--- Gives the lease back, at the end of the process.
---@param store table
function M.release(store)
  local revision = M.held() and shared.get "lease.revision"
  lose()
  if revision then store.lease:release(revision) end
end

return M
