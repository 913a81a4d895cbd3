--- Notices that files were saved: for `client.lua run --watch`.
local uv = require "luv"

local M = {}

local QUIET_MS = 150 -- an editor writes a file in several steps
local POLL_MS = 500  -- where the system cannot tell

--- Watches the folders that files are in, since editors replace files by new ones.
---@param files string[] paths
---@param opts table { any = any flow file of these folders counts, folders = further ones, on_change = fn() | nil }
---@return table watch { changed = whether a save was seen, close = fn() }
function M.watch(files, opts)
  local watch, names, handles = { changed = false }, {}, {}
  local timer = uv.new_timer()
  handles[1] = timer

  local function settle()
    watch.changed = true
    if opts.on_change then opts.on_change() end
  end

  local function is_ours(folder, name)
    if not name then return true end
    return names[folder][name] or (opts.any and (name:find("%.lua$") or name:find("%.ya?ml$"))) ~= nil
  end

  local function add(folder)
    if names[folder] then return end
    names[folder] = {}
    local handle = uv.new_fs_event()
    handles[#handles + 1] = handle
    local ok = handle:start(folder, {}, function(failed, name)
      if not failed and is_ours(folder, name) and not watch.changed then timer:start(QUIET_MS, 0, settle) end
    end)
    if ok then return end
    handle = uv.new_fs_poll()
    handles[#handles + 1] = handle
    handle:start(folder, POLL_MS, function(failed)
      if not failed and not watch.changed then timer:start(QUIET_MS, 0, settle) end
    end)
  end

  for _, path in ipairs(files) do
    local folder, name = path:match("^(.*)/([^/]*)$")
    if folder == "" then folder = "/" end
    add(folder or ".")
    names[folder or "."][name or path] = true
  end
  for _, folder in ipairs(opts.folders or {}) do add(folder) end

  function watch.close()
    for _, handle in ipairs(handles) do
      if not handle:is_closing() then handle:close() end
    end
  end

  return watch
end

return M
