--- All specs, each file in a process of its own, a few at once: specs wait far more than they compute, and a file
--- that leaves something behind cannot spoil another.
local uv = require "luv"

local M = {}

local JOBS = tonumber(os.getenv("PYOCO_SPEC_JOBS")) or uv.available_parallelism() + 1
local FILE_LIMIT_MS = 300000 -- a file that hangs is ended, and counts as failed
local STRAY_MS = 1000        -- how long the output is awaited after the end of its process

local LONGEST = "^spec/e2e/" -- a browser takes its time

--- The spec files, biggest first: the long ones are not left for the end.
local function files(top)
  local list = {}
  local function walk(dir)
    for name, kind in uv.fs_scandir_next, assert(uv.fs_scandir(dir)) do
      local path = dir .. "/" .. name
      if kind == "directory" then
        walk(path)
      elseif name:find("_spec%.lua$") then
        list[#list + 1] = { path = path, size = path:find(LONGEST) and math.huge or uv.fs_stat(path).size }
      end
    end
  end
  walk(top)
  table.sort(list, function(a, b) return a.size > b.size or a.size == b.size and a.path < b.path end)
  return list
end

--- What a file's process said and how it ended, as a result.
local function result_of(path, text, code, signal)
  local passed, failed = text:match("(%d+) passed, (%d+) failed\n[^\n]*$")
  if not passed or (code ~= 0 and failed == "0") then
    text = ("%s\nERROR %s ended with code %d, signal %d\n"):format(text, path, code, signal)
    passed, failed = passed or "0", "1"
  end
  return { path = path, text = text, passed = math.tointeger(passed), failed = math.tointeger(failed) }
end

--- Runs one file and hands its result to `done` when its process and its output have ended.
local function run_file(path, done)
  local stdout, stderr, limit, parts = uv.new_pipe(), uv.new_pipe(), uv.new_timer(), {}
  local open, code, signal, handle = 3, nil, nil, nil
  local function closed()
    open = open - 1
    if open > 0 then return end
    limit:close()
    done(result_of(path, table.concat(parts), code, signal))
  end
  local function close_pipe(pipe)
    if not pipe:is_closing() then pipe:close(closed) end
  end
  handle = assert(uv.spawn(uv.exepath(), { args = { "spec/run.lua", path }, stdio = { nil, stdout, stderr } },
    function(...)
      code, signal = ...
      handle:close(closed)
      -- a stray child of the spec may hold the pipes open: what was said until now is enough
      limit:start(STRAY_MS, 0, function()
        close_pipe(stdout)
        close_pipe(stderr)
      end)
    end))
  limit:start(FILE_LIMIT_MS, 0, function() handle:kill("sigkill") end)
  for _, pipe in ipairs { stdout, stderr } do
    pipe:read_start(function(_, chunk)
      if chunk then parts[#parts + 1] = chunk else close_pipe(pipe) end
    end)
  end
end

local function show(result)
  io.write(("%-50s %d%s\n"):format(result.path, result.passed + result.failed,
    result.failed > 0 and (", %d FAILED"):format(result.failed) or ""))
  io.flush()
end

--- Runs all, prints a line for each file, then the output of those that failed, then "N passed, N failed".
---@param top string|nil folder, relative to the checkout; default: spec
---@return integer exit code
function M.run(top)
  local started, queue, results, next_place, running = uv.hrtime(), files(top or "spec"), {}, 1, 0
  local function start_more()
    while running < JOBS and next_place <= #queue do
      local path = queue[next_place].path
      next_place, running = next_place + 1, running + 1
      run_file(path, function(result)
        results[#results + 1], running = result, running - 1
        show(result)
        start_more()
      end)
    end
  end
  start_more()
  while running > 0 do uv.run("once") end

  local passed, failed = 0, 0
  for _, result in ipairs(results) do
    passed, failed = passed + result.passed, failed + result.failed
    if result.failed > 0 or result.text:find("\nPENDING ", 1, true) then
      io.write("\n--- ", result.path, "\n", result.text)
    end
  end
  io.write(("%d files, %d at once, %.0f s\n"):format(#results, JOBS, (uv.hrtime() - started) / 1e9))
  io.write(("%d passed, %d failed\n"):format(passed, failed))
  return failed == 0 and 0 or 1
end

return M
