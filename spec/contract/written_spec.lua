--- What we write beside what the reference has written: snapshots, jobs, dead letters, records, answers, field by
--- field. For each recording: our like of it has all its fields, in its order where the contract fixes one, with the
--- same types and, where they do not depend on time and place, the same values. More fields of ours are welcome.
local http = require "host.http"
local json = require "host.json"
local process = require "spec.support.process"
local fixture = require "spec.support.fixture"
local fleets = require "spec.support.fleet"
local shape = require "spec.support.shape"

--- Fields whose values are those of a moment or a machine: only their types are compared.
local OF_THE_MOMENT = {}
for name in ([[run_id root_run_id parent_run_id heartbeat_at updated_at start_time end_time submitted_at timestamp
    approval_requested_at approved_at rejected_at cancel_requested_at started_at ended_at duration_ms instance_id
    ts last_seen_at last_heartbeat_at last_run_started_at last_run_finished_at stopped_at created_at schedule_id
    next_run_at next_cursor nuid mtime event_id occurred_at user_agent host last_run_id key_id api_key salt_b64
    hash_b64]]):gmatch("%S+") do
  OF_THE_MOMENT[name] = true
end

local compare

local function compare_table(path, theirs, ours, skip, faults)
  if json.is_array(theirs) and #theirs ~= #ours then
    faults[#faults + 1] = ("%s: %d items, theirs has %d"):format(path, #ours, #theirs)
    return
  end
  for key, value in pairs(theirs) do
    if not skip[key] then compare(path .. "." .. key, key, value, ours[key], skip, faults) end
  end
end

--- Adds what differs to faults.
function compare(path, key, theirs, ours, skip, faults)
  if ours == nil then
    faults[#faults + 1] = path .. ": missing"
  elseif shape.type(theirs) ~= shape.type(ours) then
    faults[#faults + 1] = ("%s: %s (%s), theirs is %s"):format(path, shape.type(ours), json.encode(ours),
      shape.type(theirs))
  elseif type(theirs) == "table" then
    compare_table(path, theirs, ours, skip, faults)
  elseif not OF_THE_MOMENT[key] and theirs ~= ours then
    faults[#faults + 1] = ("%s: %s, theirs is %s"):format(path, json.encode(ours), json.encode(theirs))
  end
end

describe("written like the reference:", function()
  local fleet, got = nil, {}

  local YAML = fixture "job-yaml".body.workflow_yaml
  local BUNDLE = fixture "job-bundle-root".body.workflow_bundle

  local function stored(run_id) return fleet:raw(run_id) end
  local function last_job(tag) return fleet:last("PYOCO_WORK", "pyoco.work." .. tag) end

  --- The dead letter of a run, or the nth of the invalid jobs.
  local function letter(fits)
    return process.wait_for(function()
      local info = assert(fleet.store.js:stream_info "PYOCO_DLQ")
      for seq = math.max(1, info.state.first_seq), info.state.last_seq do
        local message = fleet.store.js:get_msg("PYOCO_DLQ", seq)
        if message and fits(json.decode(message.data)) then return message end
      end
    end, 10000, "a dead letter")
  end

  local function submit_runs()
    local job = fixture "job-runs".body
    got.runs = assert(fleet.client:submit_run(job.flow_name, job.params, { tag = "nobody", tags = job.tags })).run_id
    got["job-runs"] = last_job "nobody"
    got["snapshot-initial-runs"] = stored(got.runs)
    got.yaml = assert(fleet.client:submit_run_yaml(YAML, { flow_name = "train", tag = "nobody" })).run_id
    got["job-yaml"] = last_job "nobody"
    got["snapshot-initial-yaml"] = stored(got.yaml)
    local watched = assert(fleet.client:watch_run(got.runs, { timeout_sec = 5 }))
    got.watch = watched:next()
    process.wait_for(function() -- heartbeats come every two seconds: they have been waited for meanwhile
      got.heartbeat = watched:next()
      return got.heartbeat.event == "heartbeat"
    end)
    watched:close()
    got["http-cancel"] = json.encode(assert(fleet.client:cancel_run(got.yaml)))
  end

  local function submit_bundles()
    local answer = assert(fleet.client:submit_run_bundle(BUNDLE, { tag = "nobody" }))
    got["http-bundle-submit"] = json.encode(answer)
    got["snapshot-initial-bundle_pending"] = stored(answer.run_id)
    assert(fleet.client:approve_run(answer.run_id, { comment = fixture "snapshot-approved-bundle".approval_comment }))
    got["snapshot-approved-bundle"] = stored(answer.run_id)
    got["job-bundle-root"] = last_job "nobody"
    answer = assert(fleet.client:submit_run_bundle(BUNDLE, { tag = "hello" }))
    got["snapshot-pending-approval"] = stored(answer.run_id)
    assert(fleet.client:reject_run(answer.run_id, { reason = "no" }))
    got["snapshot-rejected"] = stored(answer.run_id)
    answer = assert(fleet.client:submit_run_bundle(BUNDLE, { tag = "hello" }))
    assert(fleet.client:approve_run(answer.run_id))
    local parent = fleet:ended(answer.run_id)
    got["snapshot-completed-parent"] = stored(answer.run_id)
    got["snapshot-completed-child"] = stored(parent.child_run_ids[1])
    got.relations = { (assert(fleet.store.relations.kv:get(answer.run_id))),
      (assert(fleet.store.relations.kv:get(parent.child_run_ids[1]))) }
  end

  local function run_some()
    local run_id = assert(fleet.client:submit_run_yaml(YAML, { flow_name = "train", tag = "hello" })).run_id
    fleet:ended(run_id)
    got["snapshot-completed-yaml"] = stored(run_id)
    got["http-get-run"] = assert(fleet.gateway:fetch("/runs/" .. run_id)).body
    got["http-get-tasks"] = assert(fleet.gateway:fetch(("/runs/%s/tasks"):format(run_id))).body
    run_id = assert(fleet.client:submit_run_yaml(YAML:gsub("add_one >> to_text", "to_text >> add_one"),
      { flow_name = "bad", tag = "hello" })).run_id
    fleet:ended(run_id)
    got["snapshot-failed-yaml"] = stored(run_id)
    got["dlq-1-execution_error"] = letter(function(body) return body.run_id == run_id end)
    run_id = assert(fleet.client:submit_run("nosuch", {}, { tag = "hello" })).run_id
    fleet:ended(run_id)
    got["snapshot-flow-not-found"] = stored(run_id)
    got["dlq-2-flow_not_found"] = letter(function(body) return body.run_id == run_id end)
    for name, payload in pairs { ["dlq-3-invalid_job"] = '{"run_id":"r1"}', ["dlq-4-invalid_job"] = "not json" } do
      assert(fleet.store.js:publish("pyoco.work.hello", payload))
      got[name] = letter(function(body) return body.payload == payload end)
    end
    got["worker-record"] = process.wait_for(function()
      local bytes = fleet.store.workers.kv:get "w1"
      return bytes and bytes:find('"last_run_status":"FAILED"', 1, true) and bytes:find('"state":"IDLE"', 1, true)
        and bytes
    end)
    got["http-workers"] = assert(fleet.gateway:fetch "/workers").body
  end

  local function make_schedules()
    local made = assert(fleet.client:create_schedule_yaml(YAML, { flow_name = "a", tag = "nobody",
      interval_seconds = 3600, start_at = "2020-01-01T00:00:00Z" }))
    got["http-schedule-interval"] = json.encode(made)
    got["schedule-interval"] = assert(fleet.store.schedules.kv:get(made.schedule_id))
    made = assert(fleet.client:create_schedule_yaml(YAML, { flow_name = "a", tag = "nobody",
      run_at = "2099-01-01T00:00:00Z" }))
    got["schedule-once"] = assert(fleet.store.schedules.kv:get(made.schedule_id))
  end

  local function store_wheel()
    local name = fixture "object-meta".body.name
    got["http-wheel-upload"] = json.encode(assert(fleet.client:upload_wheel { filename = name,
      data = ("x"):rep(1151), tags = { "hello", "cpu" } }))
    got["http-wheels"] = assert(fleet.gateway:fetch "/wheels").body
    got["http-wheel-history"] = assert(fleet.gateway:fetch "/wheels/history").body
    got["object-meta"] = fleet:last("OBJ_pyoco_wheels", fixture "object-meta".subject)
    local entry = assert(fleet.store.wheel_history.kv:entries())[1]
    got["wheel-history"] = '{"key":"' .. entry.key .. '","body":' .. entry.value .. "}"
  end

  local function make_key()
    local out = process.run { "admin.lua", "--nats-url", fleet.world.server.url, "api-key", "create", "--tenant",
      "demo" }
    assert(out.code == 0, out.stderr)
    local created = json.decode(out.stdout)
    got["api-key"] = '{"created":' .. out.stdout .. ',"record":'
      .. assert(fleet.store.keys.kv:get("api_keys." .. created.key_id)) .. "}"
  end

  setup(function()
    fleet = fleets.start { worker_env = { PYOCO_WORKER_HEARTBEAT_INTERVAL_SEC = "0.2" } }
    submit_runs()
    submit_bundles()
    run_some()
    make_schedules()
    store_wheel()
    make_key()
  end)
  teardown(function() fleet:stop() end)
  after_each(http.close)

  --- Recording -> { member = the part of it that is the record, differs = fields that may, unordered = the contract
  --- fixes no order, value = only this field of it }.
  local ROWS = {
    ["job-runs"] = { member = "body" }, ["job-yaml"] = { member = "body" }, ["job-bundle-root"] = { member = "body" },
    ["snapshot-initial-runs"] = {}, ["snapshot-initial-yaml"] = {}, ["snapshot-initial-bundle_pending"] = {},
    ["snapshot-pending-approval"] = {}, ["snapshot-approved-bundle"] = {}, ["snapshot-rejected"] = {},
    ["snapshot-completed-yaml"] = {}, ["snapshot-completed-parent"] = { differs = { "child_run_ids" } },
    ["snapshot-completed-child"] = {},
    ["snapshot-failed-yaml"] = { differs = { "error", "traceback", "workflow_yaml_sha256" } },
    ["snapshot-flow-not-found"] = { differs = { "error" } },
    ["dlq-1-execution_error"] = { member = "body", differs = { "error" } },
    ["dlq-2-flow_not_found"] = { member = "body", differs = { "error" } },
    ["dlq-3-invalid_job"] = { member = "body" }, ["dlq-4-invalid_job"] = { member = "body" },
    ["worker-record"] = { differs = { "wheel_sync" } },
    ["schedule-interval"] = {}, ["schedule-once"] = {},
    ["object-meta"] = { member = "body", unordered = true, differs = { "digest", "sha256" } },
    ["wheel-history"] = { member = "body", differs = { "sha256_hex" } },
    ["api-key"] = { member = "record" },
    ["http-get-run"] = { unordered = true }, ["http-get-tasks"] = { unordered = true },
    ["http-cancel"] = { unordered = true, differs = { "end_time" } }, -- ours has ended (Part A)
    ["http-bundle-submit"] = { unordered = true },
    ["http-schedule-interval"] = { unordered = true },
    ["http-wheel-upload"] = { unordered = true, differs = { "digest", "sha256_b64", "sha256_hex" } },
    ["http-workers"] = { unordered = true, differs = { "wheel_sync" } },
    ["http-wheels"] = { unordered = true, differs = { "digest", "sha256_b64" } },
    ["http-wheel-history"] = { unordered = true, differs = { "sha256_hex" } },
  }

  --- Our like of a recording: its text, and the record's own.
  local function ours_of(name, row)
    local mine = got[name]
    if type(mine) == "table" then return mine.data end
    return row.member and mine, row.member
  end

  for name, row in pairs(ROWS) do
    it(name, function()
      local theirs, text = fixture(name), fleets.text(name)
      local mine, member = ours_of(name, row)
      mine = mine or got[name]
      local value = assert(json.decode(mine))
      if member then value = value[member] end
      if row.member then theirs = theirs[row.member] end
      local skip, faults = {}, {}
      for _, field in ipairs(row.differs or {}) do skip[field] = true end
      compare(name, name, theirs, value, skip, faults)
      assert(#faults == 0, "\n" .. table.concat(faults, "\n"))
      if row.unordered then return end
      local known = shape.keys(text, row.member)
      assert.same(known, shape.among(shape.keys(mine, member), known))
    end)
  end

  it("relations", function()
    local hash = fixture "job-bundle-root".body.bundle_hash
    for i, record in ipairs(fixture "relations") do
      local faults = {}
      compare("relation " .. i, "", record, assert(json.decode(got.relations[i])), {}, faults)
      assert(#faults == 0, "\n" .. table.concat(faults, "\n"))
      assert.equal(hash, json.decode(got.relations[i]).bundle_hash)
    end
  end)

  it("headers of what is published", function()
    for _, name in ipairs { "job-runs", "job-yaml", "dlq-1-execution_error", "dlq-3-invalid_job", "object-meta" } do
      for header, value in pairs(fixture(name).headers) do
        assert.equal(value, got[name].headers[header], name .. ": " .. header)
      end
    end
    assert.equal(fixture "object-meta".subject, got["object-meta"].subject)
    assert.equal("pyoco.dlq.hello", got["dlq-1-execution_error"].subject)
    assert.equal("pyoco.dlq.hello", got["dlq-3-invalid_job"].subject)
  end)

  it("the key of an event in the history of wheels: milliseconds, then its id", function()
    local key = json.decode(got["wheel-history"]).key
    assert.truthy(key:find("^%d%d%d%d%d%d%d%d%d%d%d%d%d_%x+$") and #key == #fixture "wheel-history".key, key)
  end)

  it("lists: their items' fields, and the cursor of the next page", function()
    local items = fleet:see("/runs?limit=200", function(list) return #list >= 7 end)
    for _, item in ipairs(items) do
      for key in pairs(item) do
        if key ~= "worker_id" and key ~= "schedule_id" then assert.is_not_nil(fixture "http-list"[1][key], key) end
      end
    end
    local page = assert(fleet.client:list_runs_vnext { updated_after = 0, limit = 1 })
    assert.same({ "array", "string" }, { shape.type(page.items), shape.type(page.next_cursor) })
    local crypto = require "host.crypto"
    local theirs = json.decode(crypto.base64url_decode(fixture "http-list-envelope".next_cursor))
    local mine = json.decode(crypto.base64url_decode(page.next_cursor))
    for key, value in pairs(theirs) do assert.equal(shape.type(value), shape.type(mine[key]), key) end
    local full = assert(fleet.client:list_runs { tag = "nobody", flow = "train", full = true })[1]
    for key, value in pairs(fixture "http-list-full"[1]) do
      if key ~= "end_time" then assert.equal(shape.type(value), shape.type(full[key]), key) end -- ours has ended
    end
  end)

  it("events of a watch: names, data, headers", function()
    local lines = {}
    for line in fleets.text("sse-watch.txt"):gmatch("[^\n]+") do lines[#lines + 1] = line end
    assert.same({ "event: snapshot", "event: heartbeat" }, { lines[1], lines[3] })
    for i, mine in ipairs { got.watch, got.heartbeat } do
      assert.equal(lines[2 * i - 1], "event: " .. mine.event)
      local theirs = json.decode(lines[2 * i]:match("^data: (.*)$"))
      local faults = {}
      theirs.snapshot = theirs.snapshot and fixture "snapshot-initial-runs" or nil
      compare(mine.event, "", theirs, mine.data, { task_records = true, flow_name = true }, faults)
      assert(#faults == 0, "\n" .. table.concat(faults, "\n"))
      assert.is_nil((mine.data.snapshot or {}).task_records)
    end
    local seen
    http.request { url = fleet.gateway.url .. "/runs/" .. got.runs .. "/watch?timeout_sec=5",
      on_headers = function(_, headers) seen = headers end, on_data = function() return false end }
    for _, name in ipairs { "cache-control", "x-accel-buffering", "content-type", "transfer-encoding" } do
      assert.equal(fixture "sse-headers"[name], seen[name], name)
    end
  end)

  it("metrics: families of the contract, each with help and type, gauges", function()
    local answer = assert(fleet.gateway:fetch "/metrics")
    assert.equal("text/plain; version=0.0.4; charset=utf-8", answer.headers["content-type"])
    for name in fleets.text("http-metrics.txt"):gmatch("# TYPE (%S+) gauge") do
      assert.truthy(answer.body:find("# TYPE " .. name .. " gauge", 1, true), name)
      assert.truthy(answer.body:find("# HELP " .. name .. " ", 1, true), name)
      assert.truthy(answer.body:find("\n" .. name .. "[ {]"), name)
    end
  end)
end)

describe("made on NATS like the reference:", function()
  --- What we do differently, and the contract says so (Part A): resource -> field -> ours.
  local OURS = {
    KV_pyoco_workers = { max_age = 0, duplicate_window = 120000000000 }, -- a record is removed, it does not vanish
    OBJ_pyoco_wheels = { max_bytes = -1 }, -- no limit unless one is configured
  }

  it("streams, buckets and consumers have its configuration", function()
    local fleet = fleets.start { no_worker = true }
    finally(function()
      fleet:stop()
      http.close()
    end)
    fleet.world:worker { "--tags", "hello" }
    for name, theirs in pairs(fixture "resources") do
      local consumer = name:match("^consumer (.*)$")
      local info = consumer and assert(fleet.store.js:consumer_info("PYOCO_WORK", consumer))
        or assert(fleet.store.js:stream_info(name), name)
      for key, value in pairs(theirs) do
        local wanted = (OURS[name] or {})[key]
        if wanted == nil then wanted = value end
        local mine = info.config[key]
        if mine == nil then mine = type(wanted) == "boolean" and false or 0 end -- left out when it is the default
        if key ~= "allow_direct" then assert.same(wanted, mine, name .. ": " .. key) end -- a way to read, see below
      end
    end
  end)
end)
