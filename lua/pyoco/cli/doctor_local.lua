--- Checks of admin.lua doctor that need nobody: options, flows, open files, room on the disk.
local uv = require "luv"
local config = require "pyoco.config"

local M = {}

local SPARE_FILES = 256 -- of a gateway beside its connections: NATS, SQLite, pages, Lua
local LEAST_FREE_BYTES, LOW_FREE_BYTES = 256 << 20, 2 << 30

local finding = require("pyoco.cli.doctor").finding

local function check_options(view)
  local found = {}
  for _, warning in ipairs(view.warnings) do
    found[#found + 1] = finding("warn", warning, "correct its name, or remove it")
  end
  local key, files = view.config.task_path, {}
  for i, path in ipairs(key) do files[i] = path end
  if #found == 0 then
    found[1] = finding("ok", ("options are understood; NATS at %s (%s), flows in %s"):format(
      config.public(view.config.nats_url), view.origins.nats_url, table.concat(files, ":")))
  end
  return found
end

local function check_flows(view)
  local roots, found = view.config.task_path, {}
  local list = require("pyoco.flow.load").list(roots)
  for _, problem in ipairs(list.errors) do
    local place = problem.line and ("%s:%d"):format(problem.file, problem.line) or problem.file
    local is_root = not problem.line and not uv.fs_stat(problem.file)
    if is_root and view.origins.task_path == "default" then -- a machine without a worker has none
      found[#found + 1] = finding("skip", ("no folder %s here: no flows to look at"):format(problem.file))
    else
      found[#found + 1] = finding("fail", ("%s: %s"):format(place, problem.message),
        "mend the file; the worker takes it up by itself")
    end
  end
  if #list.flows > 0 or #found == 0 then
    table.insert(found, 1, finding("ok", ("%d Lua flow%s load%s from %s"):format(#list.flows,
      #list.flows == 1 and "" or "s", #list.flows == 1 and "s" or "", table.concat(roots, ":"))))
  end
  return found
end

--- Soft limit of open files of a process; nil when it cannot be read.
local function files_limit(pid)
  local file <close> = io.open(("/proc/%s/limits"):format(pid))
  local soft = file and file:read("a"):match("Max open files%s+(%S+)")
  return soft and (tonumber(soft) or math.huge)
end

--- Whether a process of this machine is a gateway: another machine's pid means nothing here.
local function is_gateway(pid)
  local file <close> = io.open(("/proc/%d/cmdline"):format(pid))
  local line = file and file:read("a") or ""
  return line:find("gateway%.lua") ~= nil
end

local function check_files(view)
  local needed = view.config.http_threads + SPARE_FILES
  local pid = view.gateway and math.tointeger(view.gateway.pid)
  local here = pid and is_gateway(pid)
  local limit = files_limit(here and pid or "self")
  if not limit then return { finding("skip", "the limit of open files cannot be read") } end
  local whose = here and "the gateway" or "a gateway started from this shell"
  if limit < needed then
    return { finding("fail", ("%s may open %d files, and %d connections (PYOCO_HTTP_THREADS) need %d"):format(whose,
      limit, view.config.http_threads, needed),
      ("`ulimit -n %d` before it is started, LimitNOFILE=%d in its unit, or fewer threads"):format(needed, needed)) }
  end
  return { finding("ok", ("%s may open %s files; it needs %d at most"):format(whose,
    limit == math.huge and "any number of" or ("%d"):format(limit), needed)) }
end

local function size(bytes)
  if bytes >= 1 << 30 then return ("%.1f GB"):format(bytes / (1 << 30)) end
  return ("%.0f MB"):format(bytes / (1 << 20))
end

--- Room where things are written on this machine: NATS's store, if it is one of ours, and large uploads.
local function check_disk(view)
  local found = {}
  for _, it in ipairs { { view.config.data_dir .. "/nats", "the store of our NATS" },
    { view.config.http_spool_dir, "large uploads" } } do
    local stat = uv.fs_stat(it[1]) and uv.fs_statfs(it[1])
    if stat then
      local free = stat.bavail * stat.bsize
      local status = free < LEAST_FREE_BYTES and "fail" or free < LOW_FREE_BYTES and "warn" or "ok"
      found[#found + 1] = finding(status, ("%s free for %s (%s)"):format(size(free), it[2], it[1]),
        status ~= "ok" and "make room: without it submits and uploads are refused" or nil)
    elseif it[2] == "large uploads" then
      found[#found + 1] = finding("warn", ("the folder for large uploads, %s, is missing"):format(it[1]),
        "make it, or name another in PYOCO_HTTP_SPOOL_DIR")
    end
  end
  return found
end

--- The rows (pyoco.cli.doctor).
M.checks = {
  { "options", run = check_options },
  { "flows", run = check_flows },
  { "disk", run = check_disk },
}

--- After the gateway's: it says which process is meant.
M.files = { "open files", run = check_files }

return M
