--- Keeping several programs of ours together: started in order, stopped in the other order, all of them when one dies.
local clock = require "host.clock"
local uv = require "luv"
local interrupt = require "pyoco.cli.interrupt"
local folder = require "pyoco.up.folder"
local services = require "pyoco.up.services"
local wait = require "pyoco.up.wait"

local M = {}

local STOP_SEC = 10 -- for each part, beyond what the worker's runs may take

--- What starts and keeps parts.
---@param fields table { program = our name, parts = { "nats", "gateway", "worker" or some of them }, cfg, origins,
---  flags, say(format, ...), on_line(part) -> fn(line), on_ready(up, seconds) = nil | called once all parts are ready,
---  fail(text) writes a failure, and what pyoco.up.services reads }
---@return table up
function M.new(fields)
  local up = setmetatable({ children = {}, interrupt = interrupt.catch() }, { __index = fields })
  function up.is_stopping() return up.interrupt.seen or up.dead end
  function up.on_exit(child)
    if not up.stopping then up.dead = up.dead or child end
  end
  return up
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

--- Starts the parts in order. Returns nil, message, code when one of them fails.
local function start_all(up)
  for _, name in ipairs(up.parts) do
    local fine, message, code = services[name](up)
    if not fine then return nil, message, code end
    if up.is_stopping() then return true end
  end
  return true
end

--- Keeps the parts together until a signal or a death. Gives the exit code.
local function serve(up, started_at)
  local fine, message = start_all(up)
  if not fine then
    if not up.interrupt.seen then up.fail(message) end
    return 1
  end
  if not up.is_stopping() and up.on_ready then up.on_ready(up, clock.monotonic() - started_at) end
  while not up.is_stopping() do uv.run("once") end
  if up.interrupt.seen then return 130 end
  up.fail(("the %s %s; everything is stopped. Logs: %s"):format(up.dead.name, up.dead:ending(), up.cfg.data_dir))
  return 1
end

--- Starts the parts, keeps them until a signal or until one dies, and stops them all.
---@param up table made by M.new
---@param started_at number monotonic seconds: since when the user waits
---@return integer exit code: 130 after a signal, 1 when something failed
function M.run(up, started_at)
  local claim, message = folder.claim(up.cfg.data_dir, up.program, up.parts[1] ~= "nats")
  if not claim then
    up.fail(message)
    up.interrupt.close()
    return 1
  end
  local fine, code = xpcall(serve, debug.traceback, up, started_at)
  if not fine then up.fail(code) end
  stop_all(up)
  up.interrupt.close()
  claim:close()
  if fine and code == 130 then up.say("all stopped") end
  return fine and code or 1
end

return M
