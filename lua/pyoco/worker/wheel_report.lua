--- The `wheel_sync` object of a worker's registry record (CONTRACT 8.8).
local json = require "host.json"

local M = {}
local Report = {}
Report.__index = Report

local null = json.null
local LIST_MAX, ERROR_MAX_CHARS = 50, 2000

--- The block of a worker that has not synchronised yet.
---@param enabled boolean
---@return table
function M.empty(enabled)
  return { enabled = enabled, last_result = enabled and "idle" or "disabled", last_attempt_at = null,
    last_success_at = null, last_synced_at = null, last_error = null, selected_count = 0, updated_count = 0,
    removed_count = 0, skipped_incompatible_count = 0, selected_wheels = json.array {}, updated_wheels = json.array {},
    removed_wheels = json.array {}, skipped_incompatible = json.array {}, installed_wheels = json.array {} }
end

--- At most LIST_MAX of a list.
local function short(list)
  return json.array(table.move(list, 1, math.min(#list, LIST_MAX), 1, {}))
end

local function cut(text)
  text = tostring(text)
  if not utf8.len(text) then text = text:gsub("[\x80-\xff]", "?") end
  local stop = utf8.offset(text, ERROR_MAX_CHARS + 1)
  return stop and text:sub(1, stop - 1) or text
end

--- Takes the block over that an earlier life of this worker has left in the registry.
---@param stored any
function Report:carry_over(stored)
  if type(stored) ~= "table" then return end
  local block = M.empty(true)
  for name, value in pairs(block) do
    local found = stored[name]
    if type(found) == type(value) or value == null and (type(found) == "number" or type(found) == "string") then
      block[name] = found
    end
  end
  block.enabled = true
  if block.last_result == "disabled" then block.last_result = "idle" end
  block.failed_wheels = self.block.failed_wheels
  self.block = block
end

--- What is installed now.
---@param rows table wheel name -> manifest row
function Report:installed(rows)
  local list = {}
  for name, row in pairs(rows) do
    list[#list + 1] = { wheel_name = name, package_name = row.package_name, package_version = row.package_version,
      installed_at = row.installed_at, nuid = row.nuid }
  end
  table.sort(list, function(a, b) return a.wheel_name < b.wheel_name end)
  self.block.installed_wheels = short(list)
end

--- A round could not be made: what the last one found stays.
---@param at number unix seconds
---@param message string
function Report:failed(at, message)
  local block = self.block
  block.last_result, block.last_attempt_at, block.last_error = "error", at, cut(message)
end

--- A round was made.
---@param at number unix seconds
---@param round table { selected, updated, removed (wheel names), skipped (objects), failures (list of { wheel_name,
---  package_name, package_version, error, refused, attempts, retry_at }) }
function Report:done(at, round)
  local block, errors = self.block, {}
  for name, list in pairs { selected = round.selected, updated = round.updated, removed = round.removed } do
    table.sort(list)
    block[name .. "_count"], block[name .. "_wheels"] = #list, short(list)
  end
  block.skipped_incompatible_count, block.skipped_incompatible = #round.skipped, short(round.skipped)
  for i, failure in ipairs(round.failures) do
    failure.error = cut(failure.error)
    errors[i] = failure.error
  end
  block.failed_wheels = short(round.failures)
  block.last_attempt_at = at
  if #errors > 0 then
    block.last_result, block.last_error = "error", cut(table.concat(errors, "\n"))
  else
    block.last_result, block.last_error, block.last_success_at, block.last_synced_at = "ok", null, at, at
  end
end

--- A report of a worker that synchronises.
---@return table report with .block, the object to store
function M.new()
  local block = M.empty(true)
  block.failed_wheels = json.array {}
  return setmetatable({ block = block }, Report)
end

return M
