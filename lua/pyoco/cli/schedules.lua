--- client.lua schedule-yaml, schedules, schedule-runs, schedule-delete (CONTRACT 16.1).
local api_module = require "pyoco.cli.api"
local called = require "pyoco.cli.called"
local document = require "pyoco.cli.document"
local output = require "pyoco.cli.output"
local text = require "pyoco.cli.text"

local M = {}

local cell = text.cell

local function path_of(schedule_id, rest) return "/schedules/" .. api_module.segment(schedule_id) .. (rest or "") end

local function rhythm(schedule)
  if schedule.schedule_type == "once" then return "once" end
  return type(schedule.interval_seconds) == "number" and ("every %gs"):format(schedule.interval_seconds) or "-"
end

--- schedule-yaml: a document that is run at a time, or again and again.
---@param api table
---@param values table
---@param context table { terminal, paint }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.create(api, values, context)
  return output.show(context, function(schedule)
    io.stdout:write(("%s is schedule %s, next at %s\n"):format(text.clean(schedule.flow_name), schedule.schedule_id,
      text.when(schedule.next_run_at)),
      context.paint("dim", ("its runs:  %s schedule-runs --schedule-id %s"):format(called.program "client",
        schedule.schedule_id)), "\n")
  end, document.post(api, "/schedules/yaml", values, {
    { "run_at", values.run_at }, { "interval_seconds", values.interval_seconds }, { "start_at", values.start_at } }))
end

--- schedules: all of them.
---@param api table
---@param values table
---@param context table { terminal }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.list(api, values, context) -- luacheck: no unused args
  return output.show(context, function(schedules)
    local rows = {}
    for i, schedule in ipairs(schedules) do
      rows[i] = { cell(schedule.schedule_id), cell(schedule.status), cell(schedule.flow_name), cell(schedule.tag),
        rhythm(schedule), text.when(schedule.next_run_at), cell(schedule.dispatch_count), cell(schedule.last_error) }
    end
    io.stdout:write(output.table({ "schedule_id", "status", "flow_name", "tag", "when", "next", "runs", "last_error" },
      rows))
  end, api:request("GET", "/schedules"))
end

--- schedule-runs: the runs of one.
---@param api table
---@param values table
---@param context table { terminal }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.runs(api, values, context)
  return output.show(context, function(runs)
    local rows = {}
    for i, run in ipairs(runs) do
      rows[i] = { cell(run.run_id), cell(run.status), text.when(run.updated_at), cell(run.error) }
    end
    io.stdout:write(output.table({ "run_id", "status", "updated_at", "error" }, rows))
  end, api:request("GET", path_of(values.schedule_id, "/runs"),
    { query = { { "limit", values.limit }, { "include", values.records and "full" or nil } } }))
end

--- schedule-delete: removes one; its runs remain.
---@param api table
---@param values table
---@param context table { terminal }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.delete(api, values, context)
  return output.show(context, function()
    io.stdout:write(("schedule %s is deleted; its runs remain\n"):format(text.clean(values.schedule_id)))
  end, api:request("DELETE", path_of(values.schedule_id)))
end

return M
