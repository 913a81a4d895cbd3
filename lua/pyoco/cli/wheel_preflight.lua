--- What `wheel-upload` looks at before it sends a wheel (CONTRACT 16.1): metadata, usage documentation, entry points.
local archive = require "host.archive"
local headers = require "pyoco.wheel.headers"

local M = {}

local TEXT_MAX_BYTES = 1048576
local USAGE_MIN_CHARS = 80
local USAGE_LABELS = { documentation = true, docs = true, doc = true, usage = true }

--- The two texts that count: of the first dist-info folder with METADATA. Nil when the file is no zip archive.
local function read_texts(path)
  local reader <close> = archive.open(path)
  if not reader then return nil end
  local texts, folders = {}, {}
  for entry in reader:entries() do
    local folder, name = entry.name:match("([^/]+%.dist%-info)/([^/]+)$")
    if name == "METADATA" or name == "entry_points.txt" then
      local text = reader:read(TEXT_MAX_BYTES)
      if not text then return nil end
      folders[folder] = folders[folder] or {}
      folders[folder][name] = folders[folder][name] or text
      if name == "METADATA" and not texts.folder then texts.folder = folder end
    end
  end
  if reader:fault() then return nil end
  local one = next(folders)
  local found = folders[texts.folder or one] or {}
  return { metadata = texts.folder and found.METADATA, entry_points = found["entry_points.txt"] }
end

local function first(fields, name) return fields[name] and fields[name][1] or "" end

local function length(text)
  text = text:match("^%s*(.-)%s*$")
  return utf8.len(text) or #text
end

local function has_usage(fields, body)
  if length(body) >= USAGE_MIN_CHARS or length(first(fields, "description")) >= USAGE_MIN_CHARS then return true end
  for _, url in ipairs(fields["project-url"] or {}) do
    local label = url:match("^%s*(.-)%s*,")
    if label and USAGE_LABELS[label:lower()] then return true end
  end
  return false
end

--- Whether every line is blank, a comment, a section, an entry of one, or goes on from the line before.
local function is_well_formed(text)
  local in_section, may_go_on = false, false
  for line in text:gmatch("[^\r\n]+") do
    local goes_on = may_go_on and line:find("^%s")
    if line:find("^%s*%[[^%]]+%]%s*$") then
      in_section, may_go_on = true, false
    elseif line:find("%S") and not line:find("^%s*[#;]") and not goes_on then
      if not in_section or not line:find("^%s*[^=:%s][^=:]*[=:]") then return false end
      may_go_on = true
    end
  end
  return true
end

local function count_entry_points(text)
  local count = 0
  for _, group in ipairs(headers.entry_points(text)) do count = count + #group[2] end
  return count
end

local function look_at_metadata(text, opts, errors, warnings)
  if not text then
    errors[#errors + 1] = "missing dist-info/METADATA"
    return
  end
  local fields, body = headers.parse(text)
  if first(fields, "name") == "" then errors[#errors + 1] = "METADATA Name is missing" end
  if first(fields, "version") == "" then errors[#errors + 1] = "METADATA Version is missing" end
  if first(fields, "summary") == "" then warnings[#warnings + 1] = "METADATA Summary is empty" end
  if not opts.allow_missing_usage_doc and not has_usage(fields, body) then
    errors[#errors + 1] = "usage documentation is missing (need METADATA description>=80 chars or Project-URL: "
      .. "Documentation,...)"
  end
end

local function look_at_entry_points(text, opts, errors)
  if text and not is_well_formed(text) then
    errors[#errors + 1] = "dist-info/entry_points.txt format is invalid"
  elseif not opts.allow_no_entry_points and (not text or count_entry_points(text) == 0) then
    errors[#errors + 1] = "entry_points are missing (dist-info/entry_points.txt)"
  end
end

--- Looks at a wheel file.
---@param path string
---@param opts table { allow_no_entry_points, allow_missing_usage_doc }
---@return string[] errors why it should not be sent
---@return string[] warnings
function M.check(path, opts)
  local texts = read_texts(path)
  if not texts then return { "wheel file is not a valid zip archive" }, {} end
  local errors, warnings = {}, {}
  look_at_metadata(texts.metadata, opts, errors, warnings)
  look_at_entry_points(texts.entry_points, opts, errors)
  return errors, warnings
end

return M
