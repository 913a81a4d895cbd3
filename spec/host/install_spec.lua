--- `make install`, and what it installs at work: short names, completion, the command line of pyoco-server.
local host = require "host"
local json = require "host.json"
local uv = require "luv"
local nats_server = require "spec.support.nats"
local port = require "pyoco.up.port"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local flavour = host.exe:match("/build/(%l+)/pyoco%-host$") or ""
local dir, prefix

local function make(target)
  local child = process.spawn("make", { "-C", host.home, target, "DESTDIR=" .. dir, "PREFIX=/opt/here",
    "FLAVOUR=" .. flavour })
  child:wait(120000)
  assert.equal(0, child.code, child.stdout .. child.stderr)
end

--- Runs an installed program to its end.
local function run(name, arguments, opts)
  local child = process.spawn(prefix .. "/bin/" .. name, arguments, opts)
  child:wait(30000)
  return child
end

--- What an address answers; asked in a process of its own, which takes its kept connections with it.
local function body_of(url)
  return process.run({ "-e", "print(((require('host.http').request { url = ..., timeout_sec = 2 }) or {}).body)", url })
    .stdout
end

describe("make install", function()
  setup(function()
    dir = tmp.dir()
    prefix = dir .. "/opt/here"
    make "install"
  end)
  teardown(function() tmp.remove(dir) end)

  it("gives each script its short name, with help and hints under that name", function()
    for _, name in ipairs { "pyoco-client", "pyoco-server", "pyoco-worker", "pyoco-server-admin" } do
      local child = run(name, { "--help" })
      assert.equal(0, child.code, child.stderr)
      assert.truthy(child.stdout:find("Usage: " .. name .. " ", 1, true), child.stdout)
    end
    local wrong = run("pyoco-client", { "nope" })
    assert.equal(1, wrong.code)
    assert.truthy(wrong.stderr:find("`pyoco-client --help` lists what there is", 1, true), wrong.stderr)
  end)

  it("does not take a script of the current folder for its own", function()
    tmp.write(dir .. "/client.lua", "print 'not this one'")
    local child = run("pyoco-client", { "check", prefix .. "/share/pyoco-host/flows/hello.yaml" }, { cwd = dir })
    assert.equal(0, child.code, child.stderr)
    assert.is_nil(child.stdout:find("not this one", 1, true))
  end)

  it("brings completion that shells read", function()
    local bash = [[
      . "$1/pyoco-host"
      COMP_WORDS=(pyoco-host client.lua list --fl); COMP_CWORD=3; COMPREPLY=(); _pyoco-host; echo "${COMPREPLY[*]}"
      COMP_WORDS=(pyoco-host up); COMP_CWORD=1; COMPREPLY=(); _pyoco-host; echo "${COMPREPLY[*]}"
    ]]
    local child = process.spawn("bash", { "-c", bash, "bash", prefix .. "/share/bash-completion/completions" })
    child:wait(10000)
    assert.equal("--flow\nup.lua\n", child.stdout, child.stderr)
    for _, file in ipairs { "zsh/site-functions/_pyoco-client", "fish/vendor_completions.d/pyoco-worker.fish" } do
      assert.truthy(tmp.read(prefix .. "/share/" .. file):find("Show this help", 1, true), file)
    end
  end)

  it("brings the documentation that hints speak of", function()
    local doc = prefix .. "/share/doc/pyoco-host"
    assert.truthy(uv.fs_stat(doc .. "/docs/reference/config.md"))
    assert.truthy(uv.fs_stat(doc .. "/docs/ja/guide/tutorial.md"))
    assert.truthy(uv.fs_stat(doc .. "/README.ja.md"))
  end)

  it("brings systemd units that name the installed program", function()
    for _, name in ipairs { "pyoco-gateway.service", "pyoco-worker@.service" } do
      local text = tmp.read(prefix .. "/lib/systemd/system/" .. name)
      assert.truthy(text:find("ExecStart=/opt/here/bin/pyoco-host ", 1, true), text)
      assert.is_nil(text:find("@PREFIX@", 1, true))
    end
  end)

  it("pyoco-server starts NATS, gateway and worker, and a signal stops them", function()
    local number, monitor, web = port.first_free("127.0.0.1", 24222), port.first_free("127.0.0.1", 28222),
      port.first_free("127.0.0.1", 28000)
    local url = "http://127.0.0.1:" .. web
    local child = process.spawn(prefix .. "/bin/pyoco-server", { "up", "--with-nats-bootstrap", "--with-worker",
      "--port", tostring(web), "--nats-client-port", tostring(number), "--nats-http-port", tostring(monitor),
      "--worker-id", "w7", "--worker-tags", "hello,cpu", "--data-dir", dir .. "/data",
      "--worker-flow-resolver", tmp.write(dir .. "/resolve.lua", [[
        local pyoco = require "pyoco"
        return function(name)
          if name == "made" then return pyoco.flow(name, pyoco.task("one", function() return 41 + 1 end)) end
        end]]) }, { cwd = prefix .. "/share/pyoco-host" })
    finally(function() child:stop(20000) end)
    process.wait_for(function()
      if child.code then error("ended: " .. child.stdout .. child.stderr) end
      return body_of(url .. "/workers"):find('"w7"', 1, true)
    end, 20000, "the worker to be listed")
    assert.truthy(body_of(("http://127.0.0.1:%d/varz"):format(monitor)):find('"jetstream"', 1, true))
    assert.truthy(body_of(url .. "/"):find("<html", 1, true))

    local submitted = run("pyoco-client", { "--server", url, "submit", "--flow-name", "made", "--tag", "hello" })
    local run_id = assert(json.decode(submitted.stdout), submitted.stderr).run_id
    local watched = run("pyoco-client", { "--server", url, "watch", run_id, "--until-terminal", "--output", "status" })
    assert.truthy(watched.stdout:find("\tCOMPLETED\t", 1, true), watched.stdout .. watched.stderr)

    child:kill "sigterm"
    child:wait(20000)
    assert.equal(130, child.code, child.stderr)
    assert.is_true(port.is_free("127.0.0.1", number))
  end)

  it("pyoco-server passes on what the gateway says of a host that is none", function()
    local got = run("pyoco-server", { "--host", "no.such.host" }, { cwd = dir })
    assert.equal(1, got.code)
    assert.truthy(got.stdout:find("host no.such.host is no IPv4 address", 1, true), got.stdout .. got.stderr)
  end)

  it("pyoco-server refuses ports in use and an address of another NATS, before it starts anything", function()
    local other = nats_server.start()
    finally(function() other:stop() end)
    local taken = run("pyoco-server", { "--with-nats-bootstrap", "--nats-client-port", tostring(other.port) })
    assert.equal(1, taken.code)
    local text = ("[pyoco-server][ERR-PYOCO-0018] port %d on 127.0.0.1 is in use"):format(other.port)
    assert.truthy(taken.stderr:find(text, 1, true), taken.stderr)
    local else_where = run("pyoco-server", { "--with-nats-bootstrap", "--nats-url", other.url })
    assert.equal(1, else_where.code)
    assert.truthy(else_where.stderr:find("drop one of them, or make them the same", 1, true), else_where.stderr)
  end)

  it("pyoco-server without a NATS of its own runs beside another in the same folder", function()
    local nats = nats_server.start()
    local children = {}
    finally(function()
      for _, child in ipairs(children) do child:stop(20000) end
      nats:stop()
    end)
    for i = 1, 2 do
      local url = "http://127.0.0.1:" .. port.first_free("127.0.0.1", 28100)
      local child = process.spawn(prefix .. "/bin/pyoco-server", { "--nats-url", nats.url, "--host", "localhost",
        "--port", url:match "%d+$" }, { cwd = dir })
      children[i] = child
      process.wait_for(function()
        if child.code then error("ended: " .. child.stdout .. child.stderr) end
        return body_of(url .. "/health"):find('"ok"', 1, true)
      end, 20000, "the gateway to serve")
    end
  end)

  it("is undone by make uninstall", function()
    make "uninstall"
    local left = {}
    local function walk(path)
      for name, kind in uv.fs_scandir_next, assert(uv.fs_scandir(path)) do
        if kind == "directory" then walk(path .. "/" .. name) else left[#left + 1] = path .. "/" .. name end
      end
    end
    walk(prefix)
    assert.same({}, left)
  end)
end)
