---@meta host.json

--- JSON text and Lua values.
---@class host.json
---@field null lightuserdata JSON's null: true in a condition, compare with ==
local M = {}

---@class host.json.EncodeOptions
---@field sort? boolean keys in byte order
---@field ascii? boolean \uXXXX for what is not ASCII
---@field pretty? boolean indented
---@field order? string[] names that come first at the top
---@field max_bytes? integer a longer text is refused; 0 = no limit

--- Functions, NaN, infinity, cycles, holes, mixed keys and text that is not UTF-8 are refused.
---@param value any
---@param options host.json.EncodeOptions?
---@return string? json
---@return string? message
---@return string? code "invalid"|"too_large"
function M.encode(value, options) end

---@param text string
---@param options { max_depth: integer?, max_bytes: integer? }?
---@return any value nil when it is no JSON
---@return string? message
---@return string? code "invalid"|"too_large"
---@return { line: integer, column: integer, offset: integer }? place
function M.decode(text, options) end

--- Marks a table as an array, so that an empty one is [].
---@generic T: table
---@param list T? default a new table
---@return T
function M.array(list) end

---@param value any
---@return boolean whether it is marked, or has an element at 1
function M.is_array(value) end

--- Text as JSON can carry it: bytes that are not UTF-8 become U+FFFD.
---@param text string
---@return string
function M.clean(text) end

return M
