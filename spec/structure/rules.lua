--- The rules of the sources, each a function (path, text) -> list of {line, message}. Pure: no file is read here.
local source = require "spec.support.source"
local layers = require "spec.structure.layers"

local M = {}

--- Error codes that may cross as the third value of a failure (INTERFACES; host.h and err.lua hold the same).
M.codes = {}
for code in ([[invalid not_found conflict timeout unavailable unauthorized forbidden too_large unsupported limited
  cancelled internal]]):gmatch("%S+") do
  M.codes[code] = true
end

local function has(list, value)
  for _, item in ipairs(list) do
    if item == value then return true end
  end
  return false
end

local function starts_with_any(path, prefixes)
  for _, prefix in ipairs(prefixes) do
    if path:sub(1, #prefix) == prefix then return true end
  end
  return false
end

--- Is `name` the module `prefix` or one below it?
local function is_under(name, prefix)
  return name == prefix or name:sub(1, #prefix + 1) == prefix .. "."
end

--- Requires go down the layers only, and to modules whose audience the file belongs to.
function M.direction(path, text)
  local faults, layer = {}, layers.of_file(path)
  if not layer then
    return { { line = 1, message = "no layer for this folder: give it a place in spec/structure/layers.lua" } }
  end
  for _, it in ipairs(source.requires(text)) do
    local target = layers.of_module(it.module)
    if target and not has(layers.may[layer], target) then
      faults[#faults + 1] = { line = it.line, message = ("%s (%s) requires %s (%s); it may use: %s"):format(
        layer, path, it.module, target, table.concat(layers.may[layer], ", ")) }
    end
    for _, rule in ipairs(layers.only) do
      if is_under(it.module, rule.module) and not starts_with_any(path, rule.from) then
        faults[#faults + 1] = { line = it.line, message = ("requires %s, kept for %s: %s"):format(
          it.module, table.concat(rule.from, ", "), rule.why) }
      end
    end
  end
  return faults
end

--- Every `a.b` of a text, however it is spaced, as {name, line}.
local function dotted(text)
  local code, found = source.code(source.tokens(text)), {}
  for i = 3, #code do
    local dot = code[i - 1].text
    if code[i].kind == "name" and (dot == "." or dot == ":") and code[i - 2].kind == "name" then
      found[#found + 1] = { name = code[i - 2].text .. dot .. code[i].text, line = code[i].line }
    end
  end
  return found
end

--- A rule that refuses some dotted names.
local function without(names, remedy)
  return function(_, text)
    local faults = {}
    for _, it in ipairs(dotted(text)) do
      if names[it.name] then
        faults[#faults + 1] = { line = it.line, message = it.name .. ": " .. remedy }
      end
    end
    return faults
  end
end

--- The environment is read in one place.
M.environment = without({ ["os.getenv"] = true, ["uv.os_getenv"] = true, ["uv.os_environ"] = true,
  ["luv.os_getenv"] = true, ["luv.os_environ"] = true },
  "take the value from pyoco.config (only lua/pyoco/config* reads the environment)")

--- Specs wait on a condition with a deadline, never for a time.
M.sleeps = without({ ["uv.sleep"] = true, ["luv.sleep"] = true, ["clock.sleep"] = true },
  "wait on a condition (spec/support/process.lua wait_for)")

--- No spec is left focused: busted would run that one alone, and the suite would look green.
function M.focus(_, text)
  local faults = {}
  for _, token in ipairs(source.tokens(text)) do
    if token.kind == "string" and token.text:find("#only", 1, true) then
      faults[#faults + 1] = { line = token.line, message = "#only left in a spec's name" }
    end
  end
  return faults
end

--- Every public function has a docstring right above it, opened by three dashes. Public is what stands in the table
--- that the module returns, and the methods of a class (a capital first letter).
function M.docstrings(_, text)
  local faults, block, line = {}, nil, 0
  local exported = text:match("\nreturn ([%a_][%w_]*)%s*$")
  for row in (text .. "\n"):gmatch("(.-)\n") do
    line = line + 1
    local name = row:match("^function%s+([%w_.:]+)") or row:match("^([%w_]+%.[%w_]+)%s*=%s*function")
    local owner = name and name:match("^([%w_]+)[.:][^_]")
    if owner and (owner == exported or owner:find("^%u")) and block ~= "doc" then
      faults[#faults + 1] = { line = line, message = name .. " has no docstring: purpose, ---@param, ---@return" }
    end
    if row:find("^%s*%-%-") then
      block = block or (row:find("^%-%-%-") and "doc" or "comment")
    else
      block = nil
    end
  end
  return faults
end

--- A Lua module opens by saying what it is.
function M.lua_header(_, text)
  if text:gsub("^#![^\n]*\n", ""):find("^%-%-%-? ?%S") then return {} end
  return { { line = 1, message = "no header comment: first line `--- One sentence: what this module is`" } }
end

--- A C file opens by saying what it is.
function M.c_header(_, text)
  if text:find("^/%*%s*%S") then return {} end
  return { { line = 1, message = "no header comment: start with /* purpose, ownership, threads */" } }
end

--- Index of the token after the expression that starts at i: a top-level comma or the statement's end.
local function expression_end(code, i)
  local depth = 0
  while code[i] do
    local text = code[i].kind ~= "string" and code[i].text or ""
    if depth == 0 and (text == "," or text == ";" or text == "end" or text == "else" or text == "elseif" or
        text == "until" or text == "function" or text == ")" or text == "}") then
      return i
    end
    if text == "(" or text == "{" or text == "[" then depth = depth + 1 end
    if text == ")" or text == "}" or text == "]" then depth = depth - 1 end
    i = i + 1
  end
  return i
end

--- `return nil, message, "code"`: the code is one of the closed list.
function M.lua_codes(_, text)
  local code, faults = source.code(source.tokens(text)), {}
  for i = 1, #code - 2 do
    if code[i].text == "return" and code[i + 1].text == "nil" and code[i + 2].text == "," then
      local comma = expression_end(code, i + 3)
      local value, after = code[comma + 1], code[comma + 2]
      local is_alone = after == nil or after.kind == "name" or after.text == "," or after.text == ";"
      -- a text in words is not a code: a private helper may have a third value of its own
      if code[comma] and code[comma].text == "," and value and value.kind == "string" and is_alone
          and value.text:find("^[%l_]+$") and not M.codes[value.text] then
        faults[#faults + 1] = { line = value.line, message = ("code %q is not on the list (lua/pyoco/err.lua)"):format(
          value.text) }
      end
    end
  end
  return faults
end

--- C: the code handed to ph_fail is a PH_ constant or a variable, never a text of its own.
function M.c_codes(_, text)
  local faults, line = {}, 0
  for row in (text .. "\n"):gmatch("(.-)\n") do
    line = line + 1
    local code = row:match('ph_fail%s*%(%s*[%w_]+%s*,%s*"([^"]*)"')
    if code then
      faults[#faults + 1] = { line = line, message = ("ph_fail with %q: use a PH_ constant of host.h"):format(code) }
    end
  end
  return faults
end

return M
