--- What the kernel says of a process: CPU time, memory, children. Linux /proc only.
local M = {}

-- USER_HZ is 100 on every Linux that Debian runs on (it is part of the kernel's ABI)
local TICKS_PER_SEC <const> = 100

local function read(path)
  local file <close> = io.open(path, "rb")
  return file and file:read("a")
end

--- CPU seconds (user and system, all threads, children not counted) that a process has used so far.
---@param pid integer
---@return number seconds 0 for a process that is gone
function M.cpu(pid)
  local text = read(("/proc/%d/stat"):format(pid))
  if not text then return 0 end
  -- the name in parentheses may hold spaces: fields are counted from after it
  local user, system = text:match("^.*%) %S" .. (" %S+"):rep(10) .. " (%d+) (%d+)")
  return (tonumber(user) + tonumber(system)) / TICKS_PER_SEC
end

--- Proportional share of memory: private pages, and shared ones divided among those who map them.
---@param pid integer
---@return integer|nil pss_bytes nil for a process that is gone
---@return integer private_bytes private clean and dirty pages
function M.memory(pid)
  local text = read(("/proc/%d/smaps_rollup"):format(pid))
  if not text then return nil, 0 end
  local function kb(name) return tonumber(text:match(name .. ":%s+(%d+) kB")) * 1024 end
  return kb("\nPss"), kb("Private_Clean") + kb("Private_Dirty")
end

--- Process ids of the children of a process, whichever of its threads started them, ascending.
---@param pid integer
---@return integer[]
function M.children(pid)
  local found = {}
  local dir = io.popen(("cat /proc/%d/task/*/children 2>/dev/null"):format(pid))
  for child in dir:read("a"):gmatch("%d+") do found[#found + 1] = tonumber(child) end
  dir:close()
  table.sort(found)
  return found
end

--- Number of threads of a process.
---@param pid integer
---@return integer
function M.threads(pid)
  return tonumber((read(("/proc/%d/status"):format(pid)) or ""):match("Threads:%s+(%d+)")) or 0
end

return M
