--- A worker's wheels, with a real worker and a real NATS: what is installed, what runs, what is refused, what survives.
local json = require "host.json"
local crypto = require "host.crypto"
local uv = require "luv"
local metas = require "pyoco.nats.object_meta"
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local support = require "spec.support.worker"
local tmp = require "spec.support.tmp"
local wheels = require "spec.support.wheel"

local INTERVAL = "0.1"

describe("a worker with wheels", function()
  local world, dir

  setup(function() world = support.world() end)
  teardown(function() world:stop() end)
  before_each(function() dir = tmp.dir() end)
  after_each(function()
    for _, one in ipairs(world.workers) do one:stop() end
    world.workers = {}
    assert(world.store:ensure()) -- one takes the registry away
    for _, wheel in ipairs(assert(world.store.wheels:list())) do world.store.wheels:delete(wheel.name) end
    world.store.workers.kv:delete "w1"
    tmp.remove(dir)
  end)

  --- Starts a worker that synchronises into the spec's folder.
  local function start(args)
    local all = { "--wheel-sync", "--wheel-sync-dir", dir .. "/wheels", "--wheel-sync-interval-sec", INTERVAL }
    return world:worker(table.move(args or {}, 1, #(args or {}), #all + 1, all))
  end

  --- Builds a wheel (options of spec.support.wheel) and puts it into the registry.
  local function put(opts, tags)
    local path, name = wheels.write(dir, opts)
    local bytes = tmp.read(path)
    assert(world.store.wheels:create(name, bytes, { tags = tags or {}, sha256 = crypto.sha256(bytes) }))
    return name
  end

  --- A wheel with one flow `hello` that answers its version.
  local function put_hello(version, tags)
    return put({ name = "hello", version = version, files = { ["hello.lua"] = wheels.flow("hello", version) } }, tags)
  end

  --- The wheel_sync object once it satisfies a condition.
  local function sync(fits, what, worker_id)
    local last
    local ok, message = pcall(process.wait_for, function()
      local found = world.store.workers:get(worker_id or "w1")
      last = found and found.wheel_sync
      return last and last.enabled and last.last_result ~= "idle" and fits(last) and last
    end, 10000, what)
    return ok and message or error(message .. "\n" .. tostring(last and json.encode(last)) .. world:logs(), 2)
  end

  local function installed(sync_block)
    local list = {}
    for i, one in ipairs(sync_block.installed_wheels) do list[i] = one.package_name .. " " .. one.package_version end
    return table.concat(list, ", ")
  end

  --- Waits until exactly these packages are installed.
  local function wait_installed(text)
    return sync(function(found) return installed(found) == text end, "installed: " .. text)
  end

  --- Runs the flow and gives what its task returned.
  local function answer(flow)
    local run = world:wait(world:submit { flow_name = flow or "hello" }, function(run)
      return run.status == "COMPLETED" or run.status == "FAILED"
    end)
    return run.status == "COMPLETED" and run.task_records.say.output or run.error
  end

  local function entries(path)
    local list = {}
    for name in uv.fs_scandir_next, uv.fs_scandir(path) do list[#list + 1] = name end
    table.sort(list)
    return list
  end

  --- Waits for the process that installs a wheel, and stops it.
  local function hold_up(worker, name)
    process.wait_for(function()
      for _, pid in ipairs(world:slots(worker)) do
        local is_it = (tmp.read(("/proc/%d/cmdline"):format(pid)) or ""):find(name, 1, true)
        if is_it and uv.kill(pid, "sigstop") == 0 then return true end
      end
    end, 10000, "the process that unpacks")
  end

  it("installs at its start, before its first job, and says so as the contract has it", function()
    local name = put_hello("1.0", { "gpu", "default" })
    put_hello("0.9")
    put({ name = "other", version = "1", files = { ["other.lua"] = wheels.flow("other", "no") } }, { "gpu" })
    local python = put { name = "py_thing", version = "2.0", tag = "py3-none-any", files = { ["x.py"] = "" } }
    local run_id = world:submit { flow_name = "hello" }
    start()
    assert.equal("1.0", world:wait(run_id, "COMPLETED").task_records.say.output)

    local block = sync(function(found) return found.last_result == "ok" end, "a first round")
    local wheel = assert(world.store.wheels:info(name))
    assert.same({ { wheel_name = name, package_name = "hello", package_version = "1.0", nuid = wheel.nuid,
      installed_at = block.installed_wheels[1].installed_at } }, block.installed_wheels)
    assert.same({ name }, block.selected_wheels)
    assert.same({ { wheel_name = python, package_name = "py-thing", package_version = "2.0",
      reason = "unsupported_wheel_tags" } }, block.skipped_incompatible)
    assert.same({ 1, 1, json.null }, { block.selected_count, block.skipped_incompatible_count, block.last_error })
    assert.equal(block.last_success_at, block.last_synced_at)
    local keys, wanted = {}, {}
    for key in pairs(block) do keys[key] = true end
    local fixture = assert(json.decode(tmp.read("spec/fixtures/worker-record.json")))
    for key in pairs(fixture.wheel_sync) do wanted[key] = true end
    wanted.failed_wheels = true -- ours
    assert.same(wanted, keys)

    local manifest = assert(json.decode(tmp.read(dir .. "/wheels/.installed.json")))
    local row = manifest[name]
    assert.same({ wheel.nuid, "hello", "1.0", wheel.size, wheel.sha256, { "default", "gpu" } }, { row.nuid,
      row.package_name, row.package_version, row.size_bytes, row.sha256_hex, row.tags })
    assert.is_number(row.installed_at)
    assert.equal(wheel.sha256, crypto.sha256(tmp.read(dir .. "/wheels/" .. name)))
    process.wait_for(function()
      local record = world.store.workers:get "w1"
      return record.flows and #record.flows == 1 and record.flows[1].name == "hello"
    end, 10000, "the flow to be listed")
  end)

  --- A flow that waits until a file is there, and only then loads a module of its wheel.
  local function put_slow(version)
    return put { name = "slow", version = version, files = { ["part.lua"] = ("return { version = %q }"):format(version),
      ["slow.lua"] = [[
local pyoco = require "pyoco"
return pyoco.flow("slow", pyoco.task("say", function(ctx, gate)
  while not io.open(gate) do ctx:sleep(0.01) end
  return require("part").version
end))]] } }
  end

  it("gives the next run new code; a run that goes on keeps its own, whose folder stays as long", function()
    put_slow "1.0"
    start { "--slots", "2" }
    wait_installed "slow 1.0"
    local gate = dir .. "/gate"
    local old = world:submit { flow_name = "slow", params = { gate = gate } }
    world:wait(old, "RUNNING")
    put_slow "1.0.post1"
    wait_installed "slow 1.0.post1"
    assert.equal(2, #entries(dir .. "/wheels/.sites"))
    local new = world:submit { flow_name = "slow", params = { gate = "/" } }
    assert.equal("1.0.post1", world:wait(new, "COMPLETED").task_records.say.output)
    tmp.write(gate, "")
    assert.equal("1.0", world:wait(old, "COMPLETED").task_records.say.output)
    process.wait_for(function() return #entries(dir .. "/wheels/.sites") == 1 end, 10000, "the old folder to go")
  end)

  it("goes back when the newest version is deleted, and removes what is no more there", function()
    local old, new = put_hello "1.9", put_hello "1.10rc1"
    start()
    wait_installed "hello 1.10rc1"
    assert.equal("1.10rc1", answer())
    assert(world.store.wheels:delete(new))
    wait_installed "hello 1.9"
    assert.equal("1.9", answer())
    assert(world.store.wheels:delete(old))
    local block = wait_installed ""
    assert.same({ "ok", 0 }, { block.last_result, block.selected_count })
    assert.truthy(answer():find("^flow_not_found"))
    process.wait_for(function()
      return #entries(dir .. "/wheels/.sites") == 0 and #entries(dir .. "/wheels/.staging") == 0
    end, 10000, "everything to be removed")
    assert.is_nil(uv.fs_stat(dir .. "/wheels/" .. old))
  end)

  it("takes the same version again when it was uploaded anew", function()
    local name = put_hello "1.0"
    start()
    assert.equal("1.0", answer())
    assert(world.store.wheels:delete(name))
    put { name = "hello", version = "1.0", files = { ["hello.lua"] = wheels.flow("hello", "again") } }
    local nuid = assert(world.store.wheels:info(name)).nuid
    sync(function(found) return (found.installed_wheels[1] or {}).nuid == nuid end, "the new upload")
    assert.equal("again", answer())
  end)

  it("refuses hostile archives whole, shows them, and goes on with the others", function()
    local outside = dir .. "/outside.lua"
    put_hello "1.0"
    local evil = put { name = "hello", version = "2.0", files = { ["hello.lua"] = wheels.flow("hello", "evil") },
      recorded = { { "../../../outside.lua", "return 'evil'" } } }
    local link = put { name = "a_link", version = "1", files = { ["a.lua"] = "return 1" },
      extra = { { "passwd", "/etc/passwd", tonumber("0120777", 8) } } }
    local bomb = put { name = "bomb", version = "1", files = { zeros = ("\0"):rep(40000000) } }
    local liar = put { name = "liar", version = "1", files = { ["a.lua"] = "" },
      info = { METADATA = "Name: honest\nVersion: 1\n" } }
    local none = put { name = "none", version = "1", raw = function() return "" end }
    start()
    local block = wait_installed "hello 1.0"
    assert.equal("1.0", answer())
    assert.equal("error", block.last_result)
    local failed = {}
    for _, failure in ipairs(block.failed_wheels) do
      assert.is_true(failure.refused)
      failed[failure.wheel_name] = failure.error
    end
    for name, text in pairs { [evil] = "../../../outside.lua: a path that leaves the archive", [link] = "symbolic link",
      [bomb] = "a bomb", [liar] = "METADATA says Name: honest", [none] = "no zip archive" } do
      assert.truthy((failed[name] or ""):find("wheel install failed (code=3): " .. name .. ": ", 1, true), failed[name])
      assert.truthy(failed[name]:find(text, 1, true), failed[name])
      assert.truthy(block.last_error:find(name, 1, true))
    end
    assert.equal(1, #entries(dir .. "/wheels/.sites"))
    assert.is_nil(uv.fs_stat(outside))
    local _, told = world.workers[1].stdout:gsub('"wheel sync failed"', "")
    assert.equal(5, told) -- one line for each, however many rounds there were
    assert(world.store.wheels:delete(evil))
    for _, name in ipairs { link, bomb, liar, none } do assert(world.store.wheels:delete(name)) end
    sync(function(found) return found.last_result == "ok" and #found.failed_wheels == 0 end, "no failure any more")
  end)

  it("does not install what does not have its digest, and tries again", function()
    local name = put_hello "1.0"
    local message = assert(world.store.wheels:info(name))
    local stored = assert(world.store.js:last_msg("OBJ_pyoco_wheels", metas.subject("pyoco_wheels", name)))
    local meta = assert(json.decode(stored.data))
    meta.digest = "SHA-256=" .. crypto.base64url_encode(("x"):rep(32), { padding = true })
    assert(world.store.js:publish(metas.subject("pyoco_wheels", name), assert(json.encode(meta)),
      { headers = { ["Nats-Rollup"] = "sub" } }))
    start()
    local block = sync(function(found) return (found.failed_wheels[1] or {}).attempts == 2 end, "a second attempt")
    assert.truthy(block.last_error:find("wheel fetch failed: " .. name, 1, true), block.last_error)
    assert.is_false(block.failed_wheels[1].refused)
    meta.digest = message.digest
    assert(world.store.js:publish(metas.subject("pyoco_wheels", name), assert(json.encode(meta)),
      { headers = { ["Nats-Rollup"] = "sub" } }))
    wait_installed "hello 1.0"
    assert.equal("1.0", answer())
  end)

  it("kills an install that takes too long, and tries it again", function()
    local worker = world:worker({ "--wheel-sync", "--wheel-sync-dir", dir .. "/wheels", "--wheel-install-timeout-sec",
      "1" }, { PYOCO_WHEEL_MAX_RATIO = "2000", PYOCO_WHEEL_SYNC_INTERVAL_SEC = INTERVAL })
    local name = put { name = "a_slow", version = "1", files = { zeros = ("\0"):rep(40000000) } }
    hold_up(worker, "a_slow")
    process.wait_for(function() return worker.stdout:find("wheel install timed out: " .. name, 1, true) end, nil,
      "the kill")
    -- a busy machine may need more than the limit for it each time
    sync(function(found)
      return installed(found) == "a-slow 1" or (found.failed_wheels[1] or { attempts = 0 }).attempts > 1
    end, "another try")
  end)

  it("can be stopped while its first round goes on; until that is over it shows as idle and takes no job", function()
    put { name = "a_slow", version = "1", files = { zeros = ("\0"):rep(40000000) } }
    local worker = process.host({ "worker.lua", "--nats-url", world.server.url, "--wheel-sync", "--task-path",
      world.flows, "--worker-id", "w1" }, { env = { PYOCO_WHEEL_MAX_RATIO = "2000" }, cwd = dir })
    hold_up(worker, "a_slow")
    world:submit { flow_name = "none" }
    assert.equal("IDLE", world.store.workers:get("w1").state)
    worker:kill()
    assert.equal(0, worker:wait())
    assert.is_nil(worker.stdout:find("worker ready", 1, true))
    assert.equal(1, world:queued())
    world.store.js:purge(world.cfg.work_stream)
  end)

  it("finishes what a restart of NATS has cut off", function()
    put_hello "1.0"
    start()
    wait_installed "hello 1.0"
    put { name = "big", version = "1", files = { noise = crypto.random(1048576):rep(12) } }
    process.wait_for(function() return entries(dir .. "/wheels/.staging")[1] end, 10000, "the fetch to begin")
    world.server:kill()
    world.server:restart()
    world:connect()
    wait_installed "big 1, hello 1.0"
    assert.equal("1.0", answer())
  end)

  --- Kills the worker while it installs a second version, which `begun` waits for; then all must be in order again.
  local function kill_while(files, begun)
    put_hello "1.0"
    local worker = start()
    wait_installed "hello 1.0"
    put { name = "hello", version = "2.0", files = files, recorded = {
      { "hello.lua", wheels.flow("hello", "2.0") } } }
    begun(worker)
    worker:kill "sigkill"
    worker:wait()
    assert(json.decode(tmp.read(dir .. "/wheels/.installed.json")))
    start()
    wait_installed "hello 2.0"
    assert.equal("2.0", answer())
    process.wait_for(function()
      return #entries(dir .. "/wheels/.staging") == 0 and #entries(dir .. "/wheels/.sites") == 1
    end, 10000, "nothing to be left over")
  end

  --- Files of random bytes.
  local function noise(count, size)
    local files = {}
    for i = 1, count do files["f" .. i] = crypto.random(size) end
    return files
  end

  it("is in order again after a kill -9 in the middle of a fetch", function()
    kill_while(noise(12, 1048576), function()
      process.wait_for(function() return entries(dir .. "/wheels/.staging")[1] end, 10000, "the fetch")
    end)
  end)

  it("is in order again after a kill -9 in the middle of an unpacking", function()
    kill_while(noise(400, 16), function(worker) hold_up(worker, "hello-2.0") end)
  end)

  it("installs again what is not whole after a restart", function()
    put_hello "1.0"
    start():stop()
    tmp.write(("%s/wheels/.sites/%s/hello.lua"):format(dir, entries(dir .. "/wheels/.sites")[1]), "") -- power was lost
    local worker = start()
    assert.truthy(worker.stdout:find("an installed wheel is damaged", 1, true))
    assert.equal("1.0", answer())
  end)

  it("keeps what it has, and what it knows, while the registry cannot be read", function()
    local name = put_hello "1.0"
    start()
    local before = wait_installed "hello 1.0"
    assert(world.store.js:stream_delete "OBJ_pyoco_wheels")
    local block = sync(function(found) return found.last_result == "error" end, "the error")
    assert.same({ 1, name, "hello 1.0" }, { block.selected_count, block.selected_wheels[1], installed(block) })
    assert.truthy(block.last_success_at >= before.last_success_at and block.last_attempt_at > block.last_success_at)
    assert.equal("1.0", answer())
    assert(world.store:ensure())
    wait_installed "" -- it is there, and empty
  end)

  it("are written, built and uploaded by our command lines, and then run", function()
    local gateway = gateways.start { nats_url = world.server.url }
    local function run(...)
      local got = process.run({ ... }, { cwd = dir, env = { PYOCO_SERVER_URL = gateway.url } })
      assert.equal(0, got.code, got.stdout .. got.stderr)
      return got.stdout
    end
    run("client.lua", "new", "wheel", "my-flows")
    run("admin.lua", "wheel", "build", "my-flows", "--version", "3.1")
    run("client.lua", "wheel-upload", "--wheel-file", "my_flows-3.1-lua54-none-any.whl")
    start()
    wait_installed "my-flows 3.1"
    local run_id = run("client.lua", "submit", "--flow-name", "my-flows", "--param", "count=4")
      :match('"run_id": "(.-)"')
    assert.equal(30, world:wait(run_id, "COMPLETED").task_records.sum.output)
    local listed = run("client.lua", "workers", "--output", "plugins")
    assert.truthy(listed:find("my%-flows +3.1 +my_flows%-3.1%-lua54%-none%-any.whl"), listed)
    gateway:stop()
  end)

  it("has a folder of its own when another worker uses the one that it was given", function()
    put_hello "1.0"
    start()
    wait_installed "hello 1.0"
    start { "--worker-id", "w/2", "--tags", "default" }
    sync(function(found) return installed(found) == "hello 1.0" end, "the second worker's wheels", "w/2")
    assert.same({ "w_2" }, entries(dir .. "/wheels/.workers"))
    assert.equal("1.0", answer())
  end)

  it("runs documents with Lua, C modules and data of wheels; its own folders come first", function()
    local source, so = dir .. "/fast.c", dir .. "/fast.so"
    tmp.write(source, [[#include <lua.h>
int luaopen_fast(lua_State *L);
int luaopen_fast(lua_State *L) { lua_pushinteger(L, 42); return 1; }]])
    local cc = process.spawn("cc", { "-shared", "-fPIC", "-I/usr/include/lua5.4", "-o", so, source })
    cc:wait()
    assert.equal(0, cc.code, cc.stderr)
    put { name = "fast", version = "1", tag = require("pyoco.wheel.fit").native_tag(), files = {
      ["fast.so"] = tmp.read(so), ["lib/data.txt"] = "data beside it",
      ["lib/quick.lua"] = [[
local _, path = ...
local file = io.open((path:gsub("[^/]*$", "data.txt")))
return { run = function() return require("fast") end, data = function() return file:read("a") end }]],
      ["both.lua"] = "return { run = function() return 'the wheel' end }" } }
    world:write("both.lua", "return { run = function() return 'the folder' end }")
    start()
    wait_installed "fast 1"
    local document = support.yaml("a >> b >> c", { a = "lib.quick:run", b = "both:run", c = "lib.quick:data" })
    local run = world:wait(world:submit { workflow_yaml = document }, function(run)
      return run.status ~= "PENDING" and run.status ~= "RUNNING"
    end)
    uv.fs_unlink(world.flows .. "/both.lua")
    assert.equal("COMPLETED", run.status, run.error)
    assert.same({ 42, "the folder", "data beside it" }, { run.task_records.a.output, run.task_records.b.output,
      run.task_records.c.output })
  end)

  it("needs no folder of flows", function()
    put_hello "1.0"
    local got = process.run({ "worker.lua", "--nats-url", world.server.url, "--wheel-sync", "--run-once",
      "--poll-timeout", "0.2" }, { cwd = dir })
    assert.equal(0, got.code, got.stderr)
    assert.truthy(got.stdout:find("wheel installed", 1, true), got.stdout)
    assert.is_nil(got.stdout:find("no such folder", 1, true), got.stdout)
    assert.truthy(uv.fs_stat(dir .. "/.pyoco/wheels/.installed.json"))
  end)

  it("keeps none when it is told not to, and says so", function()
    put_hello "1.0"
    world:worker({ "--no-wheel-sync" }, { PYOCO_WHEEL_SYNC_ENABLED = "1" })
    local found = assert(world.store.workers:get "w1").wheel_sync
    assert.same({ false, "disabled" }, { found.enabled, found.last_result })
    assert.is_nil(found.failed_wheels)
    assert.truthy(answer():find("^flow_not_found"))
  end)

  it("goes on when wheels cannot be had, and shows why", function()
    tmp.write(dir .. "/wheels", "a file, no folder")
    start()
    local block = sync(function(found) return found.last_result == "error" end, "the error")
    assert.truthy(block.last_error:find("wheel folder", 1, true), block.last_error)
    world:write("own.lua", wheels.flow("own", "mine"))
    assert.equal("mine", answer "own")
    uv.fs_unlink(world.flows .. "/own.lua")
  end)
end)
