--- The folder that a worker installs wheels into. What counts is the manifest, replaced whole by a rename; whatever it
--- does not name is the rest of something that was cut off, and goes at the next start.
---
---   .installed.json   the manifest (CONTRACT 8.8), each row with the `site` that it is unpacked in
---   <wheel>.whl       the wheels as fetched
---   .sites/<site>/    one folder for each installed wheel: a task root. It never changes once it has its name
---   .staging/         what is being fetched and unpacked, and what is being removed
---   .lock             held by the worker that uses the folder
---   .workers/<id>/    the same once more, for each further worker that was told to use this folder
local host = require "host"
local json = require "host.json"
local crypto = require "host.crypto"
local uv = require "luv"

local M = {}
local Folder = {}
Folder.__index = Folder

local FOLDER_MODE = 493 -- 0755
local MANIFEST, SITES, STAGING, LOCK = "/.installed.json", "/.sites", "/.staging", "/.lock"
local SITE_NAME_BYTES = 100 -- of the readable part

local function make_folder(path)
  local above = path:match("^(.+)/[^/]+$")
  if above and not uv.fs_stat(above) then
    local ok, message = make_folder(above)
    if not ok then return nil, message end
  end
  local ok, message, code = uv.fs_mkdir(path, FOLDER_MODE)
  return ok or code == "EEXIST" or nil, message
end

local function read_file(path)
  local file <close> = io.open(path, "rb")
  return file and file:read("a")
end

local function is_site_name(name) return type(name) == "string" and name:find("^[%w][%w._+!-]*$") ~= nil end

--- Rows that can be used: of the right shape, and with what they speak of.
local function read_manifest(dir)
  local text = read_file(dir .. MANIFEST)
  local found, rows = text and json.decode(text), {}
  for name, row in pairs(type(found) == "table" and found or {}) do
    if type(row) == "table" and is_site_name(row.site) and type(row.nuid) == "string"
      and type(row.package_name) == "string" and uv.fs_stat(dir .. SITES .. "/" .. row.site) then
      rows[name] = row
    end
  end
  return rows
end

--- Takes the folder, or one for this worker within it.
local function take(dir, worker_id)
  local ok, message = make_folder(dir)
  if not ok then return nil, message end
  local lock, why, code = host.lock(dir .. LOCK)
  if lock or code ~= "conflict" then return lock, why, dir end
  local own = dir .. "/.workers/" .. worker_id:gsub("[^%w_-]", "_")
  ok, message = make_folder(own)
  if not ok then return nil, message end
  lock, why = host.lock(own .. LOCK)
  return lock, why, own
end

--- Opens the folder. What is left of an earlier life is put aside for `rubbish`.
---@param dir string
---@param worker_id string
---@return table|nil folder { dir = what was taken, rows = the manifest: wheel name -> row }
---@return string|nil message
function M.open(dir, worker_id)
  local lock, message, taken = take(dir, worker_id)
  if not lock then return nil, message end
  local self = setmetatable({ dir = taken, lock = lock, rows = {}, retired = {} }, Folder)
  for _, part in ipairs { SITES, STAGING } do
    local ok, why = make_folder(taken .. part)
    if not ok then
      lock:close()
      return nil, why
    end
  end
  self.rows = read_manifest(taken)
  local kept = {}
  for _, row in pairs(self.rows) do kept[row.site] = true end
  for name in uv.fs_scandir_next, uv.fs_scandir(taken .. SITES) do
    if not kept[name] then self.retired[name] = true end
  end
  return self
end

--- Gives the folder up.
function Folder:close() self.lock:close() end

--- The name of the folder that a wheel is unpacked in; another one for each upload.
---@param package string
---@param version string
---@param nuid string
---@return string
function M.site_name(package, version, nuid)
  local readable = ("%s-%s"):format(package, version):gsub("[^%w.+!-]", "_"):gsub("^[^%w]", "x"):sub(1, SITE_NAME_BYTES)
  return ("%s-%s"):format(readable, crypto.sha256(nuid):sub(1, 12))
