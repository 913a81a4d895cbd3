--- The store in this VM's memory: the same verbs with no server, for specs and for local runs.
--- It keeps what JetStream keeps: revisions that grow over the whole bucket, conflicts, delete markers, message ids.
local clock = require "host.clock"
local verbs = require "pyoco.store.verbs"
local sorted = require "pyoco.sorted"

local M = {}

local KEY = "^[-/_=%.%w]+$" -- NATS KV's alphabet

local kv = {}
kv.__index = kv

local function check_key(key)
  if key:find(KEY) and not key:find("^%.") and not key:find("%.$") then return true end
  return nil, ("key %q: use letters, digits and - / _ = . (no dot at either end)"):format(key), "invalid"
end

local function write(self, key, value, operation)
  self.revision = self.revision + 1
  for _, tail in ipairs(self.tails) do
    table.insert(tail.queue, { "entry", { key = key, value = value, revision = self.revision, created = clock.wall(),
      deleted = operation ~= nil } })
  end
  self.entries_by_key[key] = { value = value, revision = self.revision, created = clock.wall(),
    operation = operation or "put" }
  return self.revision
end

--- The value of a key.
---@param key string
---@return string|nil value
---@return integer|string revision or message
---@return table|string entry {created, operation} or code
function kv:get(key)
  local ok, message, code = check_key(key)
  if not ok then return nil, message, code end
  local entry = self.entries_by_key[key]
  if not entry or entry.operation ~= "put" then return nil, "no such key: " .. key, "not_found", nil, entry end
  return entry.value, entry.revision, entry
end

--- Writes whatever is there.
---@param key string
---@param value string
---@return integer|nil revision
function kv:put(key, value)
  local ok, message, code = check_key(key)
  if not ok then return nil, message, code end
  return write(self, key, value)
end

--- Writes only if the key has no value.
function kv:create(key, value)
  local ok, message, code = check_key(key)
  if not ok then return nil, message, code end
  local entry = self.entries_by_key[key]
  if entry and entry.operation == "put" then return nil, "key exists: " .. key, "conflict" end
  return write(self, key, value)
end

--- Writes only if the key is still at this revision.
---@param revision integer
function kv:update(key, value, revision)
  local ok, message, code = check_key(key)
  if not ok then return nil, message, code end
  local entry = self.entries_by_key[key]
  if (entry and entry.revision or 0) ~= revision then
    return nil, ("wrong last sequence of %s"):format(key), "conflict"
  end
  return write(self, key, value)
end

--- Removes the value; the marker keeps the revision.
---@param revision integer|nil
function kv:delete(key, revision)
  local ok, message, code = check_key(key)
  if not ok then return nil, message, code end
  local entry = self.entries_by_key[key]
  if revision and (not entry or entry.revision ~= revision) then
    return nil, ("wrong last sequence of %s"):format(key), "conflict"
  end
  return write(self, key, "", "delete")
end

--- Writes several values, each if its key is still at its revision.
---@param entries table[] { key, value, revision }
---@return table[] results { revision } or { message, code }
function kv:update_many(entries)
  local results = {}
  for i, entry in ipairs(entries) do
    local revision, message, code = self:update(entry[1], entry[2], entry[3])
    results[i] = revision and { revision = revision } or { message = message, code = code }
  end
  return results
end

--- Deletes several keys, each if it is still at its revision.
---@param entries table[] { key, revision }
---@return table[] results { revision } or { message, code }
function kv:delete_many(entries)
  local results = {}
  for i, entry in ipairs(entries) do
    local revision, message, code = self:delete(entry[1], entry[2])
    results[i] = revision and { revision = revision } or { message = message, code = code }
  end
  return results
end

--- Removes what a key has up to a revision, without a trace.
---@param key string
---@param revision integer
---@return integer removed
function kv:erase(key, revision)
  local entry = self.entries_by_key[key]
  if not entry or entry.revision > revision then return 0 end
  self.entries_by_key[key] = nil
  return 1
end

--- An entry as NATS's buckets give it.
local function told(key, entry)
  return { key = key, value = entry.value, revision = entry.revision, created = entry.created,
    operation = entry.operation == "put" and "PUT" or "DEL" }
end

--- The entries of some keys, markers too.
---@param keys string[]
---@return table key -> entry
function kv:entries_of(keys)
  local by_key = {}
  for _, key in ipairs(keys) do
    local entry = self.entries_by_key[key]
    by_key[key] = entry and told(key, entry)
  end
  return by_key
end

--- All keys, sorted, those with a marker only too.
---@return string[]
function kv:all_keys()
  return sorted.keys(self.entries_by_key)
end

--- Calls a function with every entry, markers too, in the order of their keys.
---@param visit fun(entry: table)
---@return boolean done
function kv:each(visit)
  for _, key in ipairs(self:all_keys()) do
    local entry = self.entries_by_key[key]
    if entry then visit(told(key, entry)) end
  end
  return true
end

--- The values of some keys: place -> value, nil for what is not there.
---@param keys string[]
---@return table
function kv:get_many(keys)
  local values = {}
  for i, key in ipairs(keys) do values[i] = self:get(key) end
  return values
end

