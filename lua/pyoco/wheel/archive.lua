--- Checks a wheel file whole before anything of it is written (pyoco.wheel.unpack). Everything that is wrong is said at
--- once, up to a limit; what could only be said by doing harm (unpacking a bomb) ends the check.
local crypto = require "host.crypto"
local directory = require "pyoco.wheel.directory"
local fit = require "pyoco.wheel.fit"
local headers = require "pyoco.wheel.headers"
local names = require "pyoco.wheel.name"
local paths = require "pyoco.wheel.paths"
local versions = require "pyoco.wheel.version"
local sorted = require "pyoco.sorted"

local M = {}

local TEXT_MAX_BYTES = 16777216 -- of a file of the dist-info folder that is read
local RATIO_FROM_BYTES = 16777216 -- small wheels may shrink as much as they like
local PROBLEMS_MAX = 20
local KEPT = { METADATA = true, WHEEL = true, RECORD = true, ["entry_points.txt"] = true } -- read, not only hashed

local Check = {}
Check.__index = Check

--- Notes a problem.
---@param text string format of it; what comes from the archive is given as paths.shown makes it
function Check:say(text, ...)
  self.count = self.count + 1
  if self.count <= PROBLEMS_MAX then self.problems[#self.problems + 1] = text:format(...) end
end

-- entries ------------------------------------------------------------------------------------------------------

--- Counts bytes that were unpacked; false when there are too many.
local function count(self, bytes)
  self.total = self.total + bytes
  local max_bytes, max_ratio = self.limits.max_bytes, self.limits.max_ratio
  if self.total > max_bytes then
    self:say("a bomb: it unpacks to more than %d bytes", max_bytes)
  elseif self.total > RATIO_FROM_BYTES and self.total > self.size * max_ratio then
    self:say("a bomb: it unpacks to more than %g times its size", max_ratio)
  else
    return true
  end
  return false
end

--- Reads the current entry to its end, counting and hashing it. Keeps its text when it is of the dist-info folder.
---@return boolean goes_on false when the check has to end here
local function read_entry(self, reader, file)
  local hasher, kept, size = crypto.hasher(), KEPT[file.info_name or ""] and {} or nil, 0
  while true do
    local piece, message = reader:chunk()
    if not piece then
      if message then self:say("%s: %s", paths.shown(file.name), message) end
      break
    end
    hasher:update(piece)
    size = size + #piece
    if size > TEXT_MAX_BYTES then kept = nil end
    if kept then kept[#kept + 1] = piece end
    if not count(self, #piece) then return false end
  end
  file.size, file.digest = size, hasher:bytes()
  if kept then self.info[file.info_name] = table.concat(kept) end
  if size > TEXT_MAX_BYTES and KEPT[file.info_name or ""] then
    self:say("%s: larger than %d bytes", paths.shown(file.name), TEXT_MAX_BYTES)
  end
  return true
end

local KINDS = { symlink = "a symbolic link", hardlink = "a hard link", other = "a device, pipe or socket" }

--- Takes one entry in.
local function take_entry(self, reader, entry)
  if paths.fault(entry.name) then return true end -- compare_names has the name's raw bytes
  local fault = KINDS[entry.type] or entry.encrypted and "encrypted" or self.set:add(entry.name, entry.type == "dir")
  if fault then
    self:say("%s: %s", paths.shown(entry.name), fault)
    return true
  end
  if entry.type == "dir" then return true end
  local folder, info_name = entry.name:match("^([^/]+%.dist%-info)/([^/]+)$")
  if folder then self.folders[folder] = true end
  local file = { name = entry.name, info_name = info_name, mode = entry.mode }
  self.files[#self.files + 1], self.by_name[entry.name] = file, file
  return read_entry(self, reader, file)
end

--- Reads all entries; the names must be those of the archive's directory.
local function read_entries(self, path)
  local listed, message = directory.names(path, self.limits.max_entries)
  if not listed then return self:say("%s", message) end
  local reader <close>, why = require("host.archive").open(path) -- heavy: not before there is a wheel
  if not reader then return self:say("%s", why) end
  local seen = {}
  for entry in reader:entries() do
    seen[#seen + 1] = entry.name
    if #seen > self.limits.max_entries then return self:say("more than %d entries", self.limits.max_entries) end
    if not take_entry(self, reader, entry) then return end
  end
  if reader:fault() then self:say("the archive is damaged: %s", reader:fault()) end
  self:compare_names(listed, seen)
end

--- The names of one list that are not in the other.
local function missing(list, other)
  local counts, found = {}, {}
  for _, name in ipairs(other) do counts[name] = (counts[name] or 0) + 1 end
  for _, name in ipairs(list) do
    if (counts[name] or 0) == 0 then found[#found + 1] = name else counts[name] = counts[name] - 1 end
  end
  return found
end

--- Checks the names as the directory has them. An archive whose entries are called differently in two places is made
--- to deceive.
function Check:compare_names(listed, seen)
  local is_comparable = #listed == #seen
  for _, name in ipairs(listed) do
    local fault = paths.fault(name)
    if fault then
      self:say("%s: %s", paths.shown(name), fault)
      is_comparable = false
    end
  end
  if is_comparable then
    for _, name in ipairs(missing(listed, seen)) do
      self:say("%s: the archive's directory calls it so, its own header does not", paths.shown(name))
    end
  elseif self.count == 0 then
    self:say("its directory names %d entries, there are %d", #listed, #seen)
  end
end

-- what the wheel says of itself --------------------------------------------------------------------------------

local function check_folder(self)
  local folders = sorted.keys(self.folders)
  if #folders ~= 1 then
    return self:say(#folders == 0 and "it has no .dist-info folder" or "it has several .dist-info folders: %s",
      paths.shown(table.concat(folders, ", ")))
  end
  self.folder = folders[1]
  local name, version = self.folder:match("^(.+)%-([^-]+)%.dist%-info$")
  if not name or names.package(name) ~= self.wheel.package or versions.compare(version, self.wheel.version) ~= 0 then
    self:say("its folder %s is not of %s %s, as the file name says", paths.shown(self.folder), self.wheel.package,
      self.wheel.version)
  end
end

local function check_metadata(self)
  local text = self.info.METADATA
  if not text then return self:say("it has no METADATA") end
  local fields, body = headers.parse(text)
  local name, version = fields.name and fields.name[1], fields.version and fields.version[1]
  self.metadata = { name = name, version = version, summary = fields.summary and fields.summary[1], fields = fields,
    description = body:find("%S") and body or fields.description and fields.description[1] }
  if not name then self:say("METADATA has no Name") end
  if not version then self:say("METADATA has no Version") end
  if name and names.package(name) ~= self.wheel.package then
    self:say("METADATA says Name: %s, the file name says %s", paths.shown(name), self.wheel.package)
  end
  if version and versions.compare(version, self.wheel.version) ~= 0 then
    self:say("METADATA says Version: %s, the file name says %s", paths.shown(version), self.wheel.version)
  end
end

--- A wheel that was renamed to fit still says in WHEEL what it was made for.
local function check_wheel_file(self)
  local text = self.info.WHEEL
  if not text then return self:say("it has no WHEEL") end
  local fields = headers.parse(text)
  local version = fields["wheel-version"] and fields["wheel-version"][1]
  if not version or not version:find("^1%.") then
    self:say("WHEEL says Wheel-Version: %s, not 1.x", paths.shown(tostring(version)))
  end
  local stated = {}
  for _, tag in ipairs(fields.tag or {}) do stated[tag:lower()] = true end
  for _, tag in ipairs(self.wheel.tags) do
    if not stated[tag] then self:say("the file name's tag %s is not among those of WHEEL", tag) end
  end
end

local function check_record(self)
  local text = self.info.RECORD
  if not text then return self:say("it has no RECORD") end
  local rows, faults = headers.record(text)
  for _, fault in ipairs(faults) do self:say("%s", paths.shown(fault)) end
  for _, file in ipairs(self.files) do
    local fault = not headers.is_unsigned(file.name) and headers.row_fault(file, rows[file.name])
    if fault then self:say("%s: %s", paths.shown(file.name), fault) end
  end
  for path in pairs(rows) do
    if not self.by_name[path] then self:say("%s: RECORD names it, it is not there", paths.shown(path)) end
  end
end

local function check_contents(self)
  if not fit.is_portable(self.wheel.tags) then return end
  for _, file in ipairs(self.files) do
    if file.name:find("%.so$") then
      self:say("%s: a C module in a wheel for any machine (its tag would be %s)", paths.shown(file.name),
        fit.native_tag())
    end
  end
end

--- Checks a wheel file.
---@param path string
---@param filename string its name as a wheel, which says what must be inside
---@param limits table { max_bytes (unpacked), max_ratio (unpacked to packed), max_entries }
---@return table report { problems = what is wrong, as texts (empty: it is right), wheel (of pyoco.wheel.name, or nil),
---  metadata { name, version, summary, description, fields } or nil, entry_points (groups), files { name, size },
---  size (bytes of the file), unpacked_bytes }
function M.check(path, filename, limits)
  local self = setmetatable({ limits = limits, problems = {}, count = 0, total = 0, files = {}, by_name = {}, info = {},
    folders = {}, set = paths.set() }, Check)
  local message
  self.wheel, message = names.parse(filename)
  if not self.wheel then self:say("%s", message) end
  local file = io.open(path, "rb")
  self.size = file and file:seek("end") or 0
  if file then file:close() end
  read_entries(self, path)
  if self.wheel and self.count == 0 then
    check_folder(self)
    check_metadata(self)
    check_wheel_file(self)
    if self.folder then check_record(self) end
    check_contents(self)
  end
  if self.count > PROBLEMS_MAX then
    self.problems[#self.problems + 1] = ("and %d more"):format(self.count - PROBLEMS_MAX)
  end
  return { problems = self.problems, wheel = self.wheel, metadata = self.metadata, size = self.size, files = self.files,
    entry_points = headers.entry_points(self.info["entry_points.txt"] or ""), unpacked_bytes = self.total }
end

return M
