--- What the fleet has said: lines of one run, and errors that nobody expects.
local json = require "host.json"

local M = {}

-- Errors that misfortune, or a flow that is meant to fail, explains. Patterns of the field `message`.
local EXPECTED = {
  "^execution error$", "^flow not found$", "^invalid workflow for job$", "^run failed by the sweeper$",
  "^slot died$", "^slot cannot work$", "^task ignores its timeout", "^wheel sync failed$",
  "^worker registry heartbeat failed$", "^transient nats error during job processing$",
  "nats unavailable$", "^NATS [%a ]+; trying again$", "^schedule %a+ failed$",
  "^flows cannot be loaded", "gateway.lua not reloaded, the last good version goes on$",
}

--- Every line of every life: fn(name, line).
local function each(world, fn)
  for _, one in ipairs(world.fleet.members) do
    if one.kind ~= "nats" then
      for _, life in ipairs(one:said()) do
        for line in life.text:gmatch "[^\n]+" do fn(life.name, line) end
      end
    end
  end
end

--- Lines that speak of a run.
---@param world table
---@param run_id string
---@return string[]
function M.of_run(world, run_id)
  local lines = {}
  each(world, function(name, line)
    if line:find(run_id, 1, true) then lines[#lines + 1] = name .. ": " .. line:sub(1, 600) end
  end)
  return lines
end

--- Whether a line speaks of a run and of something.
function M.mentions(world, run_id, text)
  for _, line in ipairs(M.of_run(world, run_id)) do
    if line:find(text, 1, true) then return true end
  end
  return false
end

local function is_expected(message)
  for _, pattern in ipairs(EXPECTED) do
    if message:find(pattern) then return true end
  end
  return false
end

--- Errors, tracebacks and lines that are no JSON, which no misfortune explains. Each kind once.
---@return string[]
function M.unexpected(world)
  local list, seen = {}, {}
  each(world, function(name, line)
    local record = line:sub(1, 1) == "{" and json.decode(line)
    local is_bad
    if type(record) == "table" then
      is_bad = (record.level == "ERROR" or record.level == "CRITICAL") and not is_expected(tostring(record.message))
    else
      is_bad = not line:find "^%S+ listening at" and not line:find "worker ready"
    end
    local kind = type(record) == "table" and tostring(record.message) or line:gsub("%d+", "#")
    if is_bad and not seen[kind] then
      seen[kind] = true
      list[#list + 1] = name .. ": " .. line:sub(1, 1200)
    end
  end)
  return list
end

return M