--- All values, by revision.
---@return table[] list of { key, value, revision, created }
function kv:entries()
  local list = {}
  for key, entry in pairs(self.entries_by_key) do
    if entry.operation == "put" then
      list[#list + 1] = { key = key, value = entry.value, revision = entry.revision, created = entry.created }
    end
  end
  table.sort(list, function(a, b) return a.revision < b.revision end)
  return list
end

--- A tail as host.tail has it, which never has to wait.
local tails = {}
tails.__index = tails

--- The next event.
function tails:next()
  local event = table.remove(self.queue, 1)
  if not event then return nil, "nothing new", "timeout" end
  return event[1], event[2]
end

--- Always live.
function tails:age() return self and 0 end

--- Ends it.
function tails:stop()
  for i, tail in ipairs(self.kv.tails) do
    if tail == self then table.remove(self.kv.tails, i) end
  end
end

tails.__close = tails.stop

local function follow(bucket)
  local tail = setmetatable({ queue = {}, kv = bucket }, tails)
  for _, entry in ipairs(bucket:entries()) do tail.queue[#tail.queue + 1] = { "entry", entry } end
  tail.queue[#tail.queue + 1] = { "live" }
  table.insert(bucket.tails, tail)
  return tail
end

--- The messages of a stream by sequence, as pyoco.nats.work_stream has them. Consumers there are none.
local function work_of(messages, prefix)
  local work = {}
  local function alive(message)
    return message and not message.deleted and message.subject:sub(1, #prefix + 1) == prefix .. "."
  end
  function work.info()
    local count, first
    for _, message in ipairs(messages) do
      if alive(message) then count, first = (count or 0) + 1, first or message end
    end
    return { messages = count or 0, first_seq = first and first.seq or #messages + 1, last_seq = #messages,
      first_time = first and first.time }
  end
  function work.read(_, from, last)
    local list = {}
    for seq = from, last do
      if alive(messages[seq]) then list[#list + 1] = messages[seq] end
    end
    return list
  end
  function work.get(_, seq)
    if alive(messages[seq]) then return messages[seq] end
    return nil, "no message", "not_found"
  end
  function work.delete(_, seq)
    if not alive(messages[seq]) then return nil, "no message", "not_found" end
    messages[seq].deleted = true
    return true
  end
  function work.consumer() return nil, "no consumer", "not_found" end
  function work.exhausted() return {} end
  return work
end

local store = {}
store.__index = function(self, name) return store[name] or verbs.part(self, name) end

--- Nothing to create.
function store:ensure() return self ~= nil end

--- This machine's clock.
---@return number unix seconds
function store:now() return self and clock.wall() end

--- It is always right.
function store:knows_time() return self ~= nil end

--- Always usable.
---@return string "connected"
function store:status() return self and "connected" end

--- Nothing to end.
function store:close() return self ~= nil end

--- A new, empty store.
---@param cfg table configuration: bucket and stream names
---@return table store; store.messages lists what was published: { seq, subject, data, msg_id }
function M.open(cfg)
  local messages, hints, buckets, seen, object_stores = {}, {}, {}, {}, {}
  local function kv_of(bucket)
    buckets[bucket] = buckets[bucket] or setmetatable({ entries_by_key = {}, revision = 0, tails = {} }, kv)
    return buckets[bucket]
  end
  local self
  self = verbs.new(cfg, {
    kv = kv_of,
    follow = function(bucket) return follow(kv_of(bucket)) end,
    work = function(stream)
      return work_of(messages, stream == cfg.dlq_stream and cfg.dlq_subject_prefix or cfg.work_subject_prefix)
    end,
    objects = function(bucket)
      object_stores[bucket] = object_stores[bucket] or require("pyoco.store.memory_objects").new(bucket)
      return object_stores[bucket]
    end,
    sweep = function(bucket) return self.backend.objects(bucket) end,
    publish = function(subject, data, opts)
      local known = opts.msg_id and seen[opts.msg_id]
      if known then return { seq = known, duplicate = true } end
      local seq = #messages + 1
      messages[seq] = { seq = seq, subject = subject, data = data, msg_id = opts.msg_id, time = self:now() }
      if opts.msg_id then seen[opts.msg_id] = seq end
      return { seq = seq, duplicate = false }
    end,
    publish_many = function(list)
      local results = {}
      for i, it in ipairs(list) do results[i] = self.backend.publish(it[1], it[2], it[3]) end
      return results
    end,
    queues = function(_, prefix)
      local list, by_tag = {}, {}
      for _, message in ipairs(messages) do
        local tag = message.subject:sub(1, #prefix + 1) == prefix .. "." and message.subject:sub(#prefix + 2)
        if tag and not by_tag[tag] then
          by_tag[tag] = { tag = tag, jobs = 0 }
          list[#list + 1] = by_tag[tag]
        end
        if tag then by_tag[tag].jobs = by_tag[tag].jobs + 1 end
      end
      table.sort(list, function(a, b) return a.tag < b.tag end)
      return list
    end,
    count = function(stream)
      local count, prefix = 0, (stream == cfg.dlq_stream and cfg.dlq_subject_prefix or cfg.work_subject_prefix) .. "."
      for _, message in ipairs(messages) do
        if message.subject:sub(1, #prefix) == prefix then count = count + 1 end
      end
      return count
    end,
    hint = function(subject, data)
      hints[#hints + 1] = { subject = subject, data = data }
      return true
    end,
  })
  self.cfg, self.messages, self.sent_hints = cfg, messages, hints
  return setmetatable(self, store)
end

return M
