--- up.lua: NATS, gateway and a worker on this machine, in one command; stopped in order by Ctrl-C.
local called = require "pyoco.cli.called"
local clock = require "host.clock"
local config = require "pyoco.config"
local json = require "host.json"
local uv = require "luv"
local output = require "pyoco.cli.output"
local program = require "pyoco.cli.program"
local keep = require "pyoco.up.keep"
local services = require "pyoco.up.services"
local text = require "pyoco.cli.text"

local M = {}

M.program = {
  name = "up.lua",
  doc = "Starts NATS (unless an address is given), the gateway and a worker on this machine, and keeps them together.",
  epilog = "Ctrl-C stops all of it in order; a second one at once. Logs and NATS's store are in --data-dir.",
  config = { "http_host", "http_port", "nats_url", "data_dir", "worker_id", "worker_tags", "worker_slots",
    "worker_drain_sec", "task_path", "worker_allow_commands", "worker_allow_spawn", "dashboard_lang" },
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

--- Whether our example word-report is where the worker looks for flows.
local function has_example(up)
  for _, root in ipairs(services.task_roots(up)) do
    if uv.fs_stat(root .. "/word_report.lua") then return true end
  end
  return false
end

local function say_next(up)
  local client = called.program "client"
  if up.server_url ~= "http://127.0.0.1:8000" then client = client .. " --server " .. up.server_url end
  up.say("\nAPI and dashboard: %s\nTry next, in another terminal:", up.paint("bold", up.server_url .. "/"))
  if up.cfg.http_auth_mode == "api_key" and not up.cfg.api_key then
    up.say("  %s --nats-url %s api-key create --tenant me", called.program "admin", config.public(up.nats_url))
    up.say("  export PYOCO_API_KEY=the key that it shows")
  end
  if has_example(up) then
    up.say("  %s submit --flow-name word-report --param limit=5", client)
  else
    up.say("  %s new flow first", called.program "client")
    up.say("  %s submit --flow-name first --param count=5", client)
  end
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

--- What a person who waits for it sees once all is ready.
local function greet(up, seconds)
  up.say("ready in %s", output.duration(seconds))
  if up.demo then run_demo(up) end
  if not up.is_stopping() then say_next(up) end
end

--- Runs up.lua.
---@param argv string[]
---@return integer exit code: 130 after Ctrl-C, 1 when something failed
function M.main(argv)
  local started_at = clock.monotonic()
  local cfg, values, origins = program.start(M.program, argv)
  if not cfg then return values end
  local up = keep.new { program = M.program.name, parts = { "nats", "gateway", "worker" }, cfg = cfg,
    origins = origins, flags = values.flags,
    nats_port = values.nats_port, ready_sec = values.ready_sec, demo = values.demo, on_ready = greet,
    default_slots = math.min(cores(), 4), paint = output.painter(output.is_terminal(1) and cfg.no_color == nil),
    say = function(format, ...)
      io.stdout:write(format:format(...), "\n")
      io.stdout:flush()
    end,
    fail = function(message) io.stderr:write("up.lua: ", message, "\n") end }
  up.on_line = printer(up)
  return keep.run(up, started_at)
end

return M
