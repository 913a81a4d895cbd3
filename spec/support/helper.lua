--- Loaded by busted before the specs: every `it` must leave the process as it found it.
local uv = require "luv"
local busted = require "busted"

-- A loop's first stream makes libuv open a spare descriptor that it keeps: here, so that no `it` seems to leave it.
uv.new_tcp():close()
uv.run("nowait")

--- Names of the open file descriptors and what they point to, as one sorted text.
local function open_files()
  local names = {}
  local dir = uv.fs_scandir("/proc/self/fd")
  while dir do
    local name = uv.fs_scandir_next(dir)
    if not name then break end
    local target = uv.fs_readlink("/proc/self/fd/" .. name)
    -- epoll and event descriptors belong to the loop, which lives as long as the process
    if target and not target:find("/proc/%d+/fd") and not target:find("anon_inode", 1, true) then
      names[#names + 1] = name .. " -> " .. target
    end
  end
  table.sort(names)
  return table.concat(names, "\n")
end

--- Process ids of our children, as text.
local function children()
  local file = io.open("/proc/self/task/" .. uv.os_getpid() .. "/children")
  if not file then return "" end
  local text = file:read("a")
  file:close()
  return text
end

local before = {}

busted.subscribe({ "test", "start" }, function()
  collectgarbage()
  before.files, before.children = open_files(), children()
  return nil, true
end, { priority = 1 })

busted.subscribe({ "test", "end" }, function(element, _, status)
  collectgarbage()
  collectgarbage()
  for what, now in pairs { files = open_files(), children = children() } do
    if status == "success" and now ~= before[what] then
      busted.publish({ "error", "test" }, element, busted.parentOf and nil,
        ("left %s behind\nbefore: %s\nafter: %s"):format(what, before[what], now))
    end
  end
  return nil, true
end, { priority = 1 })
