--- Text on a terminal: what is safe to show, how wide it is, where to cut it.
local json = require "host.json"

local M = {}

--- First and last code points that take two cells (East Asian wide and emoji).
local WIDE = { { 0x1100, 0x115F }, { 0x2E80, 0x303E }, { 0x3041, 0xA4CF }, { 0xAC00, 0xD7A3 }, { 0xF900, 0xFAFF },
  { 0xFE30, 0xFE6F }, { 0xFF00, 0xFF60 }, { 0xFFE0, 0xFFE6 }, { 0x1F300, 0x1F64F }, { 0x1F900, 0x1F9FF },
  { 0x20000, 0x3FFFD } }

local function cells_of(code)
  if code < 0x1100 then return (code >= 0x300 and code <= 0x36F) and 0 or 1 end
  for _, range in ipairs(WIDE) do
    if code >= range[1] and code <= range[2] then return 2 end
  end
  return code >= 0x200B and code <= 0x200F and 0 or 1
end

--- Makes text of a task safe for a terminal: escape sequences and control characters go, bytes that are no UTF-8
--- become "?". Tabs and line breaks become blanks.
---@param text string
---@return string
function M.clean(text)
  text = text:gsub("\27%[[%d;?]*%a", ""):gsub("\27%][^\7\27]*\7?", ""):gsub("[\t\n\r]+", " "):gsub("%c", "")
  while true do
    local _, bad = utf8.len(text)
    if not bad then return (text:gsub("\u{9B}", "")) end
    text = text:sub(1, bad - 1) .. "?" .. text:sub(bad + 1)
  end
end

---@param text string UTF-8
---@return integer cells on a terminal
function M.width(text)
  local width = 0
  for _, code in utf8.codes(text) do width = width + cells_of(code) end
  return width
end

--- Cuts text to a number of cells, with … where something is missing.
---@param text string UTF-8
---@param cells integer
---@return string
function M.cut(text, cells)
  if M.width(text) <= cells then return text end
  if cells < 1 then return "" end
  local used = 1
  for at, code in utf8.codes(text) do
    used = used + cells_of(code)
    if used > cells then return text:sub(1, at - 1) .. "…" end
  end
  return text
end

---@param text string UTF-8
---@param cells integer
---@return string text with blanks up to that width
function M.pad(text, cells) return text .. (" "):rep(cells - M.width(text)) end

--- A value as a cell of a table for people: "-" for nothing.
---@param value any
---@return string
function M.cell(value)
  if value == nil or value == json.null then return "-" end
  return M.clean(tostring(value))
end

--- A time for people, in their own zone; "-" where there is none, the number where no calendar has it.
---@param seconds any
---@return string
function M.when(seconds)
  if type(seconds) ~= "number" then return "-" end
  local ok, shown = pcall(os.date, "%Y-%m-%d %H:%M:%S", math.floor(seconds))
  return ok and shown or ("%g"):format(seconds)
end

--- The last line of a log that has something on it.
---@param log string
---@return string cleaned
function M.last_line(log)
  local last = ""
  for line in log:sub(-2048):gmatch("[^\r\n]+") do
    if line:find("%S") then last = line end
  end
  return M.clean(last)
end

return M
