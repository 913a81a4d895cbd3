--- Reads our own sources for the structure specs: files of a folder, and the tokens of a Lua text.
local uv = require "luv"

local M = {}

M.root = require("host").home

--- All files below folders, as paths relative to the checkout, sorted.
---@param folders string[] relative to the checkout; one that does not exist counts as empty
---@param suffix string e.g. ".lua"
---@return string[]
function M.files(folders, suffix)
  local found = {}
  local function walk(folder)
    local dir = uv.fs_scandir(M.root .. "/" .. folder)
    while dir do
      local name, kind = uv.fs_scandir_next(dir)
      if not name then return end
      local path = folder .. "/" .. name
      if kind == "directory" then
        walk(path)
      elseif path:sub(-#suffix) == suffix then
        found[#found + 1] = path
      end
    end
  end
  for _, folder in ipairs(folders) do walk(folder) end
  table.sort(found)
  return found
end

--- The text of a file given relative to the checkout.
---@param path string
---@return string
function M.read(path)
  local file <close> = assert(io.open(M.root .. "/" .. path, "rb"))
  return file:read("a")
end

--- Matches a string or comment that opens at `at`. Returns kind, content, position after it; nil for anything else.
local function quoted(text, at)
  local level, first = text:match("^%-%-%[(=*)%[()", at)
  local kind = "comment"
  if not level then
    if text:find("^%-%-", at) then
      local stop = text:find("\n", at, true) or #text + 1
      return kind, text:sub(at + 2, stop - 1), stop
    end
    level, first = text:match("^%[(=*)%[()", at)
    kind = "string"
  end
  if level then
    local last, stop = text:find("]" .. level .. "]", first, true)
    return kind, text:sub(first, (last or #text + 1) - 1), (stop or #text) + 1
  end
  local quote = text:match("^[\"']", at)
  if not quote then return nil end
  local stop = at + 1
  while stop <= #text and text:sub(stop, stop) ~= quote do
    stop = stop + (text:sub(stop, stop) == "\\" and 2 or 1)
  end
  return "string", text:sub(at + 1, stop - 1), stop + 1
end

--- Splits Lua text into tokens. Strings keep their escapes as written; spaces and a first line `#!` vanish.
---@param text string
---@return table[] tokens {kind = "name"|"string"|"comment"|"number"|"symbol", text, line}
function M.tokens(text)
  local tokens, line, at = {}, 1, 1
  local function add(kind, value, stop)
    if kind then tokens[#tokens + 1] = { kind = kind, text = value, line = line } end
    line = line + select(2, text:sub(at, stop - 1):gsub("\n", ""))
    at = stop
  end
  if text:sub(1, 2) == "#!" then add(nil, nil, text:find("\n", 1, true) or #text + 1) end
  while at <= #text do
    local kind, value, stop = quoted(text, at)
    if not kind then
      for _, try in ipairs { { "space", "^%s+" }, { "name", "^[%a_][%w_]*" }, { "number", "^%d[%w.]*" } } do
        local first, last = text:find(try[2], at)
        if first then
          kind, value, stop = try[1], text:sub(first, last), last + 1
          break
        end
      end
    end
    if kind == "space" then kind = nil elseif not kind then kind, value, stop = "symbol", text:sub(at, at), at + 1 end
    add(kind, value, stop)
  end
  return tokens
end

--- Drops the comments of a token list.
---@param tokens table[]
---@return table[]
function M.code(tokens)
  local kept = {}
  for _, token in ipairs(tokens) do
    if token.kind ~= "comment" then kept[#kept + 1] = token end
  end
  return kept
end

--- What a Lua text requires by a literal name: `require "x"`, `require("x")`, and `pcall(require, "x")`.
---@param text string
---@return table[] list {module, line}
function M.requires(text)
  local code, found = M.code(M.tokens(text)), {}
  for i, token in ipairs(code) do
    if token.kind == "name" and token.text == "require" then
      local name = code[i + 1]
      if name and (name.text == "(" or name.text == ",") then name = code[i + 2] end
      if name and name.kind == "string" then found[#found + 1] = { module = name.text, line = token.line } end
    end
  end
  return found
end

return M
