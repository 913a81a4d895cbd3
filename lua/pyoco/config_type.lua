--- Types of options: text -> value. Each is { expected, parse }, where parse returns nil for text that does not fit
--- and `expected` completes the sentence "expected ...".
local M = {}

local BOOLEANS = { ["1"] = true, ["true"] = true, yes = true, on = true,
  ["0"] = false, ["false"] = false, no = false, off = false }

local function trim(text) return text:match("^%s*(.-)%s*$") end

--- A type whose text must match a Lua pattern from end to end, blanks around it aside.
local function pattern(expected, lua_pattern)
  return { expected = expected, parse = function(text) return trim(text):match("^" .. lua_pattern .. "$") end }
end

--- Splits text at a separator, trims the pieces and drops empty ones.
local function split(text, separator)
  local list = {}
  for piece in text:gmatch("[^" .. separator .. "]+") do
    piece = trim(piece)
    if piece ~= "" then list[#list + 1] = piece end
  end
  return list
end

local function parse_tags(text)
  local list, seen = {}, {}
  for _, tag in ipairs(split(text, ",")) do
    if not tag:match("^[%w_-]+$") then return nil end
    if not seen[tag] then list[#list + 1] = tag end
    seen[tag] = true
  end
  return list
end

local function parse_slots(text)
  local number = math.tointeger(tonumber(trim(text)))
  if number then return number >= 1 and number <= 256 and number or nil end
  local by_tag = {}
  for _, piece in ipairs(split(text, ",")) do
    local tag, count = piece:match("^([%w_-]+)%s*=%s*(%d+)$")
    count = math.tointeger(tonumber(count))
    if not count or count < 1 or count > 256 or by_tag[tag] then return nil end
    by_tag[tag] = count
  end
  return next(by_tag) and by_tag or nil
end

local function parse_nats_url(text)
  local urls = split(text, ",")
  for _, url in ipairs(urls) do
    local scheme, rest = url:match("^(%a+)://(.+)$")
    local port = rest and rest:match(":(%d+)/?$")
    local fits = (scheme == "nats" or scheme == "tls") and not rest:find("%s")
    if not fits or (port and tonumber(port) > 65535) then return nil end
  end
  return #urls > 0 and table.concat(urls, ",") or nil
end

--- Networks as { "10.0.0.0/8", ... }; an address alone is a network of one.
local function parse_networks(text)
  local list = split(text, ",")
  for i, piece in ipairs(list) do
    local a, b, c, d, bits = piece:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)/?(%d*)$")
    if not a or (bits == "" and piece:sub(-1) == "/") then return nil end
    for _, part in ipairs { a, b, c, d } do
      if tonumber(part) > 255 then return nil end
    end
    if bits == "" then bits = "32" end
    if tonumber(bits) > 32 then return nil end
    list[i] = ("%d.%d.%d.%d/%d"):format(a, b, c, d, bits)
  end
  return #list > 0 and list or nil
end

M.networks = { expected = "IPv4 addresses or networks as 10.0.0.0/8, separated by commas", parse = parse_networks }
M.short_text = { expected = "at most 512 bytes of text", parse = function(text)
  if #text > 512 then return nil end
  return text:find("%S") and text or "" -- blank is as not set
end }
M.line = { expected = "text without line breaks or control characters", parse = function(text)
  text = trim(text)
  return not text:find("%c") and text or nil
end }
M.string = { expected = "text", parse = function(text) return text end }
M.path = { expected = "a path", parse = function(text) return text end }
M.paths = { expected = "folders separated by colons", parse = function(text)
  local list = split(text, ":")
  return #list > 0 and list or nil
end }
M.boolean = { expected = "true or false (also 1/0, yes/no, on/off)",
  parse = function(text) return BOOLEANS[trim(text):lower()] end }
M.integer = { expected = "a whole number", parse = function(text)
  return text:match("^%s*[+-]?%d+%s*$") and math.tointeger(tonumber((text:gsub("%+", "")))) or nil
end }
M.number = { expected = "a number", parse = function(text)
  if not text:match("^%s*[+-]?[%d.]+[eE]?[+-]?%d*%s*$") then return nil end
  return tonumber((text:gsub("^%s*%+", "")))
end }
local SECONDS = { m = 60, h = 3600, d = 86400 }
M.duration = { expected = "a length of time, as 30d, 12h, 90m or 45s", parse = function(text)
  local count, unit = trim(text):match "^(%d+%.?%d*)([smhd]?)$"
  return count and tonumber(count) * (SECONDS[unit] or 1) or nil
end }
M.choice = { expected = "one of the listed words", parse = function(text, row)
  for _, choice in ipairs(row.choices) do
    if choice:lower() == trim(text):lower() then return choice end
  end
end }
M.tag = pattern("letters, digits, _ and -", "[%w_-]+")
M.tags = { expected = "tags of letters, digits, _ and -, separated by commas", parse = parse_tags }
M.name = pattern("letters, digits, _ and -", "[%w_-]+")
M.header = pattern("a header name of letters, digits and -", "[%w-]+")
M.kv_key = { expected = "letters, digits and any of - _ = . / (no . at either end)", parse = function(text)
  text = trim(text)
  return text:match("^[-/_=.%w]+$") and not text:match("^%.") and not text:match("%.$") and text or nil
end }
M.subject = { expected = "subject tokens of letters, digits, _ and -, joined by dots", parse = function(text)
  text = trim(text)
  return text:match("^[%w_-][%w_.-]*$") and not text:find("..", 1, true) and text:sub(-1) ~= "." and text or nil
end }
M.resolver = { expected = "FILE.lua or FILE.lua:NAME", parse = function(text)
  text = trim(text)
  return (text:match("%.lua$") or text:match("%.lua:[%a_][%w_]*$")) and text or nil
end }
M.slots = { expected = "a number from 1 to 256, or one for each tag as gpu=1,cpu=8", parse = parse_slots }
M.nats_url = { expected = "addresses like nats://host:4222, separated by commas", parse = parse_nats_url }
M.http_url = { expected = "an address like http://127.0.0.1:8000", parse = function(text)
  return trim(text):match("^(https?://[^%s/]+[^%s]-)/*$")
end }

return M
