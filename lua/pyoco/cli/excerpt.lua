--- The lines of a flow's own source around the place where a run failed.
local host = require "host"

local M = {}

local AROUND = 2 -- lines before and after
local LONGEST = 160

--- Places named in a text, as { file, line }: first to last.
local function places(text)
  local found = {}
  for file, line in text:gmatch("([^%s:'\"`]+%.lua):(%d+):") do found[#found + 1] = { file, tonumber(line) } end
  return found
end

--- Lines of a file around one, each with its number; nil when it cannot be read or is ours.
local function around(place, paint)
  if place[1]:sub(1, #host.home + 11) == host.home .. "/lua/pyoco/" then return nil end
  local file <close> = io.open(place[1], "rb")
  local lines, at = {}, 0
  for line in file and file:lines() or function() end do
    at = at + 1
    if at > place[2] + AROUND then break end
    if at >= place[2] - AROUND then
      local shown = utf8.len(line) and #line <= LONGEST and line:gsub("\t", "  "):gsub("%c", "") or "..."
      local is_it = at == place[2]
      lines[#lines + 1] = paint(is_it and "bold" or "dim", ("  %s %5d | %s"):format(is_it and ">" or " ", at, shown))
    end
  end
  return at >= place[2] and lines or nil
end

--- The lines for a run that failed.
---@param snapshot table with task_records
---@param paint fun(name: string, text: string): string
---@return string[] nothing when no place of the user's code is known
function M.lines(snapshot, paint)
  if snapshot.status ~= "FAILED" then return {} end
  local texts = { tostring(snapshot.error) }
  for _, record in pairs(snapshot.task_records or {}) do
    if record.error == snapshot.error then texts[#texts + 1] = record.traceback end
  end
  for _, text in ipairs(texts) do
    for _, place in ipairs(places(text)) do
      local lines = around(place, paint)
      if lines then
        table.insert(lines, 1, ("%s:%d"):format(place[1], place[2]))
        return lines
      end
    end
  end
  return {}
end

return M
