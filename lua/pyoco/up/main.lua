--- up.lua: NATS, gateway and a worker on this machine, in one command; stopped in order by Ctrl-C.
local clock = require "host.clock"
local host = require "host"
local json = require "host.json"
local uv = require "luv"
local interrupt = require "pyoco.cli.interrupt"
local output = require "pyoco.cli.output"
local program = require "pyoco.cli.program"
local services = require "pyoco.up.services"
local text = require "pyoco.cli.text"
local wait = require "pyoco.up.wait"

local M = {}

local STOP_SEC = 10 -- for each part, beyond what the worker's runs may take

M.program = {
  name = "up.lua",
  doc = "Starts NATS (unless an address is given), the gateway and a worker on this machine, and keeps them together.",
  epilog = "Ctrl-C stops all of it in order; a second one at once. Logs and NATS's store are in --data-dir.",
  config = { "http_host", "http_port", "nats_url", "data_dir", "worker_id", "worker_tags", "worker_slots",
    "worker_drain_sec", "task_path", "worker_allow_commands", "dashboard_lang" },
  options = {
    { "--nats-port", type = "integer", min = 1, max = 65535, default = 4222,
      doc = "Port for our own NATS; the next free one when it is in use." },
    { "--ready-sec", type = "number", min = 1, default = 30, doc = "How long each part may take to get ready." },
    { "--demo", flag = true, doc = "Run flows/hello.yaml once, and show what to try next." },
  },
}

--- Cores that we may use.
local function cores()
  local file <close> = io.open("/proc/self/status")
  local count = 0
  local list = file and file:read("a"):match("Cpus_allowed_list:%s*([%d,-]+)") or "0"
  for first, last in list:gmatch("(%d+)%-?(%d*)") do
    count = count + (last ~= "" and tonumber(last) - tonumber(first) or 0) + 1
  end
  return math.tointeger(count)
end

--- Shows a log line of a part, if it tells of trouble: JSON lines from WARNING up, and whatever is no log line.
local function printer(up)
  return function(name)
    local last
    return function(line)
      local timeless = line:gsub('^{"ts":[^,]*,', "")
      if timeless == last then return end -- the same again
      last = timeless
      local record = line:sub(1, 1) == "{" and json.decode(line)
      if type(record) ~= "table" then
        if line:find("%S") and not line:find("^INFO ") and not line:find("^DEBUG ") then
          up.say("%s", up.paint("yellow", name) .. "  " .. text.clean(line))
        end
      elseif record.level ~= "INFO" and record.level ~= "DEBUG" then
        local colour = record.level == "WARNING" and "yellow" or "red"
        up.say("%s  %s%s", up.paint(colour, name), text.clean(tostring(record.message)),
          record.exc_message and ": " .. text.cut(text.clean(tostring(record.exc_message)), 300) or "")
      end
    end
  end
end

--- Stops one child: asked first, killed when it does not go, or when the user asks again.
local function stop_child(up, child, seconds)
  if child.exited then return end
  up.say("stopping %s ...", child.name)
  child:signal "sigterm"
  up.interrupt.seen = false -- from here on a signal means: at once
  wait.until_true(function() return child.exited or up.interrupt.seen end, seconds)
  if not child.exited then
    local why = up.interrupt.seen and "" or (": it did not stop within %.0f s"):format(seconds)
    up.say("%s is killed%s", child.name, why)
    child:signal "sigkill"
    wait.until_true(function() return child.exited end, 10)
  end
end

--- Stops everything, the newest first: worker, gateway, NATS.
local function stop_all(up)
  up.stopping = true
  for i = #up.children, 1, -1 do
    local child = up.children[i]
    stop_child(up, child, STOP_SEC + (child.name == "worker" and up.cfg.worker_drain_sec or 0))
  end
  wait.until_true(function() return uv.loop_alive() == false end, 0.2)
  for _, child in ipairs(up.children) do child:close() end
end

--- Is up.lua at work in this data folder already? Two nats-servers on one store would destroy it.
local function claim(dir)
  uv.fs_mkdir(dir, 493) -- rwxr-xr-x; that it exists is fine, and any other trouble shows below
  local path = dir .. "/up.pid"
  local file = io.open(path)
  local pid = file and math.tointeger(tonumber(file:read("a"))) or nil
  if file then file:close() end
  local command = pid and io.open(("/proc/%d/cmdline"):format(pid))
  local line = command and command:read("a") or ""
  if command then command:close() end
  if line:find("up.lua", 1, true) and pid ~= math.tointeger(uv.os_getpid()) then
    local text_format = "up.lua is at work in %s already (process %d); stop it, or use another --data-dir"
    return nil, text_format:format(dir, pid), "conflict"
  end
  local mine, message = io.open(path, "w")
  if not mine then
    return nil, ("cannot write in %s: %s; choose another --data-dir"):format(dir, message), "unavailable"
  end
  mine:write(math.tointeger(uv.os_getpid()), "\n")
  mine:close()
  return path
