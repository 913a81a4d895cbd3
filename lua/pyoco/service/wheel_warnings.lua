--- What our workers will not like about a wheel that is being uploaded. The registry takes it all the same: it may be
--- for another kind of worker (DESIGN D11).
local json = require "host.json"
local uv = require "luv"
local archive = require "pyoco.wheel.archive"
local fit = require "pyoco.wheel.fit"

local M = {}

local OURS = "^lua54%-none%-"

local function is_for_us(wheel)
  for _, tag in ipairs(wheel.tags) do
    if tag:find(OURS) then return true end
  end
  return false
end

--- Calls fn with a path of the file's bytes. What is in memory gets one on disk for the time.
local function with_path(app, file, fn)
  if file.path then return fn(file.path) end
  local fd, path = uv.fs_mkstemp(app.config.http_spool_dir .. "/pyoco-wheel-XXXXXX")
  if not fd then return { "it was not looked into: " .. path } end
  uv.fs_unlink(path)
  local written, message = uv.fs_write(fd, file.data, 0)
  local result = written == #file.data and fn(("/proc/self/fd/%d"):format(fd))
    or { "it was not looked into: " .. (message or "no room on the disk") }
  uv.fs_close(fd)
  return result
end

--- The warnings of an upload.
---@param app table { config }
---@param wheel table of pyoco.wheel.name
---@param file table { data (bytes) } or { path }
---@return string[] texts; none when our workers will take it
function M.of(app, wheel, file)
  if not is_for_us(wheel) then
    return json.array { ("our workers skip it: its tags (%s) are not lua54-none-any or lua54-none-<system>"):format(
      table.concat(wheel.tags, ", ", 1, math.min(#wheel.tags, 5))) }
  end
  local problems = with_path(app, file, function(path)
    return archive.check(path, wheel.name, fit.limits(app.config)).problems
  end)
  local warnings = json.array {}
  for i, problem in ipairs(problems) do warnings[i] = "our workers refuse it: " .. problem end
  return warnings
end

return M
