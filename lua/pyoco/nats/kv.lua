--- Key-value buckets as NATS has them: stream KV_<bucket>, one subject $KV.<bucket>.<key> per key.
--- Compare-and-set is a publish with the expected last sequence of its subject; a revision is a stream sequence.
--- Failures are nil, message, code, err_code as in pyoco.nats.jetstream.
local lasts = require "pyoco.nats.last"

local M = {}
local Bucket = {}
Bucket.__index = Bucket

local OPERATION = "KV-Operation"
local WRONG_LAST_SEQUENCE = 10071

--- A bucket of that name; nothing is asked of the server yet.
---@param js table jetstream context
---@param bucket string A-Z a-z 0-9 _ -
---@return table|nil kv
---@return string|nil message
---@return string|nil code "invalid"
function M.new(js, bucket)
  if type(bucket) ~= "string" or not bucket:find("^[%w_-]+$") then
    return nil, ("bucket name '%s' is not of letters, digits, _ and -"):format(tostring(bucket)), "invalid"
  end
  local stream = "KV_" .. bucket
  return setmetatable({ js = js, bucket = bucket, stream = stream, prefix = "$KV." .. bucket .. ".",
    last = lasts.new(js, stream) }, Bucket)
end

--- Whether a text may be a key.
---@param key any
---@return boolean|nil ok
---@return string|nil message
---@return string|nil code "invalid"
function M.check_key(key)
  if type(key) == "string" and key:find("^[-/_=.%w\\]+$") and not key:find("^%.") and not key:find("%.$")
    and not key:find("..", 1, true) then
    return true
  end
  return nil, ("key '%s' is not of letters, digits and - / _ = . (no dot at either end, no two in a row)")
    :format(tostring(key)), "invalid"
end

--- The stream's configuration for a bucket.
---@param bucket string
---@param opts table|nil history (default 1), max_age_sec, replicas, storage ("file"), direct (allow_direct)
---@return table config
function M.stream_config(bucket, opts)
  opts = opts or {}
  local max_age = math.floor((opts.max_age_sec or 0) * 1e9)
  local window = 120 * 1000000000
  return {
    name = "KV_" .. bucket, subjects = { "$KV." .. bucket .. ".>" }, retention = "limits", discard = "new",
    max_consumers = -1, max_msgs = -1, max_bytes = -1, max_msg_size = -1, max_age = max_age,
    max_msgs_per_subject = opts.history or 1, storage = opts.storage or "file", num_replicas = opts.replicas or 1,
    duplicate_window = max_age > 0 and math.min(max_age, window) or window,
    allow_rollup_hdrs = true, deny_delete = true, allow_direct = opts.direct == true,
  }
end

--- Creates the bucket unless it exists; an existing one is never altered.
---@param opts table|nil as M.stream_config
---@return table|nil info of the stream
---@return string|nil message
---@return string|nil code
function Bucket:ensure(opts)
  local info, message, code, err_code = self.js:stream_ensure(M.stream_config(self.bucket, opts))
  if info then self.last:remember(info.config) end
  return info, message, code, err_code
end

