--- The store on NATS JetStream: the only module that opens NATS.
--- It knows connections, streams and buckets; what they mean to a run is in store/verbs.lua.
local clock = require "host.clock"
local mirror = require "host.mirror"
local nats = require "host.nats"
local jetstream = require "pyoco.nats.jetstream"
local kv = require "pyoco.nats.kv"
local rpcs = require "pyoco.nats.rpc"
local resource = require "pyoco.store.resource"
local verbs = require "pyoco.store.verbs"

local M = {}

local REQUEST_TIMEOUT_MS = 2000

local store = {}
store.__index = function(self, name) return store[name] or verbs.part(self, name) end

--- Creates the streams and buckets that are missing.
---@return boolean|nil
---@return string|nil message says what is wrong and what to do ("JetStream is not enabled ...")
---@return string|nil code
function store:ensure()
  local account, message, code = self.js:account_info()
  if not account then
    if code == "unavailable" and self.conn:status() == "connected" then
      message = ("NATS at %s has no JetStream: start it with `nats-server -js`, or let up.lua start one"):format(
        self.conn:info().url or self.cfg.nats_url)
    end
    return nil, message, code
  end
  for _, config in ipairs(resource.streams(self.cfg)) do
    local info
    info, message, code = self.js:stream_info(config.name)
    if not info and code == "not_found" then info, message, code = self.js:stream_create(config) end
    if not info and code ~= "conflict" then return nil, message, code end
  end
  for _, row in ipairs(resource.buckets(self.cfg)) do
    local ok
    ok, message, code = kv.new(self.js, row.bucket):ensure { history = row.history, max_age_sec = row.max_age_sec,
      replicas = self.cfg.nats_replicas, direct = self.cfg.nats_replicas == 1 }
    if not ok then return nil, message, code end
  end
  return self:ensure_object_stores()
end

--- Creates the object stores that are missing.
---@return boolean|nil
---@return string|nil message
---@return string|nil code
function store:ensure_object_stores()
  local objects = require "pyoco.nats.objects"
  for _, row in ipairs(resource.object_stores(self.cfg)) do
    local one, message, code = objects.new(self.js, row.bucket)
    local ok = one
    if one then ok, message, code = one:ensure { max_bytes = row.max_bytes, replicas = self.cfg.nats_replicas } end
    if not ok then return nil, message, code end
  end
  return true
end

--- What is there of our resources, and how it differs from what ensure makes (pyoco.store.survey).
---@param timeout_ms integer for all together
---@return table|nil survey
---@return string|nil message
---@return string|nil code
function store:survey(timeout_ms) return require("pyoco.store.survey").take(self.js, self.cfg, timeout_ms) end

--- The NATS server's idea of now: ours plus the measured offset (DESIGN D9).
---@return number unix seconds
function store:now()
  return clock.wall(self.conn:clock_offset() or 0)
end

--- Whether now() is the server's time: its offset has been measured.
---@return boolean
function store:knows_time()
  return self.conn:clock_offset() ~= nil
end

--- Keeps a copy of a bucket in this process, for all its VMs (the backend's `mirrored`).
---@param bucket string
---@return table|nil mirror with stop(), to be called before the connection ends
---@return string|nil message
---@return string|nil code
function store:mirror(bucket)
  return mirror.start(self.conn, bucket)
end

--- Whether NATS is usable now.
---@return string "connected" | "reconnecting" | "closed"
function store:status()
  return self.conn:status()
end

--- Facts about the connection.
---@return table { url, server_id, max_payload, reconnects = times that it was made anew }
function store:connection()
  return self.conn:info()
end

--- Ends the connection. A shared one is ended by the VM that opened it only.
function store:close()
  self.conn:close()
end

--- A store over an open connection.
---@param conn userdata host.nats connection
---@param cfg table configuration
---@param rpc function|nil (subject, data, timeout_ms, headers) -> message; default: the connection's blocking request
---@param many function|nil rpc for many requests at once (pyoco.nats.rpc gives both)
---@return table store: the verbs of store/verbs.lua, with js, ensure, now, status, close
function M.open(conn, cfg, rpc, many)
  if not rpc then rpc, many = rpcs.blocking(conn) end
  local js = jetstream.new(rpc, many, { timeout_ms = REQUEST_TIMEOUT_MS })
  local self = verbs.new(cfg, {
    kv = function(bucket) return kv.new(js, bucket) end,
    objects = function(bucket) return require("pyoco.nats.objects").new(js, bucket) end, -- few VMs need it
    sweep = function(bucket) return require("pyoco.nats.object_sweep").new(js, bucket) end,
    publish = function(subject, bytes, opts) return js:publish(subject, bytes, opts) end,
    publish_many = function(list, timeout_ms) return (js:publish_many(list, timeout_ms)) end,
    hint = function(subject, data) return conn:publish(subject, data) end,
    queues = function(...) return require("pyoco.nats.queues").list(js, ...) end,
    work = function(stream) return require("pyoco.nats.work_stream").new(js, conn, stream) end,
    follow = function(bucket) return require("host.tail").start(conn, bucket, 1) end,
    mirrored = function(bucket, key) return mirror.get(bucket, key) end,
    count = function(stream)
      local info, message, code = js:stream_info(stream)
      if not info then return nil, message, code end
      return info.state.messages
    end,
  })
  self.conn, self.cfg, self.js = conn, cfg, js
  return setmetatable(self, store)
end

--- Connects to NATS and opens the store.
---@param cfg table configuration (nats_url)
---@param opts table { name (connection name), share (bool: lend the connection to this process's other VMs),
---  retry (bool: no server yet is no failure), loop (bool: on the VM's event loop), rpc, many (functions, with loop) }
---@return table|nil store
---@return string|nil message
---@return string|nil code
function M.connect(cfg, opts)
  local conn, message, code = nats.connect {
    url = cfg.nats_url, name = opts.name, retry = opts.retry, loop = opts.loop,
    user = cfg.nats_user, password = cfg.nats_password,
    token = cfg.nats_token, creds = cfg.nats_creds, tls_ca = cfg.nats_tls_ca, tls_cert = cfg.nats_tls_cert,
    tls_key = cfg.nats_tls_key,
  }
  if not conn then return nil, message, code end
  if opts.share then nats.share(conn) end
  return M.open(conn, cfg, opts.rpc, opts.many)
end

--- The store over the connection that the main VM shares; for a gateway's pool VMs.
---@param cfg table
---@return table store
function M.shared(cfg)
  return M.open(assert(nats.shared()), cfg)
end

return M
