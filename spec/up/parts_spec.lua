--- pyoco.up: children that never outlive us, ports, and a NATS of our own.
local host = require "host"
local nats_server = require "spec.support.nats"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local uv = require "luv"

--- Runs Lua code in a pyoco-host of its own.
local function host_code(code, opts) return process.host({ "-e", code }, opts) end

local function is_alive(pid)
  local file = io.open(("/proc/%d/stat"):format(pid))
  if not file then return false end
  local state = file:read("a"):match("%) (%a)")
  file:close()
  return state ~= "Z"
end

describe("a child of up.lua", function()
  local START = [[
    local child = require "pyoco.up.child"
    local c = assert(child.start { name = "x", command = { "sleep", "1000" }, death_signal = %q })
    print("pid " .. c.pid)
    io.stdout:flush()
    require("luv").run()
  ]]

  for _, signal in ipairs { "sigterm", "sigkill" } do
    it("dies when its parent is killed (" .. signal .. ")", function()
      local parent = host_code(START:format(signal))
      local pid = process.wait_for(function() return parent.stdout:match("pid (%d+)") end)
      assert.is_true(is_alive(pid))
      parent:kill "sigkill"
      parent:wait()
      process.wait_for(function() return not is_alive(pid) end, 5000, "the child to die")
    end)
  end

  it("is in a session of its own, so that the terminal's Ctrl-C does not reach it", function()
    local parent = host_code(START:format "sigkill")
    local pid = process.wait_for(function() return parent.stdout:match("pid (%d+)") end)
    local file <close> = assert(io.open(("/proc/%d/stat"):format(pid)))
    assert.equal(pid, file:read("a"):match("%) %a %d+ %d+ (%d+)"))
    parent:stop()
  end)

  it("leaves its output in the log and its last lines at hand", function()
    local dir = tmp.dir()
    finally(function() tmp.remove(dir) end)
    local code = ([[
      local child, wait = require "pyoco.up.child", require "pyoco.up.wait"
      local lines = {}
      local c = assert(child.start { name = "x", log_path = %q, on_line = function(line) lines[#lines + 1] = line end,
        command = { "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13; do echo $i; done; exit 3" } })
      wait.until_true(function() return c.exited and #lines == 13 end, 5)
      print(c:ending(), #c.recent, c.recent[1])
      c:close()
    ]]):format(dir .. "/log")
    local got = process.run { "-e", code }
    assert.equal("ended with exit code 3\t12\t2\n", got.stdout)
    assert.equal("1\n2\n", tmp.read(dir .. "/log"):sub(1, 4))
  end)

  it("says that a program is missing", function()
    local got = process.run { "--exec-child", "9", tostring(math.tointeger(uv.os_getpid())), "no-such-program" }
    assert.equal(127, got.code)
    assert.equal("pyoco-host: cannot start no-such-program: No such file or directory\n", got.stderr)
    assert.equal(1, process.run({ "--exec-child", "nine" }).code)
  end)

  it("does not start when its parent is gone already", function()
    local got = process.run { "--exec-child", "9", "1", "echo", "started" }
    assert.equal(1, got.code)
    assert.equal("", got.stdout)
  end)
end)

describe("our own NATS", function()
  --- Starts it in a process of its own, prints what it is, and stops it.
  local function start(dir, port, program, ready_sec)
    local code = ([[
      local nats, wait = require "pyoco.up.nats", require "pyoco.up.wait"
      local server, message = nats.start { port = %d, store_dir = %q, log_path = %q, is_stopping = function() end,
        ready_sec = %g, say = function(...) print(string.format(...)) io.stdout:flush() end,
        program = %s }
      print(server and server.url or message, server and server.note)
      if server then
        server.child:signal "sigterm"
        wait.until_true(function() return server.child.exited end, 10)
      end
    ]]):format(port, dir .. "/store", dir .. "/log", ready_sec or 20, program and ("%q"):format(program))
    return process.host { "-e", code }
  end

  --- The same, to its end.
  local function start_and_wait(...)
    local child = start(...)
    child:wait()
    return child
  end

  local dir
  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  for _, jetstream in ipairs { true, false } do
    it("takes another port than a foreign one, and says so" .. (jetstream and "" or " (without JetStream)"), function()
      local foreign = nats_server.start { jetstream = jetstream }
      finally(function() foreign:stop() end)
      local got = start_and_wait(dir, foreign.port)
      local url, note = got.stdout:match("^(%S+)\t(.-)\n")
      assert.truthy(url and url:find("^nats://127.0.0.1:%d+$") and url ~= foreign.url, got.stdout .. got.stderr)
      assert.equal(("port %d is taken by a NATS server %sthat is not ours; it is left alone"):format(foreign.port,
        jetstream and "" or "without JetStream "), note)
      assert.is_nil(foreign.process.code)
    end)
  end

  it("keeps what its log says when it cannot start", function()
    tmp.write(dir .. "/store", "a file where the store should be")
    local got = start_and_wait(dir, 14222)
    assert.truthy(got.stdout:find("^NATS ended with exit code 1; see " .. dir:gsub("%-", "%%-") .. "/log"), got.stdout)
  end)

  it("waits for another server to leave the store, and says so; two on one store would destroy it", function()
    local other <close> = assert(host.lock(dir .. "/store.lock"))
    local got = start(dir, 14222)
    process.wait_for(function() return got.stdout:find("waiting for another nats-server to leave the store", 1,
      true) end)
    assert.is_nil(got.code)
    other:close()
    got:wait()
    assert.truthy(got.stdout:find("\nnats://127.0.0.1:%d+\t"), got.stdout .. got.stderr)
  end)

  it("holds the store as long as it lives, whoever has started it", function()
    local got = start(dir, 14222)
    process.wait_for(function() return got.stdout:find("nats://", 1, true) end)
    got:wait()
    local lock = assert(host.lock(dir .. "/store.lock")) -- it has ended
    lock:close()
  end)

  it("gives up when the other server stays, naming the store", function()
    local other <close> = assert(host.lock(dir .. "/store.lock"))
    local got = start_and_wait(dir, 14222, nil, 0.5)
    local text = "another nats-server uses the store %s/store (`fuser %s/store.lock` shows it); stop it"
    assert.truthy(got.stdout:find(text:format(dir, dir), 1, true), got.stdout)
    other:close()
  end)

  it("says how to install nats-server when it is missing", function()
    local got = start_and_wait(dir, 14222, "no-such-server")
    assert.equal("nats-server is not installed; get it with: apt-get install nats-server\tnil\n", got.stdout)
  end)
end)
