--- Which names the entries of a wheel may have: those that stay inside the folder they are unpacked into, on whatever
--- file system, and of which no two are the same file.
local M = {}

local MAX_BYTES, MAX_PART_BYTES = 512, 255

--- A name as a message may show it: what does not print is escaped.
---@param name string
---@return string
function M.shown(name)
  local text = name:gsub("[%c\127]", function(c) return ("\\x%02x"):format(c:byte()) end)
  if not utf8.len(text) then text = text:gsub("[\128-\255]", function(c) return ("\\x%02x"):format(c:byte()) end) end
  return #text > 120 and text:sub(1, 117) .. "..." or text
end

--- What is wrong with a name.
---@param name string
---@return string|nil fault
function M.fault(name)
  if name == "" then return "an empty name" end
  if name:find("[%c\127]") then return "a NUL or control character in its name" end
  if not utf8.len(name) then return "a name that is not UTF-8" end
  if #name > MAX_BYTES then return ("a name of more than %d bytes"):format(MAX_BYTES) end
  if name:find("\\", 1, true) then return "a backslash in its name" end
  if name:find("^/") then return "an absolute path" end
  if name:find("^%a:") then return "a drive letter" end
  for part in (name:gsub("/$", "") .. "/"):gmatch("(.-)/") do
    if part == ".." then return "a path that leaves the archive (..)" end
    if part == "" or part == "." then return "an empty or . part in its path" end
    if #part > MAX_PART_BYTES then return ("a part of more than %d bytes in its path"):format(MAX_PART_BYTES) end
  end
end

local Names = {}
Names.__index = Names

--- A set of names that must not meet each other.
---@return table
function M.set() return setmetatable({ seen = {}, folders = {} }, Names) end

--- Adds a name.
---@param name string one without fault
---@param is_folder boolean
---@return string|nil fault how it meets another one
function Names:add(name, is_folder)
  local key = name:gsub("/$", ""):lower()
  local other = self.seen[key]
  if other then
    if other == name then return "the same name as another entry" end
    return ("a name that differs from %s in case only"):format(M.shown(other))
  end
  if not is_folder and self.folders[key] then return "a name that is a folder of other entries" end
  self.seen[key] = name
  if is_folder then self.folders[key] = true end
  local above = key:match("^(.*)/")
  while above do
    if self.seen[above] and not self.folders[above] then
      return ("a path below the file %s"):format(M.shown(self.seen[above]))
    end
    self.folders[above] = true
    above = above:match("^(.*)/")
  end
end

return M
