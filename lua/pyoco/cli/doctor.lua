--- admin.lua doctor: does this set-up work, and what to do when it does not. It changes nothing, and it works while
--- NATS and the gateway are away. What is looked at stands in the tables of doctor_nats, doctor_gateway, doctor_local.
---
--- A check is a row { name, needs = nil | "store" | "survey" | "gateway", run = fn(view) -> findings }: a finding is
--- { status, message, remedy }, with status ok, warn, fail or skip (it cannot be told). The view has what several need:
---   config, origins, warnings    as services have them
---   store                        connected; nil while NATS does not answer
---   survey                       pyoco.store.survey; nil when it cannot be had
---   gateway                      the gateway's /health; nil when it does not answer
local json = require "host.json"
local output = require "pyoco.cli.output"
local text = require "pyoco.cli.text"

local M = {}

local MODULES = { "doctor_local", "doctor_nats", "doctor_gateway" }
local MARKS = { ok = { "green", "✔" }, warn = { "yellow", "!" }, fail = { "red", "✘" }, skip = { "dim", "·" } }
local MISSING = { store = "NATS cannot be used", survey = "JetStream cannot be used",
  gateway = "the gateway does not answer" }
local ORDER = { "name", "status", "message", "remedy" }

--- A finding.
---@param status string "ok" | "warn" | "fail" | "skip"
---@param message string
---@param remedy string|nil what to do
---@return table
function M.finding(status, message, remedy) return { status = status, message = message, remedy = remedy } end

--- All checks, in the order in which they are made.
---@return table[] rows { name, needs, run }
function M.checks()
  local rows = {}
  for _, name in ipairs(MODULES) do
    for _, row in ipairs(require("pyoco.cli." .. name).checks) do rows[#rows + 1] = row end
  end
  return rows
end

--- What a check finds. One that raises is a finding itself: the others go on.
local function findings_of(row, view)
  if row.needs and not view[row.needs] then return { M.finding("skip", MISSING[row.needs]) } end
  local fine, found = xpcall(row.run, debug.traceback, view)
  return fine and found or { M.finding("fail", "the check itself failed: " .. tostring(found), "please report this") }
end

--- Makes all checks.
---@param view table { config, origins, warnings, connect = fn(config, opts) -> store }
---@param on_found fun(name: string, finding: table)|nil told of each as soon as it is known
---@return table[] findings { name, status, message, remedy }
function M.examine(view, on_found)
  local list = {}
  for _, row in ipairs(M.checks()) do
    for _, finding in ipairs(findings_of(row, view)) do
      finding.name = row[1]
      list[#list + 1] = finding
      if on_found then on_found(row[1], finding) end
    end
  end
  if view.store then view.store:close() end
  return list
end

local function print_finding(paint, name, finding)
  local mark = MARKS[finding.status]
  local message = text.clean(finding.message):gsub("\n", "\n" .. (" "):rep(14))
  io.stdout:write(("%s %s %s\n"):format(paint(mark[1], mark[2]), paint("bold", ("%-11s"):format(name)),
    finding.status == "skip" and paint("dim", message) or message))
  if finding.remedy then
    io.stdout:write((" "):rep(14), paint("cyan", "→ "), text.clean(finding.remedy), "\n")
  end
  io.stdout:flush()
end

local function summary(counts)
  if counts.fail > 0 then return ("%d to mend, %d to look at"):format(counts.fail, counts.warn) end
  return counts.warn > 0 and ("it works; %d to look at"):format(counts.warn) or "all is well"
end

--- doctor: prints what is found.
---@param app table { config, origins, warnings, connect }
---@param values table { output }
---@param context table { paint }
---@return integer exit code: 1 when something fails
function M.run(app, values, context)
  local as_json = values.output == "json"
  local list = M.examine(app, not as_json and function(name, finding)
    print_finding(context.paint, name, finding)
  end or nil)
  local counts = { ok = 0, warn = 0, fail = 0, skip = 0 }
  for _, finding in ipairs(list) do counts[finding.status] = counts[finding.status] + 1 end
  if as_json then
    for i, finding in ipairs(list) do
      finding.remedy = finding.remedy or json.null
      list[i] = assert(json.encode(finding, { order = ORDER }))
    end
    local status = counts.fail > 0 and "fail" or counts.warn > 0 and "warn" or "ok"
    io.stdout:write(output.json_line(('{"status":"%s","checks":[%s]}'):format(status, table.concat(list, ","))), "\n")
  else
    io.stdout:write("\n", context.paint(counts.fail > 0 and "red" or counts.warn > 0 and "yellow" or "green",
      summary(counts)), "\n")
  end
  return counts.fail > 0 and 1 or 0
end

return M
