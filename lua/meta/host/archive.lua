---@meta host.archive

--- Zip archives, read without extracting; written so that the same calls give the same bytes.
---@class host.archive
local M = {}

--- What an archive says of one of its entries; whoever extracts it checks the name first.
---@class host.archive.Entry
---@field name string bytes as they stand in the archive
---@field size integer as the archive claims
---@field type string "file"|"dir"|"symlink"|"hardlink"|"other"
---@field mode integer permission bits
---@field encrypted boolean

--- An archive that is read, from its first entry to its last.
---@class host.archive.Reader
local Reader = {}

---@return host.archive.Entry? nil at the end, and when the archive is damaged
---@return string? message
---@return string? code "invalid"
function Reader:next() end

--- For `for entry in reader:entries() do`. Damage ends the loop early: ask `fault` after it.
---@return fun(reader: host.archive.Reader): host.archive.Entry?
---@return host.archive.Reader
function Reader:entries() end

---@return string? message of what ended the entries before their end
function Reader:fault() end

--- All of the current entry.
---@param max_bytes integer
---@return string? bytes
---@return string? message
---@return string? code "too_large"|"invalid"
function Reader:read(max_bytes) end

--- The next piece of the current entry, at most 64 KB.
---@return string? bytes nil at its end
---@return string? message
---@return string? code "invalid"
function Reader:chunk() end

--- Ends it; harmless when it has ended.
function Reader:close() end

--- An archive that is written.
---@class host.archive.Writer
local Writer = {}

--- The next entry.
---@param name string
---@param bytes string
---@param mode integer? default 0644 (octal); type bits make a folder (0040755) or a link (0120777: bytes: its target)
---@return boolean? done
---@return string? message
---@return string? code
function Writer:add(name, bytes, mode) end

--- Ends the archive: before that it is damaged.
---@return boolean? done
---@return string? message
---@return string? code "internal"
function Writer:close() end

---@param path string
---@return host.archive.Reader? reader
---@return string? message
---@return string? code "not_found"|"invalid"
function M.open(path) end

---@param path string a file of that name is replaced
---@return host.archive.Writer? writer
---@return string? message
---@return string? code "internal"
function M.create(path) end

return M
