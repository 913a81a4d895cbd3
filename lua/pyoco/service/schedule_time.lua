--- Times of schedules: reading a date as the contract's clients write it, and which time comes next.
local M = {}

local function days_of_month(year, month)
  if month == 2 then return (year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)) and 29 or 28 end
  return (month == 4 or month == 6 or month == 9 or month == 11) and 30 or 31
end

--- Days from 1970-01-01. Years are counted from March, so that the leap day is a year's last.
local function days_from_epoch(year, month, day)
  if month <= 2 then year = year - 1 end
  return 365 * year + year // 4 - year // 100 + year // 400 + (153 * ((month + 9) % 12) + 2) // 5 + day - 1 - 719468
end

--- Seconds of a day from the text behind a date: HH[:MM[:SS[.fraction]]]; nil when it is no time.
local function seconds_of(text)
  local hour, rest = text:match("^(%d%d)(.*)$")
  local minute, second, fraction = 0, 0, 0
  if not hour then return nil end
  if rest ~= "" then
    minute, rest = rest:match("^:(%d%d)(.*)$")
    if not minute then return nil end
  end
  if rest ~= "" then
    second, rest = rest:match("^:(%d%d)(.*)$")
    if not second then return nil end
  end
  if rest ~= "" then
    fraction = rest:match("^[.,](%d+)$")
    if not fraction or #fraction > 9 then return nil end
    fraction = tonumber("0." .. fraction)
  end
  hour, minute, second = tonumber(hour), tonumber(minute), tonumber(second)
  if hour > 23 or minute > 59 or second > 59 then return nil end
  return hour * 3600 + minute * 60 + second + fraction
end

--- ISO 8601's basic forms as its extended ones: 20261129T120000+0900.
local function extended(text)
  return (text:gsub("^(%d%d%d%d)(%d%d)(%d%d)([T ])(%d%d)(%d%d)(%d%d)", "%1-%2-%3%4%5:%6:%7")
    :gsub("([+-]%d%d)(%d%d)$", "%1:%2"))
end

--- Reads an ISO 8601 date with time and offset, as Python's fromisoformat does (no week dates).
---@param text string "2026-11-29T12:00:00+09:00"; Z means +00:00
---@return number|nil unix seconds
---@return string|nil fault "no_datetime" | "no_offset"
function M.parse(text)
  text = extended(text:match("^%s*(.-)%s*$"):gsub("[zZ]$", "+00:00"))
  local year, month, day, rest = text:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)(.*)$")
  year, month, day = math.tointeger(year), math.tointeger(month), math.tointeger(day)
  if not year or year < 1 or month < 1 or month > 12 or day < 1 or day > days_of_month(year, month) then
    return nil, "no_datetime"
  end
  if rest == "" then return nil, "no_offset" end -- a date is midnight, of nobody's zone
  local clock, sign, offset = rest:match("^.([%d:.,]*)([+-])([%d:.]+)$")
  if not clock then
    return nil, seconds_of(rest:sub(2)) and "no_offset" or "no_datetime"
  end
  local at, shift = seconds_of(clock), seconds_of(offset)
  if not at or not shift then return nil, "no_datetime" end
  return days_from_epoch(year, month, day) * 86400 + at + (sign == "+" and -shift or shift) + 0.0
end

--- The first start + k * interval after a time: what was missed is not made up for.
---@param start number unix seconds
---@param interval number seconds, above 0
---@param now number unix seconds
---@return number unix seconds, above now
function M.next(start, interval, now)
  if start > now then return start + 0.0 end
  local steps = (now - start) / interval
  local at = start + (math.floor(math.min(steps, 2 ^ 52)) + 1) * interval
  if at <= now then at = at + interval end -- rounding
  if at <= now then at = now + 0.001 end   -- an interval that is nothing beside the time itself
  return at + 0.0
end

return M
