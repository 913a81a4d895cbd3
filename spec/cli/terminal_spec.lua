--- client.lua on a terminal: `script` (util-linux) gives the process one.
local host = require "host"
local http_server = require "spec.support.http_server"
local json = require "host.json"
local process = require "spec.support.process"

local TYPED = host.exe:sub(#host.home + 2) .. " client.lua" -- as a user types it in the checkout
local server

--- Starts client.lua with a terminal; what it shows comes in .stdout.
local function client(arguments, env)
  local command = ("stty cols 80 rows 24; exec '%s' client.lua --server %s %s"):format(host.exe, server.url, arguments)
  return process.spawn("script", { "-qefc", command, "/dev/null" }, { env = env })
end

local function serve(handler)
  server = http_server.start(handler)
  finally(function() server.stop() end)
end

local GRAPH = { nodes = { { name = "greet" }, { name = "shout" } }, edges = { { from = "greet", to = "shout" } } }
local STREAM = { headers = { ["content-type"] = "text/event-stream" }, stream = true, stays_open = true }

local function snapshot(status, more)
  local value = { run_id = "r1", flow_name = "hello", status = status, start_time = 1.0, end_time = json.null,
    tasks = { greet = "PENDING", shout = "PENDING" }, task_records = {}, error = json.null }
  for key, field in pairs(more or {}) do value[key] = field end
  return value
end

local function frame(snap)
  return ("event: snapshot\ndata: %s\n\n"):format(json.encode { run_id = "r1", snapshot = snap, ts = 1.5 })
end

local ENDED = snapshot("COMPLETED", { end_time = 1.5, tasks = { greet = "SUCCEEDED", shout = "SUCCEEDED" },
  task_records = { greet = { started_at = 1.0, ended_at = 1.25, output = "hi" },
    shout = { started_at = 1.25, ended_at = 1.5, output = "HI" } } })

--- What stands on the screen: the text after the last redraw, without escape sequences.
local function last_screen(text)
  return (text:gsub("^.*\27%[%d+A\r", ""):gsub("\27%[[%d;?]*%a", ""):gsub("\r", ""))
end

describe("client.lua watch on a terminal", function()
  it("draws the tree again as the run goes on, spins between, and ends with the outputs", function()
    local stream
    serve(function(request)
      if request.path:find("/graph", 1, true) then return { body = json.encode(GRAPH) } end
      stream = request
      return STREAM
    end)
    local child = client("watch r1")
    process.wait_for(function() return stream end)
    assert.equal("/runs/r1/watch?include=records&until=terminal&timeout_sec=600", stream.path)
    stream.send(frame(snapshot("RUNNING", { tasks = { greet = "RUNNING", shout = "PENDING" },
      task_records = { greet = { started_at = 1.0, log_tail = "thinking\n" } } })))
    process.wait_for(function() return child.stdout:find("thinking") end)
    local drawn = #child.stdout
    process.wait_for(function() return #child.stdout > drawn + 200 end, 10000, "the spinner")
    stream.send(frame(ENDED))
    assert.equal(0, (child:wait()))
    assert.equal("hello  COMPLETED  0.5s  run r1\n└─ ✔ greet     0.2s    \n   └─ ✔ shout  0.2s    \n"
      .. 'outputs\n  greet  "hi"\n  shout  "HI"\n', last_screen(child.stdout))
    assert.truthy(child.stdout:find("\27[?25l", 1, true) and child.stdout:find("\27[?25h", 1, true))
  end)

  it("asks for the graph once the run knows it", function()
    local graph_asked, streams = 0, {}
    serve(function(request)
      if request.path:find("/graph", 1, true) then
        graph_asked = graph_asked + 1
        if graph_asked == 1 then return { status = 404, body = '{"detail":"not known yet"}' } end
        return { body = json.encode(GRAPH) }
      end
      table.insert(streams, request)
      return STREAM
    end)
    local child = client("watch r1")
    process.wait_for(function() return streams[1] end)
    streams[1].send(frame(snapshot("RUNNING", { graph_sha256 = "abc" })))
    process.wait_for(function() return streams[2] end)
    streams[2].send(frame(ENDED))
    child:wait()
    assert.equal(2, graph_asked)
    assert.truthy(last_screen(child.stdout):find("   └─ ✔ shout", 1, true))
  end)

  it("tries again when the gateway goes away for a moment", function()
    local streams = {}
    serve(function(request)
      if request.path:find("/graph", 1, true) then return { body = json.encode(GRAPH) } end
      table.insert(streams, request)
      if #streams == 2 then return nil end
      return STREAM
    end)
    local child = client("watch r1")
    process.wait_for(function() return streams[1] end)
    streams[1].send(frame(snapshot("RUNNING")))
    process.wait_for(function() return child.stdout:find("RUNNING") end)
    streams[1].finish()
    process.wait_for(function() return child.stdout:find("no connection, trying again", 1, true) end)
    process.wait_for(function() return streams[3] end)
    streams[3].send(frame(ENDED))
    assert.equal(0, (child:wait()))
    assert.falsy(last_screen(child.stdout):find("trying again", 1, true))
  end)

  it("shows the cursor again on Ctrl-C, and exits with 130", function()
    local stream
    serve(function(request)
      if request.path:find("/graph", 1, true) then return { body = json.encode(GRAPH) } end
      stream = request
      return STREAM
    end)
    local child = client("watch r1")
    process.wait_for(function() return stream end)
    stream.send(frame(snapshot("RUNNING")))
    process.wait_for(function() return child.stdout:find("RUNNING") end)
    local file <close> = assert(io.open(("/proc/%d/task/%d/children"):format(child.pid, child.pid)))
    require("luv").kill(math.tointeger(file:read("n")), "sigint")
    assert.equal(130, (child:wait()))
    assert.truthy(child.stdout:find("\27%[%?25h"))
  end)

  it("prints events with --output, and no colours with NO_COLOR", function()
    serve(function()
      return { headers = STREAM.headers, stream = true, body = frame(ENDED) }
    end)
    local child = client("watch r1 --output status")
    child:wait()
    assert.equal("1.5\tsnapshot\tCOMPLETED\tr1\r\n", child.stdout)
    local plain = client("watch r1", { NO_COLOR = "1" })
    plain:wait()
    assert.falsy(plain.stdout:find("\27%[%d+m"))
  end)
end)

describe("client.lua on a terminal", function()
  it("says what was submitted and how to see it", function()
    serve(function() return { body = '{"run_id":"r1","status":"PENDING","bundle_hash":null}' } end)
    local child = client("submit --flow-name etl", { NO_COLOR = "1" })
    child:wait()
    assert.equal(("etl is PENDING as run r1\r\nsee it run:  %s watch r1\r\n"):format(TYPED), child.stdout)
    local plain = client "submit --output json"
    plain:wait()
    assert.equal('{"run_id": "r1", "status": "PENDING", "bundle_hash": null}\r\n', plain.stdout)
  end)

  it("says of a bundle that somebody must approve it, and who belongs to whom", function()
    serve(function(request)
      if request.path == "/runs/bundle" then
        return { body = '{"run_id":"r1","status":"PENDING_APPROVAL","bundle_hash":"ab","entry_workflow":"study"}' }
      elseif request.path == "/runs/r1/approve" then
        return { body = '{"run_id":"r1","status":"PENDING","approval_status":"approved"}' }
      end
      return { body = json.encode { run_id = "c1", parent = { run_id = "r1" },
        root = { run_id = "r1", status = "RUNNING", flow_name = "study",
          spawned_from_task = json.null },
        children = { { run_id = "g1", status = "PENDING",
        flow_name = "trial", spawned_from_task = "run_child" } } } }
    end)
    local function shown(arguments)
      local child = client(arguments, { NO_COLOR = "1" })
      child:wait()
      return (child.stdout:gsub("\r", ""))
    end
    assert.equal("study is PENDING_APPROVAL as run r1\n"
      .. "it spawns runs, so somebody must:  " .. TYPED .. " approve r1\n",
      shown("submit-bundle --bundle-file " .. host.home .. "/spec/cli/terminal_spec.lua"))
    assert.equal("r1: PENDING (approved)\n", shown "approve r1")
    local family = shown "relations c1"
    assert.truthy(family:find("root   r1      RUNNING  study      -", 1, true), family)
    assert.truthy(family:find("child  g1      PENDING  trial      run_child", 1, true), family)
  end)

  it("remarks on loops, retries, what was skipped, and failures that did not end the run", function()
    serve(function()
      return { body = json.encode { run_id = "r1", flow_name = "f", status = "COMPLETED", failed_tasks = { "lame" },
        tasks = { train = "SUCCEEDED", other = "PENDING", lame = "FAILED", plain = "SUCCEEDED" },
        task_records = { train = { duration_ms = 1500, iterations = 3, attempt = 2, output = { 1, 2, 3 } },
          other = { skipped = true }, lame = { error = "boom" }, plain = { output = 1 } } } }
    end)
    local tasks = client "tasks r1"
    tasks:wait()
    for _, line in ipairs { "task   state      duration  remarks                  output ",
      "lame   FAILED     -         isolated                 boom   ",
      "other  PENDING    -         skipped                  -      ",
      "plain  SUCCEEDED  -         -                        1      ",
      "train  SUCCEEDED  1.5s      3 iterations, attempt 2  [1,2,3]" } do
      assert.truthy(tasks.stdout:find(line, 1, true), line .. "\n" .. tasks.stdout)
    end
  end)

  it("shows a time that no calendar has as its number", function()
    serve(function()
      return { body = '[{"schedule_id":"s1","flow_name":"f","status":"ACTIVE","schedule_type":"interval","tag":"t",'
        .. '"interval_seconds":1e300,"next_run_at":1e300,"dispatch_count":0,"last_error":null}]' }
    end)
    local got = client "schedules"
    got:wait()
    assert.truthy(got.stdout:find("every 1e+300s  1e+300", 1, true), got.stdout)
  end)

  it("shows a run as a tree, its tasks and the workers as tables", function()
    serve(function(request)
      if request.path:find("/graph", 1, true) then return { body = json.encode(GRAPH) } end
      if request.path:find("/workers", 1, true) then
        return { body = '[{"worker_id":"w1","state":"IDLE","tags":["default"]}]' }
      end
      return { body = json.encode(ENDED) }
    end)
    local got = client "get r1"
    got:wait()
    assert.truthy(last_screen(got.stdout):find('   └─ ✔ shout  0.2s    \noutputs\n  greet  "hi"', 1, true), got.stdout)
    local tasks = client "tasks r1"
    tasks:wait()
    assert.truthy(tasks.stdout:find("greet  SUCCEEDED  -         hi", 1, true), tasks.stdout)
    assert.falsy(tasks.stdout:find("remarks", 1, true))
    local workers = client "workers"
    workers:wait()
    assert.truthy(workers.stdout:find("w1         IDLE   default", 1, true), workers.stdout)
  end)
end)
