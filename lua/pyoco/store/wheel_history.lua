--- Who uploaded and deleted which wheel (CONTRACT 8.6): a bucket of events that age away, each under its time and id.
local json = require "host.json"

local M = {}
local History = {}
History.__index = History

local RECORD = { ascii = true, order = { "event_id", "occurred_at", "action", "wheel_name", "tags", "size_bytes",
  "sha256_hex", "replace", "actor", "tenant_id", "api_key_id", "source", "remote_addr", "x_forwarded_for", "x_real_ip",
  "user_agent", "host", "scheme" } }

--- The verbs over a backend.
---@param cfg table configuration: wheel_history_bucket
---@param backend table as pyoco.store.verbs gets it
---@return table history
function M.new(cfg, backend)
  return setmetatable({ kv = backend.kv(cfg.wheel_history_bucket) }, History)
end

--- Adds an event.
---@param event table event_id (32 hex digits), occurred_at (unix seconds), and the rest of CONTRACT 8.6
---@return integer|nil revision
---@return string|nil message
---@return string|nil code
function History:append(event)
  local bytes, message, code = json.encode(event, RECORD)
  if not bytes then return nil, message, code end
  return self.kv:create(("%013d_%s"):format(event.occurred_at * 1000 // 1 | 0, event.event_id), bytes)
end

--- All events; one that cannot be read is left out.
---@return table[]|nil events
---@return string|nil message
---@return string|nil code
function History:list()
  local entries, message, code = self.kv:entries()
  if not entries then return nil, message, code end
  local events = {}
  for _, entry in ipairs(entries) do
    local event = json.decode(entry.value)
    if type(event) == "table" and type(event.event_id) == "string" and type(event.occurred_at) == "number" then
      events[#events + 1] = event
    end
  end
  return events
end

return M
