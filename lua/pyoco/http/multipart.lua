--- Reads form bodies: multipart/form-data and application/x-www-form-urlencoded, and query strings.
local M = {}

local MAX_PARTS, MAX_HEAD_BYTES = 100, 8192
local HEADS_MAX = 64

local function unescape(text)
  return (text:gsub("+", " "):gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

--- Reads "a=1&b=2". Repeated names keep all their values.
---@param text string
---@return table values name -> list of texts
function M.query(text)
  local values = {}
  for pair in text:gmatch("[^&]+") do
    local name, value = pair:match("^([^=]*)=?(.*)$")
    name = unescape(name)
    values[name] = values[name] or {}
    table.insert(values[name], unescape(value))
  end
  return values
end

--- Where a quoted text ends that begins at `open`.
local function closing_quote(header, open)
  local close = open
  repeat close = header:find('"', close + 1, true) until not close or header:sub(close - 1, close - 1) ~= "\\"
  return close
end

--- A parameter of a header: name=token or name="quoted". Names have no case; what others quote is not searched.
local function parameter(header, wanted)
  local at = header:find(";", 1, true)
  while at do
    local name, value_at = header:match("^;%s*([^=;%s]+)%s*=%s*()", at)
    local is_quoted = name and header:sub(value_at, value_at) == '"'
    local close = is_quoted and closing_quote(header, value_at)
    if is_quoted and not close then return nil end
    if name and name:lower() == wanted then
      if not is_quoted then return header:match("^[^;%s]+", value_at) end
      return (header:sub(value_at + 1, close - 1):gsub('\\(["\\])', "%1"):gsub("%%22", '"'))
    end
    at = header:find(";", close or at + 1, true)
  end
end

local function headers_of(text)
  local headers = {}
  for name, value in text:gmatch("([^\r\n:]+):%s*([^\r\n]*)") do headers[name:lower()] = value end
  return headers
end

local heads, heads_count = {}, 0 -- what heads say: a client sends the same ones again and again

local function read_head(head)
  if #head > MAX_HEAD_BYTES then return nil, "the headers of a part are too long" end
  local headers = headers_of(head)
  local disposition = headers["content-disposition"] or ""
  local name = parameter(disposition, "name")
  if not name or not disposition:lower():find("^form%-data") then
    return nil, "a part has no content-disposition: form-data with a name"
  end
  return { name = name, filename = parameter(disposition, "filename"), content_type = headers["content-type"] }
end

--- What the header lines of a part say.
---@param head string without the blank line behind it
---@return table|nil part { name, filename|nil, content_type|nil }
---@return string|nil message
function M.part(head)
  local known = heads[head]
  if not known then
    local message
    known, message = read_head(head)
    if not known then return nil, message end
    if heads_count == HEADS_MAX then heads, heads_count = {}, 0 end
    heads[head], heads_count = known, heads_count + 1
  end
  return { name = known.name, filename = known.filename, content_type = known.content_type }
end

--- One part from its text, head and data.
local function part_of(text)
  local head_end, data_start = text:find("\r\n\r\n", 1, true)
  if text:find("^\r\n") then return M.part("") end -- it begins with the blank line: there are no headers
  if not head_end then return nil, "a part has no blank line after its headers" end
  local part, message = M.part(text:sub(1, head_end - 1))
  if part then part.data = text:sub(data_start + 1) end
  return part, message
end

--- The boundary of a multipart/form-data body.
---@param content_type string the request's header
---@return string|nil boundary nil when there is none that could be
function M.boundary(content_type)
  local boundary = parameter(content_type, "boundary")
  return boundary and boundary ~= "" and #boundary <= 200 and boundary or nil
end

--- The parts of a body that the host has read as an upload: heads are read here, the rest is as it came.
---@param received table list of { head, data } or, the file, { head, path, size, sha256 }
---@return table|nil parts as parse gives them; the file has path, size (bytes), sha256 (hex) in the place of data
---@return string|nil message
---@return string|nil code "invalid"
function M.received(received)
  local parts = {}
  for i, one in ipairs(received) do
    local part, message = M.part(one.head)
    if not part then return nil, "multipart body: " .. message, "invalid" end
    part.data, part.path, part.size, part.sha256 = one.data, one.path, one.size, one.sha256
    parts[i] = part
  end
  return parts
end

--- The end of a part that begins behind `at`. The blank line after its headers is no part of a boundary.
local function next_boundary(body, delimiter, at)
  local from, to = body:find(delimiter, at, true)
  local _, blank = body:find("\r\n\r\n", at + 1, true)
  if from and blank and to > blank then return body:find(delimiter, blank + 1, true) end
  return from, to
end

--- Reads a multipart/form-data body.
---@param body string
---@param content_type string the request's header, with the boundary
---@return table|nil parts list of { name, filename|nil, content_type|nil, data }, as they came
---@return string|nil message
---@return string|nil code "invalid"
function M.parse(body, content_type)
  local boundary = M.boundary(content_type)
  if not boundary then return nil, "multipart body: the content-type has no boundary", "invalid" end
  local parts, delimiter = {}, "\r\n--" .. boundary
  body = "\r\n" .. body
  local _, at = body:find(delimiter, 1, true)
  if not at then return nil, "multipart body: its boundary does not occur", "invalid" end
  while body:sub(at + 1, at + 2) ~= "--" do
    local _, line_end = body:find("^[ \t]*\r\n", at + 1)
    local next_start, next_end = next_boundary(body, delimiter, line_end or at + 1)
    if not line_end or not next_start then return nil, "multipart body: it ends within a part", "invalid" end
    if #parts == MAX_PARTS then return nil, "multipart body: more than 100 parts", "invalid" end
    local part, message = part_of(body:sub(line_end + 1, next_start - 1))
    if not part then return nil, "multipart body: " .. message, "invalid" end
    parts[#parts + 1] = part
    at = next_end
  end
  return parts
end

--- Reads a urlencoded body as parts.
---@param body string
---@return table parts list of { name, data }
function M.urlencoded(body)
  local parts = {}
  for pair in body:gmatch("[^&]+") do
    local name, value = pair:match("^([^=]*)=?(.*)$")
    parts[#parts + 1] = { name = unescape(name), data = unescape(value) }
  end
  return parts
end

return M