--- An entry of a stored message: {key, value, revision, created (unix s, the server's), operation PUT|DEL|PURGE}.
local function entry_of(kv, msg)
  return { key = msg.subject:sub(#kv.prefix + 1), value = msg.data, revision = msg.seq, created = msg.time,
    operation = msg.headers and msg.headers[OPERATION] or "PUT" }
end

local function no_key(kv, key) return nil, ("no key %s in bucket %s"):format(key, kv.bucket), "not_found" end

--- The current value of a key.
---@param key string
---@return string|nil value
---@return integer|string revision, or the message
---@return table|string entry {key, value, revision, created, operation}, or the code: "not_found", "invalid", ...
---@return integer|nil err_code
---@return table|nil marker the entry of a key that was deleted; nil when there never was one
function Bucket:get(key)
  local ok, message, code = M.check_key(key)
  if not ok then return nil, message, code end
  local msg, err_code
  msg, message, code, err_code = self.last:get(self.prefix .. key)
  if not msg then
    if err_code == 10037 then return no_key(self, key) end
    return nil, message, code, err_code
  end
  local entry = entry_of(self, msg)
  if entry.operation ~= "PUT" then
    message, code = select(2, no_key(self, key))
    return nil, message, code, nil, entry
  end
  return entry.value, entry.revision, entry
end

local function write(kv, key, value, opts)
  local ok, message, code = M.check_key(key)
  if not ok then return nil, message, code end
  local ack, err_code
  ack, message, code, err_code = kv.js:publish(kv.prefix .. key, value, opts)
  if not ack then
    if err_code == WRONG_LAST_SEQUENCE then
      message = ("key %s of bucket %s was changed by someone else"):format(key, kv.bucket)
    end
    return nil, message, code, err_code
  end
  return ack.seq
end

--- Writes a value, whatever was there.
---@param key string
---@param value string
---@param opts table|nil timeout_ms
---@return integer|nil revision
---@return string|nil message
---@return string|nil code
function Bucket:put(key, value, opts) return write(self, key, value, opts) end

--- Writes a value if the key's last revision is the given one.
---@param key string
---@param value string
---@param revision integer
---@param opts table|nil timeout_ms
---@return integer|nil revision the new one
---@return string|nil message
---@return string|nil code "conflict"
function Bucket:update(key, value, revision, opts)
  return write(self, key, value, { expect_last_subject_seq = revision, timeout_ms = opts and opts.timeout_ms })
end

--- Writes a value if the key does not exist; a deleted key does not.
---@param key string
---@param value string
---@param opts table|nil timeout_ms
---@return integer|nil revision
---@return string|nil message
---@return string|nil code "conflict" when it exists
function Bucket:create(key, value, opts)
  local revision, message, code, err_code = self:update(key, value, 0, opts)
  if revision or err_code ~= WRONG_LAST_SEQUENCE then return revision, message, code, err_code end
  local msg = self.last:get(self.prefix .. key)
  if msg and entry_of(self, msg).operation ~= "PUT" then return self:update(key, value, msg.seq, opts) end
  return nil, ("key %s of bucket %s exists"):format(key, self.bucket), "conflict", WRONG_LAST_SEQUENCE
end

--- Several writes { key, value, revision }, all in flight together.
local function write_many(kv, entries, headers, timeout_ms)
  local list, places, results = {}, {}, {}
  for i, entry in ipairs(entries) do
    local ok, message, code = M.check_key(entry[1])
    if ok then
      places[#places + 1] = i
      list[#list + 1] = { kv.prefix .. entry[1], entry[2], { expect_last_subject_seq = entry[3], headers = headers } }
    else
      results[i] = { message = message, code = code }
    end
  end
  if #list == 0 then return results end
  for n, result in ipairs((kv.js:publish_many(list, timeout_ms))) do
    results[places[n]] = result.seq and { revision = result.seq } or result
  end
  return results
end

--- Writes several values, each if its key's last revision is the given one (0: it never had any, not even a marker),
--- all in flight together.
---@param entries table[] { key, value, revision }
---@param timeout_ms integer|nil for all together
---@return table[] results in order: { revision }, or { message, code ("conflict"), err_code }
function Bucket:update_many(entries, timeout_ms) return write_many(self, entries, nil, timeout_ms) end

--- Deletes several keys, each if its last revision is the given one, all in flight together.
---@param entries table[] { key, revision }
---@param timeout_ms integer|nil for all together
---@return table[] results as update_many's, with the markers' revisions
function Bucket:delete_many(entries, timeout_ms)
  local list = {}
  for i, entry in ipairs(entries) do list[i] = { entry[1], "", entry[2] } end
  return write_many(self, list, { [OPERATION] = "DEL" }, timeout_ms)
end

--- The first revision that is stored still: what was written before it is gone, with or without a marker.
---@return integer|nil revision
---@return string|nil message
---@return string|nil code
function Bucket:first_revision()
  local info, message, code = self.js:stream_info(self.stream)
  if not info then return nil, message, code end
  return info.state.first_seq
end

--- Removes what a key has up to a revision, markers too, without a trace: followers are told nothing.
---@param key string
---@param revision integer what was written later stays
---@return integer|nil removed how many messages
---@return string|nil message
---@return string|nil code
function Bucket:erase(key, revision)
  local ok, message, code = M.check_key(key)
  if not ok then return nil, message, code end
  return self.js:purge(self.stream, { subject = self.prefix .. key, seq = revision + 1 })
end

--- Deletes a key: a marker replaces the value. A key that is not there gets a marker too.
---@param key string
---@param revision integer|nil only if the last revision is this one
---@return integer|nil revision of the marker
---@return string|nil message
---@return string|nil code "conflict"
function Bucket:delete(key, revision)
  return write(self, key, "", { headers = { [OPERATION] = "DEL" }, expect_last_subject_seq = revision })
end

--- Deletes a key and its history but for a marker.
---@param key string
---@return integer|nil revision of the marker
---@return string|nil message
---@return string|nil code
function Bucket:purge(key)
  return write(self, key, "", { headers = { [OPERATION] = "PURGE", ["Nats-Rollup"] = "sub" } })
end

--- The values of some keys, read together.
---@param keys string[]
---@return table|nil place in keys -> value; nil for keys that do not exist
---@return string|nil message
---@return string|nil code
function Bucket:get_many(keys)
  local names, by_key = {}, {}
  for i, key in ipairs(keys) do names[i] = self.prefix .. key end
  local ok, message, code, err_code = self.last:each_of(names, function(msg)
    local entry = entry_of(self, msg)
    if entry.operation == "PUT" then by_key[entry.key] = entry.value end
  end)
  if not ok then return nil, message, code, err_code end
  local values = {}
  for i, key in ipairs(keys) do values[i] = by_key[key] end
  return values
end

--- The entries of some keys, markers too, read together.
---@param keys string[]
---@return table|nil key -> entry as get gives it
---@return string|nil message
---@return string|nil code
function Bucket:entries_of(keys)
  local names, by_key = {}, {}
  for i, key in ipairs(keys) do names[i] = self.prefix .. key end
  local ok, message, code, err_code = self.last:each_of(names, function(msg)
    local entry = entry_of(self, msg)
    by_key[entry.key] = entry
  end)
  if not ok then return nil, message, code, err_code end
  return by_key
end

--- Calls a function with every entry, markers too, in the order of their keys. Not one moment's picture.
---@param visit fun(entry: table)
---@return boolean|nil done
---@return string|nil message
---@return string|nil code
function Bucket:each(visit)
  return self.last:each(self.prefix .. ">", function(msg) visit(entry_of(self, msg)) end)
end

--- All keys, sorted, those with a marker only too; no value is read.
---@return string[]|nil keys
---@return string|nil message
---@return string|nil code
function Bucket:all_keys()
  local subjects, message, code, err_code = self.last:subjects(self.prefix .. ">")
  if not subjects then return nil, message, code, err_code end
  for i, subject in ipairs(subjects) do subjects[i] = subject:sub(#self.prefix + 1) end
  return subjects
end

--- All entries, sorted by key; deleted keys are left out. Not one moment's picture: keys are read one by one.
---@return table[]|nil entries as get gives them
---@return string|nil message
---@return string|nil code
function Bucket:entries()
  local entries = {}
  local ok, message, code, err_code = self.last:each(self.prefix .. ">", function(msg)
    local entry = entry_of(self, msg)
    if entry.operation == "PUT" then entries[#entries + 1] = entry end
  end)
  if not ok then return nil, message, code, err_code end
  return entries
end

--- All keys, sorted; deleted ones are left out.
---@return string[]|nil keys
---@return string|nil message
---@return string|nil code
function Bucket:keys()
  local entries, message, code, err_code = self:entries()
  if not entries then return nil, message, code, err_code end
  local keys = {}
  for i, entry in ipairs(entries) do keys[i] = entry.key end
  return keys
end

return M
