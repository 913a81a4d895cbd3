--- client.lua wheels, wheel-history, wheel-upload, wheel-download, wheel-delete (CONTRACT 16.1).
local json = require "host.json"
local uv = require "luv"
local api_module = require "pyoco.cli.api"
local output = require "pyoco.cli.output"
local preflight = require "pyoco.cli.wheel_preflight"
local text = require "pyoco.cli.text"

local M = {}

local cell = text.cell

local PROGRESS_NS = 100000000

local function tags_of(value) return type(value) == "table" and #value > 0 and table.concat(value, ",") or "-" end

--- "1.2 MB".
local function amount(bytes)
  if bytes < 1000 then return ("%d B"):format(bytes) end
  if bytes < 1000000 then return ("%.1f KB"):format(bytes / 1000) end
  return ("%.1f MB"):format(bytes / 1000000)
end

--- A line on standard error that is drawn over itself; nothing where nobody looks.
---@param what string
---@param total integer|nil bytes, when they are known
---@return fun(done: integer) draw, fun() clear
local function progress(what, total)
  if not output.is_terminal(2) then return function() end, function() end end
  local last, drawn = 0, false
  return function(done)
    local now = uv.hrtime()
    if now - last < PROGRESS_NS then return end
    last, drawn = now, true
    local how_far = total and total > 0
      and (" of %s, %d %%"):format(amount(total), math.min(done, total) * 100 // total)
    io.stderr:write(("\r%s: %s%s\27[K"):format(what, amount(done), how_far or ""))
  end, function()
    if drawn then io.stderr:write("\r\27[K") end
  end
end

--- wheels: what the registry has.
---@param api table
---@param _ table
---@param context table { terminal }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.list(api, _, context)
  return output.show(context, function(stored)
    local rows = {}
    for i, wheel in ipairs(stored) do
      rows[i] = { cell(wheel.name), amount(wheel.size_bytes), tags_of(wheel.tags),
        wheel.modified and text.when(wheel.modified) or cell(wheel.mtime) }
    end
    io.stdout:write(output.table({ "name", "size", "tags", "uploaded" }, rows))
  end, api:request("GET", "/wheels"))
end

--- wheel-history: who uploaded and deleted what.
---@param api table
---@param values table { limit, wheel_name, action }
---@param context table { terminal }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.history(api, values, context)
  return output.show(context, function(events)
    local rows = {}
    for i, event in ipairs(events) do
      local actor = type(event.actor) == "table" and event.actor or {}
      local source = type(event.source) == "table" and event.source or {}
      rows[i] = { text.when(event.occurred_at), cell(event.action), cell(event.wheel_name), tags_of(event.tags),
        cell(actor.tenant_id), cell(actor.api_key_id), cell(source.remote_addr), cell(source.user_agent) }
    end
    io.stdout:write(output.table({ "when", "action", "wheel", "tags", "tenant", "key", "from", "with" }, rows))
  end, api:request("GET", "/wheels/history", { query = { { "limit", values.limit },
    { "wheel_name", values.wheel_name }, { "action", values.action } } }))
end

local function file_failure(reason)
  return nil, reason, "not_found", { shape = "file", reason = reason,
    hints = { "check the path; it is taken from the current folder" } }
end

--- Whether the wheel may be sent, as --preflight says.
local function passes_preflight(values)
  if values.preflight == "off" then return true end
  local errors, warnings = preflight.check(values.wheel_file, values)
  if values.preflight == "warn" then table.move(errors, 1, #errors, #warnings + 1, warnings) end
  for _, warning in ipairs(warnings) do io.stderr:write("[pyoco-client][preflight][warn] ", warning, "\n") end
  if values.preflight == "warn" or #errors == 0 then return true end
  local reason = "wheel preflight failed: " .. table.concat(errors, "; ")
  return nil, reason, "invalid", { shape = "arguments", reason = reason,
    hints = { "mend the wheel, or send it as it is with --preflight warn" } }
end

local function print_uploaded(wheel, context)
  io.stdout:write(("%s is stored: %s, for %s\n"):format(text.clean(wheel.name), amount(wheel.size_bytes),
    #wheel.tags > 0 and "workers with the tags " .. tags_of(wheel.tags) or "all workers"))
  for _, warning in ipairs(type(wheel.warnings) == "table" and wheel.warnings or {}) do
    io.stdout:write(context.paint("yellow", "but " .. text.clean(warning)), "\n")
  end
end

--- wheel-upload: sends a file, read while it is sent.
---@param api table
---@param values table { wheel_file, tags, no_replace, preflight, allow_no_entry_points, allow_missing_usage_doc }
---@param context table { terminal, paint }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.upload(api, values, context)
  local path = values.wheel_file
  local stat, why = uv.fs_stat(path)
  if not stat or stat.type ~= "file" then return file_failure(stat and path .. ": not a file" or why) end
  local file
  file, why = io.open(path, "rb")
  if not file then return file_failure(why) end
  file:close()
  local ok, message, code, failure = passes_preflight(values)
  if not ok then return nil, message, code, failure end
  local fields = { { "replace", values.no_replace and "false" or "true" } }
  if values.tags then fields[2] = { "tags", values.tags } end
  local name = path:match("[^/]*$")
  local draw, clear = progress("uploading " .. text.clean(name), stat.size)
  local answer
  answer, message, code, failure = api:post_file("/wheels", fields, { name = "wheel", path = path, filename = name,
    content_type = "application/octet-stream" }, { on_idle = draw })
  clear()
  return output.show(context, function(wheel) print_uploaded(wheel, context) end, answer, message, code, failure)
end

--- wheel-download: writes a wheel to a file.
---@param api table
---@param values table { name, out, force }
---@param context table { terminal }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.download(api, values, context)
  local to = values.out or values.name:match("[^/]*$")
  if uv.fs_stat(to) and not values.force then
    local reason = to .. " is there already"
    return nil, reason, "conflict", { shape = "file", reason = reason,
      hints = { "write it over with --force, or elsewhere with --out" } }
  end
  local draw, clear = progress("downloading " .. text.clean(values.name))
  local answer, message, code, failure = api:get_file("/wheels/" .. api_module.segment(values.name), to,
    { on_idle = function(_, received) draw(received) end })
  clear()
  if not answer then return nil, message, code, failure end
  if context.terminal then
    io.stdout:write(("wrote %s, %s\n"):format(to, amount(answer.size)))
  else
    io.stdout:write(output.json_line(assert(json.encode({ name = values.name, path = to, size_bytes = answer.size },
      { order = { "name", "path", "size_bytes" } }))), "\n")
  end
  return 0
end

--- wheel-delete: removes a wheel; its version is free again.
---@param api table
---@param values table { name }
---@param context table { terminal }
---@return integer|nil exit code
---@return string|nil message
---@return string|nil code
---@return table|nil failure
function M.delete(api, values, context)
  return output.show(context, function()
    io.stdout:write(("%s is deleted; workers drop it at their next sync\n"):format(text.clean(values.name)))
  end, api:request("DELETE", "/wheels/" .. api_module.segment(values.name)))
end

return M
