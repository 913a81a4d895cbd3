--- admin.lua wheel: makes wheels for our workers, and says what is in one and what a worker would do with it. Needs
--- no NATS.
local json = require "host.json"
local archive = require "pyoco.wheel.archive"
local called = require "pyoco.cli.called"
local builder = require "pyoco.wheel.build"
local fit = require "pyoco.wheel.fit"
local output = require "pyoco.cli.output"

local M = {}

local BUILT = { "path", "name", "version", "size_bytes", "files" }
local INSPECTED = { "wheel_name", "package_name", "package_version", "tags", "summary", "path", "size_bytes",
  "unpacked_bytes", "files", "entry_points", "verdict", "problems" }

--- A failure that the caller can mend.
local function refused(shape, lines, hint)
  return nil, lines[1], "invalid", { shape = shape, reason = table.concat(lines, "\n- reason: "), hints = { hint } }
end

local function print_line(value, order)
  io.write(output.json_line(assert(json.encode(value, { order = order }))), "\n")
end

--- wheel build DIR: packs a folder of flows and task modules.
---@param _ table the app, not needed
---@param values table { dir, out, name, version, tags }
---@param context table
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.build(_, values, context)
  local built, message, code, problems = builder.build(values.dir, { out = values.out, name = values.name,
    version = values.version, tags = values.tags })
  if not built then
    return refused(code == "internal" and "file" or "arguments", problems or { message },
      "docs/guide/wheels.md says what a wheel is made of")
  end
  if not context.terminal then
    print_line({ path = built.path, name = built.name, version = built.version, size_bytes = built.size,
      files = built.files }, BUILT)
    return 0
  end
  io.write(("wrote %s (%d files, %d bytes)\n"):format(built.path, built.files, built.size),
    ("next:\n  %s wheel inspect %s\n  %s wheel-upload --wheel-file %s\n"):format(
      called.program "admin", built.path, called.program "client", built.path))
  return 0
end

--- What a worker of ours, on a machine as this one, does with a wheel.
local function verdict_of(report)
  if not report.wheel then return "ignored", "its file name is none of a wheel: workers do not see it" end
  if not fit.fits(report.wheel.tags) then
    return "skipped_incompatible", "its tags are not for our workers (unsupported_wheel_tags)"
  end
  if #report.problems > 0 then return "refused", "workers refuse it whole" end
  return "installed", "workers install it"
end

local function entry_points_of(report)
  local groups = {}
  for _, group in ipairs(report.entry_points) do
    local list = groups[group[1]] or json.array {}
    groups[group[1]] = list
    for _, point in ipairs(group[2]) do list[#list + 1] = ("%s = %s"):format(point[1], point[2]) end
  end
  return groups
end

local function print_report(report, values, verdict, text)
  local wheel, metadata = report.wheel or {}, report.metadata or {}
  local rows = {
    { "file", values.file }, { "package", wheel.package or "-" }, { "version", wheel.version or "-" },
    { "tags", table.concat(wheel.tags or {}, ", ") }, { "summary", metadata.summary or "-" },
    { "size", ("%d bytes, unpacked %d"):format(report.size, report.unpacked_bytes) },
    { "workers", ("%s: %s"):format(verdict, text) },
  }
  for _, row in ipairs(rows) do io.write(("%-8s  %s\n"):format(row[1], row[2])) end
  local files = {}
  for i, file in ipairs(report.files) do files[i] = { file.name, tostring(file.size or "-") } end
  io.write("\n", output.table({ "path", "bytes" }, files))
  for i, problem in ipairs(report.problems) do io.write(i == 1 and "\nproblems\n" or "", "  ", problem, "\n") end
end

--- wheel inspect FILE: what is in a wheel, and what workers make of it.
---@param app table { config }
---@param values table { file, output }
---@param context table
---@return integer|nil exit code 1 when something is wrong with it
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.inspect(app, values, context)
  local file, why = io.open(values.file, "rb")
  if not file then return refused("file", { why }, "name a wheel file") end
  file:close()
  local report = archive.check(values.file, values.file:match("[^/]*$"), fit.limits(app.config))
  local verdict, text = verdict_of(report)
  if (values.output or (context.terminal and "table")) == "table" then
    print_report(report, values, verdict, text)
  else
    local wheel, metadata, files = report.wheel or {}, report.metadata or {}, json.array {}
    for i, one in ipairs(report.files) do files[i] = { path = one.name, size_bytes = one.size or json.null } end
    print_line({ wheel_name = values.file:match("[^/]*$"), package_name = wheel.package or json.null,
      package_version = wheel.version or json.null, tags = json.array(wheel.tags or {}),
      summary = metadata.summary or json.null, size_bytes = report.size, unpacked_bytes = report.unpacked_bytes,
      files = files, entry_points = entry_points_of(report), verdict = verdict,
      problems = json.array(report.problems) }, INSPECTED)
  end
  return #report.problems > 0 and 1 or 0
end

return M
