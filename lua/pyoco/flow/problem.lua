--- Errors of a flow document as a user reads them: place, caret line, nearest name, in order.
--- Loaded only when there is something to report; a run of a good flow never pays for it.
---
--- A raw error is { code, message, hint, path } and its place, one of
---   at, to          bytes of the graph text (source.origin says where that stands in the document)
---   line, column    of the document
---   file, line      of a Lua flow; with expression = { text, from, to } if what is wrong is a text of that line
--- and may have also = list of other places, which the message names as {1}, {2};
--- got, names: an unknown word and the known ones, of which the nearest becomes the hint.
local nearest = require "pyoco.nearest"

local M = {}

local MAX_COMPARED = 5000 -- names compared in one report; hostile documents have many of both
local SHOWN = 100        -- errors in one report
local EXCERPT = 100       -- characters of a long line that are shown

--- Bytes of `text` at which its lines start.
local function line_starts(text)
  local starts, pos = { 1 }, 1
  while true do
    pos = text:find("\n", pos, true)
    if not pos then return starts end
    pos = pos + 1
    starts[#starts + 1] = pos
  end
end

--- Index of the last line that starts at or before `at`.
local function line_of(starts, at)
  local low, high = 1, #starts
  while low < high do
    local middle = (low + high + 1) // 2
    if starts[middle] <= at then low = middle else high = middle - 1 end
  end
  return low
end

--- Byte of the character numbered `column` of a line of `length` characters (nil: it is not UTF-8).
local function byte_of(line, length, column)
  return length and utf8.offset(line, math.min(column, length + 1)) or column
end

--- One line of the document, without its end, and how many characters it has; nil for these if it is not UTF-8. The
--- last one is kept, since a long line may have many errors.
local function line_text(source, number)
  local from = source.starts[number]
  if not from then return nil end
  if source.line_number ~= number then
    local to = (source.starts[number + 1] or #source.document + 2) - 2
    if source.document:byte(to) == 13 then to = to - 1 end
    local line = source.document:sub(from, to)
    source.line_number, source.line, source.line_length = number, line, utf8.len(line)
  end
  return source.line, source.line_length
end

--- First byte of a YAML scalar's content in the document.
local function content_start(source, origin)
  local block = origin.style == "literal" or origin.style == "folded"
  local number = origin.value_line + (block and 1 or 0)
  local line, length = line_text(source, number)
  if not line then return nil end
  if block then return source.starts[number] end
  local quoted = origin.style == "single" or origin.style == "double"
  return source.starts[number] + byte_of(line, length, origin.value_column) - 1 + (quoted and 1 or 0)
end

--- Maps each byte of `value` that is not blank to its byte in the document. YAML folds and indents, but never
--- reorders, so that the two texts without blanks are the same; escapes of quoted scalars are followed too.
local function align(source, value, origin)
  local map, document = {}, source.document
  local raw = content_start(source, origin)
  for at, char in value:gmatch("()(%S)") do
    raw = raw and document:find("%S", raw)
    while raw and origin.style == "double" and document:find("^\\[ntr\n/ ]", raw) do
      raw = document:find("%S", raw + 2)
    end
    if raw and ((origin.style == "double" and document:find("^\\[\"\\]", raw)) or
        (origin.style == "single" and document:find("^''", raw))) then
      raw = raw + 1
    end
    if not raw or document:sub(raw, raw) ~= char then return map end
    map[at], raw = raw, raw + 1
  end
  return map
end

--- Where errors point into.
---@param document string the whole text
---@param origin table|nil of a graph inside a YAML document: { text = the graph text, value_line, value_column, style }
---@param shared table|nil { starts = what another source of the same document knows of its lines }
---@return table source
function M.source(document, origin, shared)
  document = document:gsub("^\u{FEFF}", "") -- no column, see host.yaml
  local source = { document = document, starts = shared and shared.starts or line_starts(document) }
  if origin and origin.text and origin.value_line then
    source.text, source.origin = origin.text, origin
  end
  return source
end

--- Tells whether the lines of a literal scalar are those of the document without their indentation.
local function is_literal(source)
  local origin, text = source.origin, source.text
  if origin.style ~= "literal" or not origin.indent then return false end
  local starts = line_starts(text)
  source.text_starts = starts
  for i, from in ipairs(starts) do
    local line, last = source.starts[origin.value_line + i], (starts[i + 1] or #text + 2) - 2
    if last >= from then
      line = line and line + origin.indent
      if not line or source.document:sub(line, line + last - from) ~= text:sub(from, last) then return false end
    end
  end
  return true
end

--- Document byte of graph byte `at` of a literal scalar; nil if it cannot be told so simply.
local function in_literal(source, at)
  if source.is_literal == nil then source.is_literal = is_literal(source) end
  if not source.is_literal then return nil end
  local number = line_of(source.text_starts, at)
  local line = source.starts[source.origin.value_line + number]
  return line and line + source.origin.indent + at - source.text_starts[number]
end

--- Document byte of a byte of the graph text that is not blank, or nil if it cannot be told.
local function of_graph(source, at)
  local found = in_literal(source, at)
  if found then return found end
  source.map = source.map or align(source, source.text, source.origin)
  return source.map[at]
end

--- Document byte of graph byte `at`, or nil if it cannot be told. A blank or the end is just after what stands before.
local function to_document(source, at)
  if not source.origin then return at end
  if source.text:find("^%S", at) then return of_graph(source, at) end
  local before = at - 1
  while before > 0 and source.text:find("^%s", before) do before = before - 1 end
  local found = before > 0 and of_graph(source, before)
  return found and found + 1 or nil
end

--- Column of a byte of a line. Counts from the place that was asked for before: there may be thousands on one line.
local function column_of(source, number, at)
  local near = source.near
  if not near or near.number ~= number then near = { number = number, at = source.starts[number], column = 1 } end
  local from, to = math.min(at, near.at), math.max(at, near.at)
  local part = source.document:sub(from, to - 1)
  local count = utf8.len(part) or #part
  near = { number = number, at = at, column = at >= near.at and near.column + count or near.column - count }
  source.near = near
  return near.column
end

--- Sets line and column of an error from its bytes, and how many characters it covers.
local function locate(source, problem)
  if not problem.at then return end
  local at = to_document(source, problem.at)
  if at then
    local number = line_of(source.starts, math.min(at, #source.document))
    problem.line, problem.column = number, column_of(source, number, at)
    local covered = (source.text or source.document):sub(problem.at, problem.to)
    problem.width = math.max(1, utf8.len(covered) or #covered)
  elseif source.origin then
    problem.line, problem.column = source.origin.value_line, source.origin.value_column
  end
end

--- Makes a function that tells line and column, in a document, of a byte of its graph text.
---@param source table from M.source, with the origin of the graph
---@return fun(at: integer): integer?, integer?
function M.places(source)
  return function(at)
    local place = { at = at, to = at }
    locate(source, place)
    return place.line, place.column
  end
end

--- A place as text, for messages that name two.
local function place_text(source, place)
  if source then locate(source, place) end
  if place.file then return ("%s:%s"):format(place.file, place.line) end
  if place.column then return ("%s:%s"):format(place.line, place.column) end
  return place.line and "line " .. place.line or "?"
end

--- Puts the other places of a problem into its message.
local function name_places(source, problem)
  if not problem.also then return end
  problem.message = problem.message:gsub("{(%d)}", function(i)
    local other = problem.also[tonumber(i)]
    return other and place_text(source, { at = other.at, to = other.to, line = other.line, column = other.column,
      file = other.file })
  end)
end

--- The part of a long line around byte `at`, whole characters only. Returns it and where `at` is in it.
local function window(line, at)
  local from = math.max(1, at - EXCERPT // 2)
  local to = math.min(#line, from + EXCERPT)
  while line:find("^[\x80-\xbf]", from) do from = from + 1 end
  while line:find("^[\x80-\xbf]", to + 1) do to = to - 1 end
  return line:sub(from, to), at - from + 1
end

--- Whether a character takes two cells: East Asian scripts, full-width signs, emoji.
local function is_wide(char)
  local code = utf8.codepoint(char)
  return code >= 0x1100 and code <= 0x115F or code >= 0x2E80 and code <= 0xA4CF or code >= 0xAC00 and code <= 0xD7A3
    or code >= 0xF900 and code <= 0xFAFF or code >= 0xFE30 and code <= 0xFE6F or code >= 0xFF00 and code <= 0xFF60
    or code >= 0xFFE0 and code <= 0xFFE6 or code >= 0x1F300
end

--- What stands in the line of carets below a character: as wide as that.
local function blank_for(char) return char == "\t" and char or is_wide(char) and "\u{3000}" or " " end

local function caret_for(char) return is_wide(char) and "^^" or "^" end

--- Two lines: a text, or the part of it around byte `at`, and carets below `width` characters from there on.
local function draw(line, at, width)
  if #line > EXCERPT then line, at = window(line, at) end
  local prefix = line:sub(1, at - 1):gsub(utf8.charpattern, blank_for)
  local covered = line:sub(at, (utf8.offset(line, math.max(1, math.min(width, EXCERPT)) + 1, at) or #line + 1) - 1)
  return line .. "\n" .. prefix .. (covered == "" and "^" or covered:gsub(utf8.charpattern, caret_for))
end

--- The text of a problem's line with carets below it. nil if there is no such place, or if it cannot be shown.
local function caret(source, problem)
  local shown = problem.expression
  if shown then
    if not utf8.len(shown.text) or shown.text:find("%c") then return nil end
    return draw(shown.text, shown.from, utf8.len(shown.text:sub(shown.from, shown.to)) or 1)
  end
  if not source or not problem.column then return nil end
  local line, length = line_text(source, problem.line)
  if not length then return nil end -- what is not UTF-8 cannot be shown
  return draw(line, byte_of(line, length, problem.column), problem.width or 1)
end

--- The known name that an unknown word was most likely meant to be. `budget.left` bounds the names that one report
--- compares; long names, and those of another length, are not worth it.
local function nearest_name(word, names, budget)
  local candidates = {}
  for _, name in ipairs(names) do
    if budget.left == 0 then break end
    if #name <= 64 and math.abs(#name - #word) <= 3 then
      candidates[#candidates + 1] = name
      budget.left = budget.left - 1
    end
  end
  return nearest.name(word, candidates)
end

--- What to write in place of a full-width blank or sign: Japanese keyboards make them, and they look alike.
local function full_width(word)
  if word:find("\u{3000}", 1, true) then return "a full-width blank stands there: write an ordinary one" end
  local char = word:match("\xef[\xbc\xbd][\x80-\xbf]")
  local code = char and utf8.codepoint(char) - 0xFEE0
  return code and code > 32 and code < 127 and ("write %s in place of the full-width %s"):format(utf8.char(code), char)
    or nil
end

--- The same for what a problem covers: an unknown word, a piece of the graph, a line in which YAML misses a colon.
local function full_width_in(source, problem)
  if problem.got then return full_width(problem.got) end
  if problem.at and source then return full_width((source.text or source.document):sub(problem.at, problem.to)) end
  local line = source and problem.message:find("expected ':'", 1, true) and line_text(source, problem.line)
  return line and full_width(line:match("：") or "")
end

local function add_nearest(problem, budget)
  if not problem.got then return end
  local near = nearest_name(problem.got, problem.names, budget)
  if near then problem.hint = ("did you mean %s?"):format(near) end
end

--- Makes raw errors presentable: places, carets, hints, sorted by place.
---@param errors table list of raw errors; one of another graph text of the same document has a `source` of its own
---@param source table|nil from M.source; nil for Lua flows
---@return table list of { line, column, path, code, message, hint, caret, file }
function M.finish(errors, source)
  local budget, finished = { left = MAX_COMPARED }, {}
  for order, problem in ipairs(errors) do
    local own = problem.source or source
    if own then locate(own, problem) end
    add_nearest(problem, budget)
    problem.hint = full_width_in(own, problem) or problem.hint
    name_places(own, problem)
    finished[order] = {
      line = problem.line, column = problem.column, file = problem.file, path = problem.path, code = problem.code,
      message = problem.message, hint = problem.hint, caret = caret(own, problem),
      order = order,
    }
  end
  table.sort(finished, function(a, b)
    if (a.line or 0) ~= (b.line or 0) then return (a.line or 0) < (b.line or 0) end
    if (a.column or 0) ~= (b.column or 0) then return (a.column or 0) < (b.column or 0) end
    if (a.path or "") ~= (b.path or "") then return (a.path or "") < (b.path or "") end
    return a.order < b.order
  end)
  for _, problem in ipairs(finished) do problem.order = nil end
  if #finished > SHOWN then
    finished[SHOWN + 1] = { line = finished[SHOWN].line, column = finished[SHOWN].column, code = "too_many_errors",
      message = ("and %d more"):format(#finished - SHOWN) }
    for i = #finished, SHOWN + 2, -1 do finished[i] = nil end
  end
  return finished
end

--- Errors as text: `file:line:column: message`, the caret line, the hint.
---@param errors table from M.finish
---@param name string|nil what to call the document, default "flow"
---@return string
function M.text(errors, name)
  local lines = {}
  for _, problem in ipairs(errors) do
    local place = problem.file or name or "flow"
    if problem.line then place = place .. ":" .. problem.line end
    if problem.line and problem.column then place = place .. ":" .. problem.column end
    lines[#lines + 1] = place .. ": " .. problem.message
    if problem.caret then lines[#lines + 1] = "  " .. problem.caret:gsub("\n", "\n  ") end
    if problem.hint then lines[#lines + 1] = "  " .. problem.hint end
  end
  return table.concat(lines, "\n")
end

return M
