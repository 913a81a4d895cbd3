--- What the kernel says of a process: CPU time, memory, children. Linux /proc only.
local M = {}

local function read(path)
  local file <close> = io.open(path, "rb")
  return file and file:read("a")
end

--- CPU seconds that the living threads of a process have used so far, to the nanosecond.
---@param pid integer
---@return number seconds 0 for a process that is gone
function M.cpu(pid)
  local total = 0
  local pipe <close> = io.popen(("cat /proc/%d/task/*/schedstat 2>/dev/null"):format(pid))
  for ns in pipe:read("a"):gmatch("(%d+) %d+ %d+\n") do total = total + tonumber(ns) end
  return total / 1e9
end

--- CPU seconds that the whole machine has been busy, in ticks of 10 ms.
---@return number seconds
function M.machine_cpu()
  local user, nice, system, _, _, irq, softirq, steal = read("/proc/stat"):match(
    "^cpu +(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)")
  return (user + nice + system + irq + softirq + steal) / 100 -- USER_HZ is 100 wherever Debian runs
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
  local pipe <close> = io.popen(("cat /proc/%d/task/*/children 2>/dev/null"):format(pid))
  for child in pipe:read("a"):gmatch("%d+") do found[#found + 1] = tonumber(child) end
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
