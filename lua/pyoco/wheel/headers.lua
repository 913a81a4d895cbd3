--- The text files of a wheel's dist-info folder: `Name: value` lines with a body (METADATA, WHEEL), rows of RECORD,
--- sections of entry_points.txt. Read leniently: what is wrong with them is their checker's to say.
local crypto = require "host.crypto"

local M = {}

local UNSIGNED = { ["RECORD"] = true, ["RECORD.jws"] = true, ["RECORD.p7s"] = true }
local DIGEST_MAX_BYTES = 200

--- A text without the blanks around it. Whatever the text is, this takes time in proportion to its length.
local function trim(text)
  return text:find("%S") and text:match("^%s*(.*%S)") or ""
end

--- Reads `Name: value` lines up to the first empty line.
---@param text string
---@return table fields lower-case name -> list of values, in order
---@return string body what stands after the empty line
function M.parse(text)
  local fields, values, at = {}, {}, 1
  for line, next_at in text:gmatch("([^\n]*)\n?()") do
    at = next_at
    line = line:gsub("\r$", "")
    if line == "" then break end
    local name, value = line:match("^([%w_-]+):(.*)$")
    local last = values[#values]
    if name then
      values[#values + 1] = { name = name:lower(), trim(value) }
    elseif last and line:find("^%s") then -- a value that goes on
      last[#last + 1] = trim(line)
    end
  end
  for _, value in ipairs(values) do
    local list = fields[value.name] or {}
    fields[value.name], list[#list + 1] = list, table.concat(value, "\n")
  end
  return fields, (text:sub(at):gsub("\r\n", "\n"))
end

--- Writes fields and a body.
---@param fields table[] list of { name, value }; one whose value is nil or "" is left out
---@param body string|nil
---@return string
function M.format(fields, body)
  local lines = {}
  for _, field in ipairs(fields) do
    local value = field[2] and field[2]:gsub("%s*\n%s*", " ") or ""
    if value ~= "" then lines[#lines + 1] = ("%s: %s\n"):format(field[1], value) end
  end
  if body and body ~= "" then lines[#lines + 1] = "\n" .. body end
  return table.concat(lines)
end

--- The fields of a line of comma-separated values; nil when it is not well formed.
local function csv_fields(line)
  local fields, at = {}, 1
  line = line:gsub('""', "\0") -- a quote inside of quotes
  while true do
    local value, stop = line:match('^"([^"]*)"()', at)
    if not value then value, stop = line:match('^([^,"]*)()', at) end
    fields[#fields + 1] = value:gsub("\0", '"') .. ""
    if stop > #line then return fields end
    if line:sub(stop, stop) ~= "," then return nil end
    at = stop + 1
  end
end

--- Reads a RECORD: rows of path, hash and size.
---@param text string
---@return table rows path -> { algorithm, digest, size (number|nil) }; algorithm is nil when the row has no hash
---@return string[] faults lines that cannot be read, and paths that come twice
function M.record(text)
  local rows, faults = {}, {}
  for line in text:gmatch("[^\r\n]+") do
    local fields = csv_fields(line)
    local path = fields and #fields == 3 and fields[1]
    if not path or path == "" then
      faults[#faults + 1] = ("RECORD has a line that is not path,hash,size: %s"):format(line:sub(1, 100))
    elseif rows[path] then
      faults[#faults + 1] = ("RECORD names %s twice"):format(path)
    else
      local algorithm, digest = fields[2]:sub(1, DIGEST_MAX_BYTES):match("^([%w_]+)=([%w_=-]+)$")
      rows[path] = { algorithm = algorithm, digest = digest and digest:match("^(.-)=*$"), size = tonumber(fields[3]) }
    end
  end
  return rows, faults
end

--- Whether a file is RECORD itself or a signature of it, of which RECORD says nothing.
---@param path string
---@return boolean
function M.is_unsigned(path)
  local name = path:match("^[^/]*%.dist%-info/([^/]*)$")
  return name ~= nil and UNSIGNED[name] == true
end

--- What differs between a file and its row of RECORD.
---@param file table { digest (SHA-256, 32 bytes), size }
---@param row table|nil of M.record
---@return string|nil fault
function M.row_fault(file, row)
  if not row then return "it is not in RECORD" end
  if row.algorithm ~= "sha256" then return "RECORD has no sha256 of it" end
  if row.digest ~= crypto.base64url_encode(file.digest) then return "its bytes are not those of RECORD (sha256)" end
  if row.size and row.size ~= file.size then return ("%d bytes, RECORD says %d"):format(file.size, row.size) end
end

--- A path as a field of RECORD.
---@param path string
---@return string
function M.quote(path)
  return path:find('[,"]') and '"' .. path:gsub('"', '""') .. '"' or path
end

--- Reads entry_points.txt.
---@param text string
---@return table groups list of { name, { { key, value }, ... } }
function M.entry_points(text)
  local groups, group = {}, nil
  for line in text:gmatch("[^\r\n]+") do
    line = trim(line)
    local section = line:match("^%[(.*)%]$")
    local key, value = line:match("^([^#;=][^=]*)=(.*)$")
    if section then
      group = { section, {} }
      groups[#groups + 1] = group
    elseif key and group then
      table.insert(group[2], { trim(key), trim(value) })
    end
  end
  return groups
end

return M
