--- Errors and warnings of flow files as a compiler prints them: `file:line:column: error: message`, the line with its
--- caret, and what to do.
local text = require "pyoco.cli.text"

local M = {}

local COLOURS = { error = "red", warning = "yellow" }

--- Lines of a text that may have several, each safe for a terminal.
local function add_lines(lines, block, indent)
  for line in (block .. "\n"):gmatch("(.-)\n") do
    local blanks, rest = line:match("^(%s*)(.*)$") -- tabs before a caret stay
    lines[#lines + 1] = indent .. blanks .. text.clean(rest)
  end
end

--- The problem as lines.
---@param problem table { file, line, column, message, caret, hint }
---@param kind string "error" | "warning"
---@param paint fun(name: string, text: string): string
---@return string[]
function M.lines(problem, kind, paint)
  local lines, place = {}, problem.file
  if problem.line then place = place .. ":" .. problem.line end
  if problem.line and problem.column then place = place .. ":" .. problem.column end
  local first, rest = problem.message:match("^([^\n]*)\n?(.*)$")
  lines[1] = ("%s: %s: %s"):format(paint("bold", text.clean(place)), paint(COLOURS[kind], kind), text.clean(first))
  if rest ~= "" then add_lines(lines, rest, "  ") end
  if problem.caret then add_lines(lines, problem.caret, "  ") end
  if problem.hint then add_lines(lines, problem.hint, "  ") end
  return lines
end

--- A line of a file, to be shown below an error that only names file and line.
---@param path string
---@param number integer
---@return string|nil
function M.source_line(path, number)
  local file <close> = io.open(path, "rb")
  local at = 0
  for line in file and file:lines() or function() end do
    at = at + 1
    if at == number then return utf8.len(line) and #line <= 300 and line or nil end
  end
end

--- Takes a message of Lua apart: every line that begins with `file:line:` is a problem of its own, the others belong
--- to the one before.
---@param message string as error() made it
---@param path string the file it is about, for what names none
---@return table list of problems
function M.of_message(message, path)
  local problems = {}
  for line in (message .. "\n"):gmatch("(.-)\n") do
    local file, number, says = line:match("^([^:\n]+%.lua):(%d+): (.*)$")
    local last = problems[#problems]
    if file and last and last.message:find("is wrong:$") then
      problems[#problems], last = nil, nil -- a headline of what follows
    end
    if file or not last then
      problems[#problems + 1] = { file = file or path, line = tonumber(number), message = says or line }
    else
      last.message = last.message .. "\n" .. line:gsub("^  ", "")
    end
  end
  for _, problem in ipairs(problems) do
    local byte = tonumber(problem.message:match("near '<\\(%d+)>'$"))
    if byte and byte >= 128 then
      problem.hint = "names of variables are a-z, 0-9 and _, blanks and signs are not full-width; the name of a task "
        .. "may be any text: task(\"名前\", fn)"
    end
    local source = problem.line and M.source_line(problem.file, problem.line)
    problem.caret = source and source:gsub("^%s+", "")
  end
  return problems
end

return M
