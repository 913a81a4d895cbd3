--- up.lua whole: NATS, gateway and worker as processes, from the first line to the last.
local host = require "host"
local nats_server = require "spec.support.nats"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local uv = require "luv"

local dir, cleanups

--- Has something done after the `it`, the last asked for first.
local function later(fn) table.insert(cleanups, 1, fn) end

--- Starts up.lua with a data folder of its own; it ends with the `it` at the latest.
local function up(arguments, opts)
  opts = opts or {}
  opts.cwd = opts.cwd or host.home
  local all = { "up.lua", "--data-dir", dir .. "/data", "--port", "0" }
  table.move(arguments or {}, 1, #(arguments or {}), #all + 1, all)
  local child = process.host(all, opts)
  later(function() child:stop(20000) end)
  return child
end

local function shows(child, text)
  process.wait_for(function()
    if child.code then error("up.lua ended:\n" .. child.stdout .. child.stderr) end
    return child.stdout:find(text, 1, true)
  end, 30000, text)
end

--- Ids of the processes whose parent is `pid`.
local function children_of(pid)
  local list = {}
  local file = io.open(("/proc/%d/task/%d/children"):format(pid, pid))
  if not file then return list end
  for id in file:read("a"):gmatch("%d+") do list[#list + 1] = math.tointeger(tonumber(id)) end
  file:close()
  return list
end

local function command_of(pid)
  local text = tmp.read(("/proc/%d/cmdline"):format(pid)) or ""
  return (text:gsub("%z", " "))
end

local function gone(pids)
  for _, pid in ipairs(pids) do
    if command_of(pid) ~= "" then return false end -- of a zombie it is empty
  end
  return true
end

describe("up.lua", function()
  before_each(function() dir, cleanups = tmp.dir(), {} end)
  after_each(function()
    for _, clean in ipairs(cleanups) do clean() end
    tmp.remove(dir)
  end)

  it("shows the demo to its end, says what to try next, and stops in order on Ctrl-C", function()
    local child = up { "--demo" }
    shows(child, "Ctrl-C stops everything.")
    for _, text in ipairs { "\nready in ", "hello  COMPLETED  ", "└─ ✔ meet", '"Hello, world!"',
      "\nAPI and dashboard: http://127.0.0.1:", "client.lua", "curl http" } do
      assert.truthy(child.stdout:find(text, 1, true), text .. "\nis not in\n" .. child.stdout)
    end
    local parts = children_of(child.pid)
    assert.equal(3, #parts)
    child:kill "sigint"
    assert.equal(130, (child:wait(30000)))
    assert.truthy(child.stdout:find("stopping worker ...\nstopping gateway ...\nstopping NATS ...\nall stopped\n$"),
      child.stdout)
    assert.equal("", child.stderr)
    assert.is_true(gone(parts))
    assert.is_nil(uv.fs_stat(dir .. "/data/up.pid"))
  end)

  it("finds the demo's flow from any folder", function()
    local child = up({ "--demo" }, { cwd = dir })
    shows(child, "Ctrl-C stops everything.")
    assert.truthy(child.stdout:find("hello  COMPLETED  ", 1, true), child.stdout)
  end)

  it("says how to begin where there are no flows, and a flow made then runs", function()
    local child = up({}, { cwd = dir })
    shows(child, "Ctrl-C stops everything.")
    assert.falsy(child.stdout:find("word-report", 1, true), child.stdout)
    assert.truthy(child.stdout:find("client.lua new flow first\n", 1, true), child.stdout)
    assert.equal(0, process.run({ "client.lua", "new", "flow", "first" }, { cwd = dir }).code)
    local url = child.stdout:match("API and dashboard: (%S-)/\n")
    local arguments = { "client.lua", "--server", url }
    local submit = child.stdout:match("(submit %-%-flow%-name first %-%-param count=5)\n")
    for word in submit:gmatch("%S+") do arguments[#arguments + 1] = word end
    local run_id = process.run(arguments).stdout:match('"run_id": "([^"]+)"')
    process.wait_for(function()
      local run = process.run { "client.lua", "--server", url, "get", run_id }
      return run.stdout:find('"status": "COMPLETED"', 1, true)
    end, 10000, "the run to end")
  end)

  it("keeps runs over a restart", function()
    local first = up { "--demo" }
    shows(first, "Ctrl-C stops everything.")
    local run_id = first.stdout:match("run (%x+%-%x+%-%x+%-%x+%-%x+)")
    first:kill "sigterm"
    first:wait(30000)
    local second = up()
    shows(second, "Ctrl-C stops everything.")
    local url = second.stdout:match("API and dashboard: (%S-)/\n")
    local got = process.run { "client.lua", "--server", url, "get", run_id }
    assert.equal(0, got.code)
    assert.truthy(got.stdout:find('"status": "COMPLETED"', 1, true), got.stdout .. got.stderr)
  end)

  it("says how to make a key when the gateway asks for one, and uses it the next time", function()
    local first = up({}, { env = { PYOCO_HTTP_AUTH_MODE = "api_key" } })
    shows(first, "Ctrl-C stops everything.")
    local url, tenant = first.stdout:match "admin.lua %-%-nats%-url (%S+) api%-key create %-%-tenant (%S+)\n"
    local got = process.run { "admin.lua", "--nats-url", url, "api-key", "create", "--tenant", tenant }
    local key = got.stdout:match '"api_key": "([^"]+)"'
    assert.is_string(key, got.stdout .. got.stderr)
    first:kill "sigterm"
    first:wait(30000)
    local second = up({ "--demo" }, { env = { PYOCO_HTTP_AUTH_MODE = "api_key", PYOCO_API_KEY = key } })
    shows(second, "Ctrl-C stops everything.")
    assert.truthy(second.stdout:find("hello  COMPLETED  ", 1, true), second.stdout .. second.stderr)
    assert.falsy(second.stdout:find("api-key create", 1, true))
  end)

  it("leaves a foreign NATS alone, takes another port and says so", function()
    local foreign = nats_server.start { jetstream = false }
    later(function() foreign:stop() end)
    local child = up { "--nats-port", tostring(foreign.port) }
    shows(child, "Ctrl-C stops everything.")
    assert.truthy(child.stdout:find(("port %d is taken by a NATS server without JetStream that is not ours; it is left "
      .. "alone"):format(foreign.port), 1, true), child.stdout)
    assert.is_nil(foreign.process.code)
  end)

  it("uses the NATS that PYOCO_NATS_URL names, and starts none", function()
    local given = nats_server.start {}
    later(function() given:stop() end)
    local child = up({}, { env = { PYOCO_NATS_URL = given.url } })
    shows(child, "Ctrl-C stops everything.")
    assert.truthy(child.stdout:find("^NATS     " .. given.url:gsub("%p", "%%%0") .. " %(environment PYOCO_NATS_URL%)"))
    assert.equal(2, #children_of(child.pid))
  end)

  it("says what is missing when a given NATS is of no use, and stops", function()
    local without = nats_server.start { jetstream = false }
    later(function() without:stop() end)
    local child = up { "--nats-url", without.url, "--ready-sec", "3" }
    assert.equal(1, (child:wait(30000)))
    assert.truthy(child.stdout:find("waiting for the gateway: NATS at " .. without.url .. " has no JetStream", 1, true),
      child.stdout)
    assert.truthy(child.stderr:find("^up.lua: the gateway was not ready within 3 s: NATS at %S+ has no JetStream"),
      child.stderr)
    without:stop()
    local none = up { "--nats-url", without.url, "--ready-sec", "1" }
    assert.equal(1, (none:wait(30000)))
    assert.truthy(none.stderr:find("^up.lua: the gateway was not ready within 1 s: "), none.stderr)
  end)

  it("refuses a port in use that was asked for, with nothing left running", function()
    local listener = uv.new_tcp()
    listener:bind("127.0.0.1", 0)
    listener:listen(1, function() end)
    local port = math.tointeger(listener:getsockname().port)
    local child = up { "--port", tostring(port) }
    assert.equal(1, (child:wait(30000)))
    listener:close()
    local text = "port %d on 127.0.0.1 is in use (flag --port asks for it); stop what listens there, or choose another"
    assert.truthy(child.stderr:find(text:format(port), 1, true), child.stderr)
  end)

  it("takes the next port when the default one is in use, and says so", function()
    local listener = uv.new_tcp()
    listener:bind("127.0.0.1", 8000) -- when somebody else has it already, that is as good
    listener:listen(1, function() end)
    local child = process.host({ "up.lua", "--data-dir", dir .. "/data" }, { cwd = host.home })
    later(function() child:stop(20000) end)
    shows(child, "Ctrl-C stops everything.")
    listener:close()
    assert.truthy(child.stdout:find("port 8000 is in use by another program; it is left alone", 1, true), child.stdout)
  end)

  it("gets along with others that start at the same moment and want the same ports", function()
    local all, urls = {}, {}
    for i = 1, 4 do
      all[i] = process.host({ "up.lua", "--data-dir", ("%s/data%d"):format(dir, i) }, { cwd = host.home })
      later(function() all[i]:stop(20000) end)
    end
    for i, child in ipairs(all) do
      shows(child, "Ctrl-C stops everything.")
      for _, pattern in ipairs { "NATS     (%S-),", "gateway  (http%S+)" } do
        local url = child.stdout:match(pattern)
        assert.is_nil(urls[url], url)
        urls[url] = i
      end
    end
    for _, child in ipairs(all) do
      child:kill "sigterm"
      assert.equal(130, (child:wait()), child.stdout .. child.stderr)
    end
  end)

  it("refuses a second one on the same data", function()
    local first = up()
    shows(first, "Ctrl-C stops everything.")
    local second = up()
    assert.equal(1, (second:wait()))
    local text = "up.lua is at work in %s/data already (process %d)"
    assert.truthy(second.stderr:find(text:format(dir, first.pid), 1, true), second.stderr)
  end)

  it("says which part died, and stops the others", function()
    local child = up()
    shows(child, "Ctrl-C stops everything.")
    local parts = children_of(child.pid)
    for _, pid in ipairs(parts) do
      if command_of(pid):find("worker.lua", 1, true) then uv.kill(pid, "sigkill") end
    end
    assert.equal(1, (child:wait(30000)))
    local text = "up.lua: the worker was killed by signal 9; everything is stopped. Logs: "
    assert.truthy(child.stderr:find(text, 1, true), child.stderr)
    assert.is_true(gone(parts))
  end)

  it("leaves nothing running when it is killed itself", function()
    local child = up()
    shows(child, "Ctrl-C stops everything.")
    local parts = children_of(child.pid)
    for i = 1, #parts do table.move(children_of(parts[i]), 1, 9, #parts + 1, parts) end
    assert.truthy(#parts >= 4) -- the worker's slots too
    child:kill "sigkill"
    child:wait()
    process.wait_for(function() return gone(parts) end, 10000, "the children to end")
  end)

  it("stops at once on a second Ctrl-C", function()
    tmp.write(dir .. "/slow.lua", [[
      local pyoco = require "pyoco"
      return pyoco.flow("slow", pyoco.task("wait", function(ctx) ctx:log("waiting") ctx:sleep(1000) end))
    ]])
    local child = up { "--task-path", dir, "--drain-sec", "600" }
    shows(child, "Ctrl-C stops everything.")
    local url = child.stdout:match("API and dashboard: (%S-)/\n")
    local run = process.run { "client.lua", "--server", url, "submit", "--flow-name", "slow" }
    local run_id = run.stdout:match('"run_id": "([^"]+)"')
    local watch = process.host { "client.lua", "--server", url, "watch", run_id, "--output", "status" }
    process.wait_for(function() return watch.stdout:find("RUNNING") end, 10000, "the run to run")
    watch:stop()
    child:kill "sigint"
    shows(child, "stopping worker ...")
    child:kill "sigint"
    assert.equal(130, (child:wait(20000)))
    assert.truthy(child.stdout:find("worker is killed\n", 1, true), child.stdout)
  end)

  it("says what the configuration has wrong before it starts anything", function()
    local child = up { "--slots", "none" }
    assert.equal(1, (child:wait()))
    assert.truthy(child.stderr:find('flag --slots is "none": expected a number from 1 to 256', 1, true), child.stderr)
    assert.equal("", child.stdout)
  end)

  it("refuses a data folder where it cannot write", function()
    tmp.write(dir .. "/data", "a file")
    local child = up()
    assert.equal(1, (child:wait()))
    assert.truthy(child.stderr:find("cannot write in " .. dir .. "/data", 1, true), child.stderr)
  end)
end)
