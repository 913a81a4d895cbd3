--- How much memory this worker has resident, with all processes below it: slots, and what their runs have started.
local M = {}

--- The first text of a file, or nil: a process may be gone.
local function read(path)
  local file = io.open(path)
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end

--- Resident bytes of a process and its descendants. What they share is counted in each.
---@param pid integer
---@return integer bytes
function M.tree(pid)
  local statm = read(("/proc/%d/statm"):format(pid))
  local bytes = 4096 * (math.tointeger(tonumber(statm and statm:match "^%d+ (%d+)")) or 0)
  for child in (read(("/proc/%d/task/%d/children"):format(pid, pid)) or ""):gmatch "%d+" do
    bytes = bytes + M.tree(math.tointeger(tonumber(child)))
  end
  return bytes
end

return M
