--- What this process holds: open files, children, libuv handles. For the check that every `it` leaves it as it was.
--- Counts by kind, since a number or an inode may change hands for good reasons (a connection that came back).
local uv = require "luv"

local M = {}

local function add(counts, kind)
  counts[kind] = (counts[kind] or 0) + 1
end

--- Kinds that tell one file from another by name; sockets and pipes are only counted.
local function kind_of_file(target)
  return "file " .. (target:match("^(%a+):%[") or target)
end

local function count_files(counts)
  local own = "^/proc/%d+/fd" -- the scan's own descriptor
  local dir = assert(uv.fs_scandir("/proc/self/fd"))
  for name in uv.fs_scandir_next, dir do
    local target = uv.fs_readlink("/proc/self/fd/" .. name)
    if target and not target:find(own) then add(counts, kind_of_file(target)) end
  end
end

local function count_children(counts)
  local dir = assert(uv.fs_scandir("/proc/self/task"))
  for task in uv.fs_scandir_next, dir do
    local file = io.open("/proc/self/task/" .. task .. "/children")
    if file then
      for _ in file:read("a"):gmatch("%d+") do add(counts, "child process") end
      file:close()
    end
  end
end

local function count_handles(counts)
  uv.walk(function(handle)
    if not handle:is_closing() then add(counts, "luv handle " .. tostring(handle):match("^[%w_]+")) end
  end)
end

--- Counts what is held now.
---@return table<string,integer> counts by kind
function M.count()
  collectgarbage()
  collectgarbage()
  for _ = 1, 3 do uv.run("nowait") end
  local counts = {}
  count_files(counts)
  count_children(counts)
  count_handles(counts)
  return counts
end

--- What there is more of than before.
---@param before table<string,integer>
---@param now table<string,integer>
---@return string|nil text one line per kind, nil when there is nothing
function M.growth(before, now)
  local lines = {}
  for kind, count in pairs(now) do
    local more = count - (before[kind] or 0)
    if more > 0 then lines[#lines + 1] = ("%d more: %s"):format(more, kind) end
  end
  table.sort(lines)
  return lines[1] and table.concat(lines, "\n")
end

return M
