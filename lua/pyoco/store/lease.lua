--- The lease of the periodic duties: one key that says which gateway holds it, written by compare-and-set only.
local json = require "host.json"

local M = {}

local KEY = "leader"

local lease = {}
lease.__index = lease

--- Who holds it, and when that was last said.
---@return table|nil record
---@return integer|string revision or message
---@return number|string created (the server's unix seconds), or code "not_found" | "unavailable" | "timeout"
function lease:get()
  local bytes, revision, entry = self.kv:get(KEY)
  if not bytes then return nil, revision, entry end
  local record = json.decode(bytes)
  return type(record) == "table" and record or {}, revision, entry.created
end

--- Takes it, or says again that it is held.
---@param record table
---@param revision integer|nil the one that was read; nil = there was none
---@return integer|nil revision
---@return string|nil message
---@return string|nil code "conflict" when somebody else was first
function lease:take(record, revision)
  local bytes, message, code = json.encode(record, { ascii = true })
  if not bytes then return nil, message, code end
  if revision then return self.kv:update(KEY, bytes, revision) end
  return self.kv:create(KEY, bytes)
end

--- Gives it back.
---@param revision integer the last one that was written
---@return integer|nil revision
---@return string|nil message
---@return string|nil code "conflict" when somebody else has it
function lease:release(revision) return self.kv:delete(KEY, revision) end

--- The verbs over a backend.
---@param cfg table leases_bucket
---@param backend table
---@return table
function M.new(cfg, backend) return setmetatable({ kv = backend.kv(cfg.leases_bucket) }, lease) end

return M
