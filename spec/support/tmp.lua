--- Temporary folders for specs.
local uv = require "luv"

local M = {}

--- Makes an empty folder under TMPDIR.
---@return string path
function M.dir()
  return assert(uv.fs_mkdtemp((os.getenv("TMPDIR") or "/tmp") .. "/pyoco-spec-XXXXXX"))
end

--- Removes a folder or file with all that is in it; a missing one is fine. Symbolic links are not followed.
---@param path string
function M.remove(path)
  local stat = uv.fs_lstat(path)
  if not stat then return end
  if stat.type ~= "directory" then
    assert(uv.fs_unlink(path))
    return
  end
  local scan = assert(uv.fs_scandir(path))
  for name in uv.fs_scandir_next, scan do M.remove(path .. "/" .. name) end
  assert(uv.fs_rmdir(path))
end

--- Writes a file, replacing it.
---@param path string
---@param text string
---@return string path
function M.write(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  assert(file:close())
  return path
end

--- Reads a whole file.
---@param path string
---@return string|nil text nil when it cannot be opened
function M.read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end

return M
