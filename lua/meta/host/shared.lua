---@meta host.shared

--- One small table that all VMs of this process see. Each call is atomic.
---@class host.shared
local M = {}

---@param key string
---@return string|number|boolean|nil
function M.get(key) end

---@param key string
---@param value string|number|boolean|nil nil deletes
---@param ttl_sec number?
---@return boolean
function M.set(key, value, ttl_sec) end

--- Sets only if absent.
---@param key string
---@param value string|number|boolean
---@param ttl_sec number?
---@return boolean false when it is there
function M.add(key, value, ttl_sec) end

---@param key string
---@param by number? default 1
---@param ttl_sec number? on creation only
---@return number? value
---@return string? message
---@return string? code "conflict"
function M.incr(key, by, ttl_sec) end

---@param key string
---@return boolean whether it was there
function M.delete(key) end

---@param prefix string?
---@return string[] sorted
function M.keys(prefix) end

return M