end

--- The program as a user types it: short when it lies below the current folder.
local function command_name()
  local here = uv.cwd() .. "/"
  return host.exe:sub(1, #here) == here and host.exe:sub(#here + 1) or "pyoco-host"
end

local function say_next(up)
  local client = command_name() .. " client.lua"
  if up.server_url ~= "http://127.0.0.1:8000" then client = client .. " --server " .. up.server_url end
  up.say("\nAPI and dashboard: %s\nTry next, in another terminal:", up.paint("bold", up.server_url .. "/"))
  up.say("  %s submit --flow-name word-report --param limit=5", client)
  up.say("  %s workers", client)
  up.say("  curl %s/health", up.server_url)
  up.say("Ctrl-C stops everything.")
end

local function run_demo(up)
  local cfg = setmetatable({ server_url = up.server_url }, { __index = up.cfg })
  local function idle()
    uv.run("nowait")
    return not up.is_stopping()
  end
  local context = { terminal = output.is_terminal(1), paint = up.paint, interrupt = up.interrupt, idle = idle }
  up.say("")
  local snapshot, message, code, failure = require("pyoco.up.demo").run(cfg, context)
  if not snapshot and code ~= "cancelled" then
    failure = failure or { shape = "unexpected", reason = message, hints = {} }
    output.fail(failure.shape, failure.reason, failure.hints)
  end
end

--- Starts the parts in order. Returns nil, message, code when one of them fails.
local function start_all(up)
  for _, name in ipairs { "nats", "gateway", "worker" } do
    local fine, message, code = services[name](up)
    if not fine then return nil, message, code end
    if up.is_stopping() then return true end
  end
  return true
end

local function new_up(cfg, values, origins)
  local up = { cfg = cfg, origins = origins, flags = values.flags, nats_port = values.nats_port, children = {},
    ready_sec = values.ready_sec, demo = values.demo,
    interrupt = interrupt.catch(), default_slots = math.min(cores(), 4),
    paint = output.painter(output.is_terminal(1) and cfg.no_color == nil) }
  function up.say(format, ...)
    io.stdout:write(format:format(...), "\n")
    io.stdout:flush()
  end
  function up.is_stopping() return up.interrupt.seen or up.dead end
  function up.on_exit(child)
    if not up.stopping then up.dead = up.dead or child end
  end
  up.on_line = printer(up)
  return up
end

--- Keeps the parts together until a signal or a death. Gives the exit code.
local function serve(up, started_at)
  local fine, message = start_all(up)
  if not fine then
    if not up.interrupt.seen then io.stderr:write("up.lua: ", message, "\n") end
    return 1
  end
  if not up.is_stopping() then
    up.say("ready in %s", output.duration(clock.monotonic() - started_at))
    if up.demo then run_demo(up) end
  end
  if not up.is_stopping() then say_next(up) end
  while not up.is_stopping() do uv.run("once") end
  if up.interrupt.seen then return 130 end
  io.stderr:write(("up.lua: the %s %s; everything is stopped. Logs: %s\n"):format(up.dead.name, up.dead:ending(),
    up.cfg.data_dir))
  return 1
end

--- Runs up.lua.
---@param argv string[]
---@return integer exit code: 130 after Ctrl-C, 1 when something failed
function M.main(argv)
  local started_at = clock.monotonic()
  local cfg, values, origins = program.start(M.program, argv)
  if not cfg then return values end
  local pid_file, message = claim(cfg.data_dir)
  if not pid_file then
    io.stderr:write("up.lua: ", message, "\n")
    return 1
  end
  local up = new_up(cfg, values, origins)
  local fine, code = xpcall(serve, debug.traceback, up, started_at)
  if not fine then io.stderr:write("up.lua: ", code, "\n") end
  stop_all(up)
  up.interrupt.close()
  os.remove(pid_file)
  if fine and code == 130 then up.say("all stopped") end
  return fine and code or 1
end

return M
