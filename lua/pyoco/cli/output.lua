--- What the command lines print: JSON lines and tables of the contract (16.1), the shapes of errors, colours.
local json = require "host.json"
local uv = require "luv"

local M = {}

--- First lines of errors; the contract fixes them.
M.shapes = {
  arguments = "ERR-PYOCO-0018: CLI引数が不正です（入力形式を確認してください）",
  file = "ERR-PYOCO-0018: file I/O error",
  http = "ERR-PYOCO-HTTP: request failed",
  connection = "ERR-PYOCO-HTTP: connection error",
  cancel = "ERR-PYOCO-CANCEL: wait timeout",
  unexpected = "ERR-PYOCO-UNEXPECTED: ",
}

---@param fd integer 1 = standard output, 2 = standard error
---@return boolean whether a person reads it
function M.is_terminal(fd) return uv.guess_handle(fd) == "tty" end

--- \uXXXX of one character, as a pair of surrogates above the first plane.
local function escape(char)
  local code = utf8.codepoint(char)
  if code < 0x10000 then return ("\\u%04x"):format(code) end
  code = code - 0x10000
  return ("\\u%04x\\u%04x"):format(0xD800 + (code >> 10), 0xDC00 + (code & 0x3FF))
end

--- Rewrites JSON text on one line with ", " and ": " between its parts and non-ASCII escaped. Works on the text, so
--- that the order of keys and the spelling of numbers stay the server's.
---@param text string valid JSON
---@return string
function M.json_line(text)
  local out, at = {}, 1
  while at <= #text do
    local from, to, found = text:find('([",:%s])', at)
    if not from then
      out[#out + 1] = text:sub(at)
      break
    end
    out[#out + 1] = text:sub(at, from - 1)
    if found == '"' then
      local stop = from + 1
      while text:byte(stop) and text:byte(stop) ~= 34 do stop = stop + (text:byte(stop) == 92 and 2 or 1) end
      out[#out + 1] = (text:sub(from, stop):gsub(utf8.charpattern, function(char)
        return #char > 1 and utf8.len(char) and escape(char) or nil
      end))
      to = stop
    elseif found == "," or found == ":" then
      out[#out + 1] = found .. " "
    end
    at = to + 1
  end
  return table.concat(out)
end

--- Prints an answer of the gateway as one line of JSON.
---@param answer table { body }
---@return integer exit code 0
function M.answer(answer)
  io.stdout:write(M.json_line(answer.body), "\n")
  return 0
end

--- Shows what a request has brought: a line of JSON, or on a terminal what `print` makes of it for people.
---@param context table { terminal }
---@param print fun(value: any) gets the answer decoded
---@param answer table|nil { body }, or what the API gives instead of one, which is passed on
---@param message string|nil
---@param code string|nil
---@param failure table|nil
---@return integer|nil exit code 0
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.show(context, print, answer, message, code, failure)
  if not answer then return nil, message, code, failure end
  if not context.terminal then return M.answer(answer) end
  print(json.decode(answer.body))
  return 0
end

--- A table of the contract: cells left-justified to the widest of their column, two blanks between, header first.
---@param columns string[]
---@param rows table list of lists of text
---@return string with a newline after each line; "(no items)" when there are no rows
function M.table(columns, rows)
  if #rows == 0 then return "(no items)\n" end
  local widths = {}
  for i, name in ipairs(columns) do
    widths[i] = #name
    for _, row in ipairs(rows) do widths[i] = math.max(widths[i], utf8.len(row[i]) or #row[i]) end
  end
  local lines = {}
  for _, row in ipairs { columns, table.unpack(rows) } do
    local cells = {}
    for i, cell in ipairs(row) do cells[i] = cell .. (" "):rep(widths[i] - (utf8.len(cell) or #cell)) end
    lines[#lines + 1] = table.concat(cells, "  ")
  end
  return table.concat(lines, "\n") .. "\n"
end

--- Writes an error to standard error in its shape.
---@param shape string key of M.shapes
---@param reason string
---@param hints string[] what to do next
---@param usage string|nil
function M.fail(shape, reason, hints, usage)
  local lines = { M.shapes[shape] }
  if shape == "unexpected" then
    lines[1] = lines[1] .. reason:gsub("%s*\n%s*", " ")
  else
    lines[2] = "- reason: " .. reason
  end
  for _, hint in ipairs(hints or {}) do lines[#lines + 1] = "- hint: " .. hint end
  if usage then lines[#lines + 1] = "- usage: " .. usage:gsub("^Usage: ", ""):gsub("%s*\n%s*", " ") end
  io.stderr:write(table.concat(lines, "\n"), "\n")
end

local COLOURS = { green = "32", red = "31", yellow = "33", cyan = "36", dim = "2", bold = "1" }

--- A painter: paint(name, text). Without colour the text comes back as it is.
---@param enabled boolean
---@return fun(name: string, text: string): string
function M.painter(enabled)
  return function(name, text)
    return enabled and text ~= "" and ("\27[%sm%s\27[0m"):format(COLOURS[name], text) or text
  end
end

--- "0.3s", "12s", "3m 04s", "2h 05m".
---@param seconds number
---@return string
function M.duration(seconds)
  if seconds < 0.1 then return ("%.0fms"):format(math.max(0, seconds) * 1000) end
  if seconds < 10 then return ("%.1fs"):format(seconds) end
  if seconds < 60 then return ("%.0fs"):format(seconds) end
  local whole = math.floor(seconds)
  if whole < 3600 then return ("%dm %02ds"):format(whole // 60, whole % 60) end
  return ("%dh %02dm"):format(whole // 3600, whole % 3600 // 60)
end

return M
