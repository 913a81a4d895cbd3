--- Brackets of a graph text, as its parser goes into them and out again, also after an error inside.
local tokens = require "pyoco.flow.text_tokens"

local M = {}

local MAX_NESTING = 200

local advance = tokens.advance

--- The module of errors: only a wrong text needs it.
local function errors() return require "pyoco.flow.text_errors" end

--- Records an error, see text_errors.fail.
---@param p table the token reader
---@return nil
function M.fail(p, ...) errors().fail(p, ...) end

--- Records that the current token cannot stand at a place of the grammar.
---@param p table
---@param place string a key of text_errors.PLACES
---@return nil
function M.unexpected(p, place) errors().unexpected(p, place) end

--- Goes into the opening bracket that is the current token; which stays that.
---@param p table
---@return integer|nil level its number; nil, after an error, if there are too many
function M.open(p)
  if p.depth == MAX_NESTING then
    M.fail(p, "too_deep", p.at, p.to, ("brackets are nested deeper than %d"):format(MAX_NESTING), "flatten the graph")
    errors().stop(p)
    return nil
  end
  p.depth = p.depth + 1
  p.opens[p.depth] = p.at
  return p.depth
end

--- Moves past the bracket that closes number `level`, wherever it is.
---@param p table
---@param level integer from M.open
---@param kind string the closing bracket
---@param place string|nil what is wrong if it is not the current token; nil: that was reported already
---@return boolean is_right it was the current token
---@return boolean goes_on reading can go on behind it
function M.close(p, level, kind, place)
  local is_right = p.kind == kind and p.depth == level
  if not is_right then
    if place then M.unexpected(p, place) end
    if not errors().skip(p, level, false) then return false, false end
  end
  p.depth = level - 1
  advance(p)
  return is_right, true
end

return M
