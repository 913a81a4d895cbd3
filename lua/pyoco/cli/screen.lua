--- A block of lines at the bottom of a terminal that is drawn over itself.
local uv = require "luv"

local M = {}

local Screen = {}
Screen.__index = Screen
Screen.__close = function(self) self:close() end

--- Draws the block in place of the previous one, in one write.
---@param lines string[]
---@param above string[]|nil lines that are to stay, above the block
function Screen:draw(lines, above)
  local out = { self.drawn > 0 and ("\27[%dA"):format(self.drawn) or "\27[?25l", "\r" }
  for _, line in ipairs(above or {}) do out[#out + 1] = line .. "\27[K\n" end
  out[#out + 1] = "\27[?7l" -- a line too long for a narrow terminal is cut: one that wraps would move the block
  for _, line in ipairs(lines) do out[#out + 1] = line .. "\27[K\n" end
  out[#out + 1] = "\27[?7h\27[J"
  self.drawn = #lines
  io.stdout:write(table.concat(out))
  io.stdout:flush()
end

--- Leaves the block standing and shows the cursor again. Idempotent.
function Screen:close()
  if self.tty then
    if self.drawn > 0 then io.stdout:write("\27[?25h") end
    io.stdout:flush()
    self.tty:close()
    self.tty = nil
  end
end

---@return integer columns
---@return integer rows
function Screen:size()
  local columns, rows = self.tty:get_winsize()
  if not columns or columns == 0 then return 80, 24 end
  return math.tointeger(columns), math.tointeger(rows)
end

---@return table with draw, size, close
function M.open() return setmetatable({ tty = uv.new_tty(1, false), drawn = 0 }, Screen) end

return M