end

--- The path of something that is not finished.
---@param name string
---@return string
function Folder:staging(name) return ("%s%s/%s"):format(self.dir, STAGING, name) end

--- The path of a site.
---@param site string
---@return string
function Folder:site(site) return ("%s%s/%s"):format(self.dir, SITES, site) end

--- Whether a wheel's upload is installed: by its manifest, and the file is still there.
---@param name string
---@param nuid string
---@return boolean
function Folder:has(name, nuid)
  local row = self.rows[name]
  return row ~= nil and row.nuid == nuid and uv.fs_stat(self.dir .. "/" .. name) ~= nil
end

--- Writes the manifest.
---@return boolean|nil done
---@return string|nil message
function Folder:save()
  local path = self.dir .. MANIFEST
  local file, message = io.open(path .. ".part", "wb")
  if not file then return nil, message end
  local ok, why = file:write(assert(json.encode(self.rows, { sort = true, pretty = true })), "\n")
  local closed, reason = file:close()
  if ok and closed then ok, why = os.rename(path .. ".part", path) else ok = nil end
  return ok, why or reason
end

--- Puts a site that was unpacked in place of what was installed of its package, in one step.
---@param name string wheel
---@param row table manifest row; its site and the wheel's file are in staging, as <site> and <site>.whl
---@return boolean|nil done
---@return string|nil message
function Folder:commit(name, row)
  local before = self.rows
  local ok, message = true, nil
  if not uv.fs_stat(self:site(row.site)) then -- else it was installed before, and a run uses it still
    ok, message = os.rename(self:staging(row.site), self:site(row.site))
  end
  if not ok then return nil, message end
  self.rows = { [name] = row }
  for other, its_row in pairs(before) do
    if other ~= name and its_row.package_name ~= row.package_name then self.rows[other] = its_row end
  end
  ok, message = self:save()
  if not ok then
    self.rows, self.retired[row.site] = before, true
    return nil, message
  end
  for other, its_row in pairs(before) do
    if self.rows[other] ~= its_row then self:retire(other, its_row) end
  end
  return os.rename(self:staging(row.site .. ".whl"), self.dir .. "/" .. name)
end

--- What belongs to a row that is no more in the manifest goes: its file now, its site when nobody uses it.
---@param name string wheel
---@param row table
function Folder:retire(name, row)
  if not self.rows[name] then uv.fs_unlink(self.dir .. "/" .. name) end
  self.retired[row.site] = true
end

--- Removes wheels from the manifest.
---@param names string[]
---@return boolean|nil done
---@return string|nil message
function Folder:drop(names)
  local before = self.rows
  self.rows = {}
  for name, row in pairs(before) do self.rows[name] = row end
  for _, name in ipairs(names) do self.rows[name] = nil end
  local ok, message = self:save()
  if not ok then
    self.rows = before
    return nil, message
  end
  for _, name in ipairs(names) do self:retire(name, before[name]) end
  return true
end

--- The sites of the installed wheels, by package: task roots.
---@return string[] sites names
function Folder:sites()
  local list = {}
  for _, row in pairs(self.rows) do list[#list + 1] = row end
  table.sort(list, function(a, b) return a.package_name < b.package_name end)
  for i, row in ipairs(list) do list[i] = row.site end
  return list
end

--- Puts aside what nobody needs: sites that are retired and not used, all that is in staging.
---@param used table site -> true
---@return string[] paths to remove
function Folder:rubbish(used)
  for _, row in pairs(self.rows) do self.retired[row.site] = nil end
  for site in pairs(self.retired) do
    if not used[site] and os.rename(self:site(site), self:staging(site .. ".gone")) then self.retired[site] = nil end
  end
  local paths = {}
  for name in uv.fs_scandir_next, uv.fs_scandir(self.dir .. STAGING) do paths[#paths + 1] = self:staging(name) end
  return paths
end

return M
