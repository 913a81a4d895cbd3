--- The file name of a wheel, as PEP 427 has it: `name-version[-build]-python-abi-platform.whl`.
local versions = require "pyoco.wheel.version"

local M = {}

local MAX_BYTES = 255 -- a worker has to make a file of that name
local MAX_TAGS = 1000 -- "a.b-c.d-e.f" stands for every combination: a short name may mean very many

--- Whether a text is of the letters that a wheel's name may have (CONTRACT 8.1). More is asked of it by M.parse.
---@param filename any
---@return boolean
function M.is_plain(filename)
  return type(filename) == "string" and #filename <= MAX_BYTES and filename:find("^[%w._+-]+%.whl$") ~= nil
end

--- What a distribution's name is known by: lower case, each run of `-`, `_` and `.` one `-`.
---@param distribution string
---@return string package
function M.package(distribution) return (distribution:gsub("[-_.]+", "-"):lower()) end

local function fields_of(stem)
  local fields = {}
  for field in (stem .. "-"):gmatch("(.-)%-") do fields[#fields + 1] = field end
  return fields
end

local function alternatives(field)
  local list = {}
  for one in (field .. "."):gmatch("(.-)%.") do
    if one == "" then return nil end
    list[#list + 1] = one:lower()
  end
  return list
end

--- "py2.py3-none-any" stands for py2-none-any and py3-none-any. Nil when a part is empty or there are too many.
local function tags_of(python, abi, platform)
  local pythons, abis, platforms = alternatives(python), alternatives(abi), alternatives(platform)
  if not (pythons and abis and platforms) or #pythons * #abis * #platforms > MAX_TAGS then return nil end
  local tags, seen = {}, {}
  for _, p in ipairs(pythons) do
    for _, a in ipairs(abis) do
      for _, f in ipairs(platforms) do
        local tag = ("%s-%s-%s"):format(p, a, f)
        if not seen[tag] then
          seen[tag] = true
          tags[#tags + 1] = tag
        end
      end
    end
  end
  return tags
end

--- Reads a wheel's file name.
---@param filename string
---@return table|nil wheel { name (the file name), distribution (as spelled), package (normalised), version (as
---  spelled), parsed_version (of pyoco.wheel.version), build (text) or nil, tags = { "lua54-none-any", ... } }
---@return string|nil message
---@return string|nil code "invalid"
function M.parse(filename)
  local function bad(why) return nil, ("wheel file name '%s': %s"):format(tostring(filename), why), "invalid" end
  if not M.is_plain(filename) then return bad "letters, digits and . _ + - before .whl, at most 255 bytes" end
  local fields = fields_of(filename:sub(1, -5))
  if #fields ~= 5 and #fields ~= 6 then
    return bad "it is name-version-python-abi-platform.whl, with a build number behind the version or without"
  end
  local distribution = fields[1]
  if not distribution:find("^[%w._]+$") or distribution:find("__", 1, true) then
    return bad "its first part is no name of a distribution"
  end
  local version, message = versions.parse(fields[2])
  if not version then return bad(message) end
  local build = #fields == 6 and fields[3] or nil
  if build and not build:find("^%d") then return bad "its build number does not begin with a digit" end
  local tags = tags_of(fields[#fields - 2], fields[#fields - 1], fields[#fields])
  if not tags then return bad "its tags are not python-abi-platform, or stand for more than 1000 combinations" end
  return { name = filename, distribution = distribution, package = M.package(distribution), version = fields[2],
    parsed_version = version, build = build, tags = tags }
end

return M
