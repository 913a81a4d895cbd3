--- The story of what broke a promise: the round's misfortunes, and all that is known of each run concerned.
local logs = require "spec.faults.logs"

local M = {}

local RUNS_MAX, LINES_MAX, LAST_LINES = 6, 400, 12

local function add_run(world, lines, run_id)
  lines[#lines + 1] = ("--- run %s"):format(run_id)
  for _, it in ipairs(world.ledger.story) do
    if it.run_id == run_id then lines[#lines + 1] = ("%7.2f  %s"):format(it.at, it.text) end
  end
  table.move(world.history:lines(run_id), 1, LINES_MAX, #lines + 1, lines)
  for _, it in ipairs(world.fleet:effects()) do
    if it.run_id == run_id then lines[#lines + 1] = "  effect " .. it.line end
  end
  table.move(logs.of_run(world, run_id), 1, LINES_MAX, #lines + 1, lines)
end

--- The last that each member has said.
local function add_members(world, lines)
  for _, one in ipairs(world.fleet.members) do
    local life, last = one:said()[#one.lives], {}
    for line in life.text:gmatch "[^\n]+" do last[#last + 1] = line:sub(1, 500) end
    lines[#lines + 1] = "--- " .. life.name
    table.move(last, math.max(1, #last - LAST_LINES + 1), #last, #lines + 1, lines)
  end
end

--- The lines; none when no promise was broken.
---@param world table
---@return string[]
function M.of(world)
  local ledger, lines, told, count = world.ledger, {}, {}, 0
  if #ledger.breaches == 0 then return lines end
  lines[#lines + 1] = "=== what happened to all"
  for _, it in ipairs(ledger.story) do
    if not it.run_id then lines[#lines + 1] = ("%7.2f  %s"):format(it.at, it.text) end
  end
  lines[#lines + 1] = "=== promises broken"
  for _, it in ipairs(ledger.breaches) do
    lines[#lines + 1] = ("BROKEN %s%s: %s"):format(it.rule, it.run_id and " (" .. it.run_id .. ")" or "", it.text)
  end
  add_members(world, lines)
  for _, it in ipairs(ledger.breaches) do
    if it.run_id and not told[it.run_id] and count < RUNS_MAX then
      told[it.run_id], count = true, count + 1
      add_run(world, lines, it.run_id)
    end
  end
  return lines
end

return M
