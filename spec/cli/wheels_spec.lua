--- client.lua's commands for wheels, against a real gateway.
local crypto = require "host.crypto"
local host = require "host"
local json = require "host.json"
local builder = require "pyoco.wheel.build"
local gateways = require "spec.support.gateway"
local http_server = require "spec.support.http_server"
local nats = require "spec.support.nats"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

describe("client.lua wheels", function()
  local server, gateway, dir, path, name

  setup(function()
    server = nats.start()
    gateway = gateways.start { nats_url = server.url, env = { PYOCO_HTTP_MAX_BODY_BYTES = "65536" } }
    gateway:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
    dir = tmp.dir()
    tmp.write(dir .. "/etl_tools.lua", "return { noise = [[" .. crypto.hex_encode(crypto.random(200000)) .. "]] }")
    tmp.write(dir .. "/README.md", ("How to use it. "):rep(10))
    tmp.write(dir .. "/wheel.lua", 'return { name = "etl-tools", version = "1.0", summary = "Tools." }')
    path = assert(builder.build(dir, { out = dir })).path
    name = path:match("[^/]*$")
  end)
  teardown(function()
    gateway:stop()
    server:stop()
    tmp.remove(dir)
  end)

  local function client(...) return process.run({ "client.lua", "--server", gateway.url, ... }, { cwd = dir }) end

  local function answered(got)
    assert.equal(0, got.code, got.stderr)
    return assert(json.decode(got.stdout)), got.stdout
  end

  it("go up, are listed, come back and go, one JSON line each", function()
    local wheel, line = answered(client("wheel-upload", "--wheel-file", path, "--tags", "cpu,gpu"))
    assert.same({ name, { "cpu", "gpu" }, {} }, { wheel.name, wheel.tags, wheel.warnings })
    assert.truthy(line:find('", "', 1, true) and line:find("^[^\n]*\n$"))
    assert.equal(crypto.sha256(tmp.read(path)), wheel.sha256_hex)
    assert.equal(name, answered(client "wheels")[1].name)

    local back = answered(client("wheel-download", name, "--out", "back.whl"))
    assert.same({ name, "back.whl", wheel.size_bytes }, { back.name, back.path, back.size_bytes })
    assert.is_true(tmp.read(dir .. "/back.whl") == tmp.read(path))

    assert.same({ name = name, deleted = true }, answered(client("wheel-delete", "--name", name)))
    local events = answered(client("wheel-history", "--limit", "2", "--wheel-name", name))
    assert.same({ "delete", "upload" }, { events[1].action, events[2].action })
    assert.truthy(events[1].source.user_agent:find("^pyoco%-host/"))
    assert.equal(1, #answered(client("wheel-history", "--action", "DELETE", "--limit", "1")))
  end)

  it("are refused with the gateway's words", function()
    answered(client("wheel-upload", "--wheel-file", path, "--no-replace"))
    finally(function() client("wheel-delete", "--name", name) end)
    local got = client("wheel-upload", "--wheel-file", path)
    assert.same({ 1, "" }, { got.code, got.stdout })
    assert.equal('ERR-PYOCO-HTTP: request failed\n- reason: HTTP 409 POST /wheels: '
      .. '{"detail":"wheel version already exists; bump version"}\n', got.stderr:match("^[^\n]*\n[^\n]*\n"))
    got = client("wheel-delete", "--name", "none-1-py3-none-any.whl")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find('HTTP 404 DELETE /wheels/none-1-py3-none-any.whl: {"detail":"wheel not found"}', 1,
      true), got.stderr)
    got = client("wheel-download", "none-1-py3-none-any.whl")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find('HTTP 404 GET /wheels/none-1-py3-none-any.whl: {"detail":"wheel not found"}', 1,
      true), got.stderr)
    assert.is_nil(tmp.read(dir .. "/none-1-py3-none-any.whl.part"))
    got = client("wheel-history", "--action", "look")
    assert.truthy(got.stderr:find('{"detail":"invalid action"}', 1, true), got.stderr)
    got = client("wheel-upload", "--tags", "a b", "--wheel-file", path)
    assert.truthy(got.stderr:find('{"detail":"invalid wheel tags"}', 1, true), got.stderr)
  end)

  it("are looked at before they are sent, as --preflight says", function()
    local bad = tmp.write(dir .. "/bad-1-lua54-none-any.whl", "no zip")
    local got = client("wheel-upload", "--wheel-file", bad)
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("^ERR%-PYOCO%-0018: [^\n]*\n%- reason: wheel preflight failed: wheel file is not a "
      .. "valid zip archive\n"), got.stderr)
    got = client("wheel-upload", "--wheel-file", bad, "--preflight", "warn")
    assert.equal("[pyoco-client][preflight][warn] wheel file is not a valid zip archive\n", got.stderr)
    assert.truthy(answered(got).warnings[1]:find("^our workers refuse it: "))
    client("wheel-delete", "--name", "bad-1-lua54-none-any.whl")
    got = client("wheel-upload", "--wheel-file", bad, "--preflight", "off")
    assert.equal("", got.stderr)
    answered(got)
    client("wheel-delete", "--name", "bad-1-lua54-none-any.whl")
  end)

  it("tell files that cannot be read or written", function()
    local got = client("wheel-upload", "--wheel-file", "missing.whl")
    assert.equal(1, got.code)
    assert.truthy(got.stderr:find("^ERR%-PYOCO%-0018: file I/O error\n%- reason: [^\n]*missing%.whl"), got.stderr)
    assert.truthy(client("wheel-upload", "--wheel-file", dir).stderr:find("file I/O error", 1, true))
    got = client("wheel-download", name, "--out", path)
    assert.truthy(got.stderr:find("is there already", 1, true), got.stderr)
    got = client("wheel-download", name, "--out", "no/such/folder")
    assert.truthy(got.stderr:find("file I/O error", 1, true), got.stderr)
  end)

  it("are told in sentences and tables on a terminal", function()
    local function shown(arguments)
      local command = ("cd '%s' && exec '%s' client.lua --server %s %s"):format(dir, host.exe, gateway.url, arguments)
      local got = process.spawn("script", { "-qefc", command, "/dev/null" })
      got:wait()
      assert.equal(0, got.code, got.stdout)
      return (got.stdout:gsub("\27%[[%d;?]*%a", ""):gsub("\r", ""))
    end
    local bad = tmp.write(dir .. "/bad-1-lua54-none-any.whl", "no zip")
    local text = shown("wheel-upload --preflight off --tags cpu --wheel-file " .. bad)
    assert.truthy(text:find("bad-1-lua54-none-any.whl is stored: 6 B, for workers with the tags cpu\n"
      .. "but our workers refuse it: ", 1, true), text)
    assert.truthy(shown("wheels"):find("bad%-1%-lua54%-none%-any%.whl  6 B   cpu   %d%d%d%d%-"))
    assert.truthy(shown("wheel-history --limit 1"):find("upload  bad%-1%-lua54%-none%-any%.whl  cpu"))
    text = shown("wheel-download --force bad-1-lua54-none-any.whl")
    assert.truthy(text:find("wrote bad-1-lua54-none-any.whl, 6 B", 1, true), text)
    text = shown("wheel-delete --name bad-1-lua54-none-any.whl")
    assert.truthy(text:find("is deleted; workers drop it", 1, true), text)
  end)

  it("go up and come back by the client library, from file to file", function()
    local lib = require("pyoco.client.http").new(gateway.url)
    finally(function() lib:close() end)
    local wheel = assert(lib:upload_wheel { path = path, tags = { "gpu" } })
    assert.same({ name, { "gpu" } }, { wheel.name, wheel.tags })
    assert.equal("conflict", select(3, lib:upload_wheel { path = path }))
    assert(lib:download_wheel_file(name, dir .. "/lib.whl"))
    assert.is_true(tmp.read(dir .. "/lib.whl") == tmp.read(path))
    assert.equal("not_found", select(3, lib:download_wheel_file("none.whl", dir .. "/none.whl")))
    assert.is_nil(tmp.read(dir .. "/none.whl"))
    assert.is_true(lib:delete_wheel(name).deleted)
  end)

  it("that come back damaged or cut are not kept", function()
    local fake = http_server.start(function(request)
      if request.path:find("cut") then
        return { body = "x", stream = true, headers = { ["content-length"] = "5" } }
      end
      return { body = "other bytes", headers = { etag = '"' .. crypto.sha256 "the bytes" .. '"' } }
    end)
    for _, wanted in ipairs { "damaged.whl", "cut.whl" } do
      local got = process.run({ "client.lua", "--server", fake.url, "wheel-download", wanted }, { cwd = dir })
      assert.equal(1, got.code, wanted)
      assert.same({}, { tmp.read(dir .. "/" .. wanted), tmp.read(dir .. "/" .. wanted .. ".part") })
    end
    fake.stop()
  end)
end)
