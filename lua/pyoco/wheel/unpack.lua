--- Unpacks a wheel that pyoco.wheel.archive found right, and says later whether it is whole still.
local archive = require "host.archive"
local crypto = require "host.crypto"
local uv = require "luv"
local headers = require "pyoco.wheel.headers"
local paths = require "pyoco.wheel.paths"

local M = {}

local FILE_MODE, PROGRAM_MODE, FOLDER_MODE = 420, 493, 493 -- 0644, 0755
local PIECE_BYTES = 65536

local function make_folders(dir, path)
  for above in path:gmatch("()/") do
    local folder = dir .. "/" .. path:sub(1, above - 1)
    local ok, message, code = uv.fs_mkdir(folder, FOLDER_MODE)
    if not ok and code ~= "EEXIST" then return nil, message end
  end
  return true
end

--- Copies the current entry into an open file.
local function copy(reader, fd)
  while true do
    local piece, fault = reader:chunk()
    if not piece then return not fault or nil, fault end
    local written, message = uv.fs_write(fd, piece, -1)
    if written ~= #piece then return nil, message or "the disk took a part of it only" end
  end
end

--- Writes the current entry. The file must be new: two entries are never one file, whatever the file system thinks.
local function unpack_entry(reader, entry, dir)
  if entry.type == "dir" then return make_folders(dir, entry.name .. "/") end
  if entry.type ~= "file" then return nil, "not a file" end
  local ok, message = make_folders(dir, entry.name)
  if not ok then return nil, message end
  local is_program = entry.mode & 73 ~= 0 -- 0111
  local fd
  fd, message = uv.fs_open(dir .. "/" .. entry.name, "wx", is_program and PROGRAM_MODE or FILE_MODE)
  if not fd then return nil, message end
  ok, message = copy(reader, fd)
  uv.fs_close(fd)
  return ok, message
end

--- Unpacks a wheel that was found right, into a new folder. A failure leaves a part of it.
---@param path string
---@param dir string is made; must not be there
---@return boolean|nil done
---@return string|nil message
---@return string|nil code "internal" | "invalid"
function M.unpack(path, dir)
  local reader <close>, message, code = archive.open(path)
  if not reader then return nil, message, code end
  local ok
  ok, message = uv.fs_mkdir(dir, FOLDER_MODE)
  if not ok then return nil, message, "internal" end
  for entry in reader:entries() do
    local fault = paths.fault(entry.name)
    if fault then return nil, ("%s: %s"):format(paths.shown(entry.name), fault), "invalid" end
    ok, message = unpack_entry(reader, entry, dir)
    if not ok then return nil, ("%s: %s"):format(paths.shown(entry.name), message), "internal" end
  end
  message = reader:fault()
  return not message or nil, message, message and "invalid"
end

local function hash_file(path)
  local file <close>, message = io.open(path, "rb")
  if not file then return nil, message end
  local hasher, size = crypto.hasher(), 0
  while true do
    local piece, fault = file:read(PIECE_BYTES)
    if not piece then
      if fault then return nil, fault end
      return { digest = hasher:bytes(), size = size }
    end
    hasher:update(piece)
    size = size + #piece
  end
end

--- Checks that a folder that a wheel was unpacked into holds what its RECORD says still.
---@param dir string
---@return boolean|nil whole
---@return string|nil message
---@return string|nil code "invalid"
function M.verify(dir)
  local scan, info = uv.fs_scandir(dir), nil
  if not scan then return nil, "it is no folder", "invalid" end
  for name in uv.fs_scandir_next, scan do
    if name:find("%.dist%-info$") then info = name end
  end
  local file <close> = info and io.open(("%s/%s/RECORD"):format(dir, info), "rb")
  if not file then return nil, "it has no RECORD", "invalid" end
  for path, row in pairs((headers.record(file:read("a") or ""))) do
    if not headers.is_unsigned(path) then
      local found, fault = hash_file(dir .. "/" .. path)
      if found then fault = headers.row_fault(found, row) end
      if fault then return nil, ("%s: %s"):format(paths.shown(path), fault), "invalid" end
    end
  end
  return true
end

return M
