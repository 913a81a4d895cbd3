---@meta host

--- Facts about this process and VM.
---@class host
---@field version string
---@field role string "script"|"slot"|"http"|"service"
---@field exe string path of the program
---@field home string folder that has lua/ and flows/
---@field command string|false the short name by which the user called this program, as "pyoco-client"
---@field script string path of the script
local M = {}

--- What the parent VM handed over.
---@return string?
function M.boot() end

--- Bytes in use by this VM.
---@return integer
function M.memory() end

--- Finds a script as the command line does.
---@param name string
---@return string? path
---@return string? message
---@return string? code "not_found"
function M.find_script(name) end

--- A lock that is held.
---@class host.Lock
local Lock = {}

--- Gives it up; harmless when it was given up before.
function Lock:close() end

--- Takes the lock of a file, which is made when it is missing. It is held until it is closed or the process ends.
---@param path string
---@return host.Lock? lock
---@return string? message
---@return string? code "conflict" when another one holds it; "internal"
function M.lock(path) end

return M
