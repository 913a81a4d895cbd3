---@meta host.yaml

--- One YAML document to Lua values.
---@class host.yaml
local M = {}

---@class host.yaml.Options
---@field max_bytes? integer
---@field max_depth? integer default 100
---@field max_nodes? integer default 100000
---@field duplicate? "error"|"last" what equal keys mean

---@class host.yaml.Mark
---@field line integer
---@field column integer
---@field value_line integer?
---@field value_column integer?
---@field style string?
---@field indent integer?

--- Dates become ISO text, null becomes host.json's null, keys become text as written.
---@param text string
---@param options host.yaml.Options?
---@return any value nil when it is no YAML
---@return (fun(map: table?, key: any): host.yaml.Mark?)|string marks where each entry stands; the message of a failure
---@return string? code "invalid"|"too_large"
---@return table[]? errors { line, column, path, code, message, hint }
function M.decode(text, options) end

return M
