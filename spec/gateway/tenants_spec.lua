--- Tenants are kept apart on every route that there is: this walks the route table, so that a new route is either
--- isolated, or named below with the reason why it need not be.
local http = require "host.http"
local json = require "host.json"
local gateway_module = require "pyoco.gateway"
local make_key = require("spec.support.keys").make
local runs = require "spec.support.runs"
local web = require "spec.support.web"

--- No key needed.
local PUBLIC = { page = true, ready = true, version = true, ["schemas.flow"] = true, openapi = true, docs = true,
  redoc = true }

--- A key needed, and the same for all tenants.
local SHARED = {
  check = "stores nothing and reads nothing that is stored",
  metrics = "counts of all tenants together (CONTRACT 15)",
  ["workers.list"] = "workers serve all tenants (CONTRACT 12)", ["workers.hide"] = "as their list",
  ["wheels.list"] = "wheels are shared (CONTRACT 6)", ["wheels.upload"] = "wheels are shared",
  ["wheels.delete"] = "wheels are shared", ["wheels.download"] = "wheels are shared",
  ["wheels.history"] = "wheels are shared",
}

--- What a caller makes is the caller's: spec/service/auth_spec.lua and the services' specs look at the owner.
local CREATES = { ["runs.submit"] = true, ["runs.submit_yaml"] = true, ["runs.submit_batch"] = true,
  ["runs.submit_bundle"] = true, ["schedules.create"] = true }

local DOCUMENT = "version: 1\nflow:\n  graph: a\ntasks:\n  a:\n    callable: m:f\n"

--- A value that fits a row of a schema.
local function fitting(row)
  if row.choices then return row.choices[1] end
  local kind = row[2]
  if kind == "object" then return {} end
  if kind == "array" then return json.array {} end
  if kind == "integer" or kind == "number" then return row.ge or 1 end
  if kind == "boolean" then return true end
  return "x"
end

--- Body and headers that pass the route's checks of shape.
local function request_of(row)
  local opts = { method = row.method, headers = {} }
  if row.form then
    local fields, files = {}, {}
    for _, field in ipairs(row.form) do
      if field.required and field[2] == "file" then
        files[#files + 1] = { name = field[1], filename = "flow.yaml", data = DOCUMENT }
      elseif field.required then
        fields[#fields + 1] = { field[1], tostring(fitting(field)) }
      end
    end
    opts.body, opts.headers["content-type"] = http.multipart(fields, files)
  elseif row.body then
    local value = {}
    for _, field in ipairs(row.body) do
      if field.required then value[field[1]] = fitting(field) end
    end
    opts.body, opts.headers["content-type"] = next(value) and assert(json.encode(value)) or "{}",
      "application/json"
  elseif row.method == "POST" then
    opts.body, opts.headers["content-type"] = "{}", "application/json"
  end
  return opts
end

--- Its query: what must be there, and a short time for what would wait.
local function query_of(row)
  local parts = {}
  for _, field in ipairs(row.query or {}) do
    if field.required then parts[#parts + 1] = field[1] .. "=" .. tostring(fitting(field)) end
    if field[1] == "timeout_sec" then parts[#parts + 1] = "timeout_sec=1" end
  end
  return #parts > 0 and "?" .. table.concat(parts, "&") or ""
end

describe("tenants", function()
  local world, ours, theirs, run_id, schedule_id, secrets
  local rows = gateway_module.app():routes()

  --- What a path's parameter names: prefix of the path -> { name, id, message when it is somebody else's }.
  local owned = {}

  --- Lists of such things: name of the route -> what ours shows.
  local lists = {}

  local function owner_of(row)
    for prefix, thing in pairs(owned) do
      if row.path:sub(1, #prefix) == prefix then return thing end
    end
  end

  local function call(row, key)
    local opts, thing = request_of(row), owner_of(row)
    opts.headers["X-API-Key"] = key
    local path = row.path:gsub(":(%w+)", function(name) return thing and name == thing.name and thing.id or "x" end)
    return assert(world.gateway:fetch(path .. query_of(row), opts)), row.method .. " " .. path
  end

  setup(function()
    world = runs.start { env = { PYOCO_HTTP_AUTH_MODE = "api_key", PYOCO_AUTH_FAILURES_MAX = "1000" } }
    local our_id
    ours, our_id = make_key(world.store, { tenant_id = "acme" })
    theirs = make_key(world.store, { tenant_id = "other" })
    local answer = world.gateway:fetch("/runs/yaml", { method = "POST", body = DOCUMENT,
      headers = { ["X-API-Key"] = theirs, ["content-type"] = "text/yaml" } })
    assert.equal(422, answer.status)
    answer = world.gateway:fetch("/runs/yaml?flow_name=f", { method = "POST", body = DOCUMENT,
      headers = { ["X-API-Key"] = ours, ["content-type"] = "text/yaml" } })
    assert.equal(200, answer.status, answer.body)
    run_id = answer.json.run_id
    local body, kind = http.multipart({ { "flow_name", "f" }, { "interval_seconds", "3600" } },
      { { name = "workflow", filename = "flow.yaml", data = DOCUMENT } })
    answer = world.gateway:fetch("/schedules/yaml", { method = "POST", body = body,
      headers = { ["X-API-Key"] = ours, ["content-type"] = kind } })
    assert.equal(200, answer.status, answer.body)
    schedule_id = answer.json.schedule_id
    secrets = { run_id, schedule_id, "acme", our_id }
    local letter = assert(world.store.dlq:publish("default", { reason = "execution_error", error = "acme's own",
      run_id = "acme-run", flow_name = "f", tag = "default", tenant_id = "acme", api_key_id = our_id }))
    owned["/runs/:id"] = { name = "id", id = run_id, absent = "run not found" }
    owned["/schedules/:id"] = { name = "id", id = schedule_id, absent = "schedule not found" }
    owned["/dlq/:seq"] = { name = "seq", id = tostring(letter.seq), absent = "dead letter not found" }
    lists["runs.list"], lists["schedules.list"], lists["dlq.list"] = run_id, schedule_id, "acme-run"
  end)
  teardown(function() world:stop() end)

  it("need a key on every route that is not for all", function()
    local count = 0
    for _, row in ipairs(rows) do
      if row.public == true then
        assert.is_true(PUBLIC[row.name], row.name .. " is public: add it to PUBLIC with a thought")
      else
        local answer, what = call(row, nil)
        assert.same({ 401, "api key required" }, { answer.status, answer.json.detail }, what)
        assert.same({ 403, "invalid api key" }, { call(row, "x").status, call(row, "x").json.detail }, what)
        count = count + 1
      end
    end
    assert.is_true(count >= 12)
  end)

  it("do not see another's run, schedule or letter, nor change it", function()
    local before, schedule = world.store.runs:get_raw(run_id), world.store.schedules:get(schedule_id)
    for _, row in ipairs(rows) do
      local thing, is_plain = owner_of(row), not row.path:find(":", 1, true)
      if thing then
        local answer, what = call(row, theirs)
        assert.same({ 404, { detail = thing.absent } }, { answer.status, answer.json }, what)
      elseif not (PUBLIC[row.name] or SHARED[row.name] or CREATES[row.name]) then
        assert.is_true(is_plain and row.method == "GET", row.name .. ": whose is what it reads or changes? Add it to "
          .. "`owned`, CREATES or SHARED in " .. debug.getinfo(1, "S").short_src)
        local answer, what = call(row, theirs)
        assert.equal(200, answer.status, what)
        for _, secret in ipairs(secrets) do
          assert.falsy(answer.body:find(secret, 1, true), what .. " shows another tenant's " .. secret)
        end
      end
    end
    assert.equal(before, (world.store.runs:get_raw(run_id)))
    assert.same(schedule, (world.store.schedules:get(schedule_id)))
  end)

  it("see their own", function()
    local ordered = { table.unpack(rows) }
    table.sort(ordered, function(a, b) return a.method ~= "DELETE" and b.method == "DELETE" end)
    for _, row in ipairs(ordered) do
      local thing = owner_of(row)
      local answer, what = call(row, ours)
      if lists[row.name] then assert.truthy(answer.body:find(lists[row.name], 1, true), what) end
      if thing then assert.falsy(answer.json and answer.json.detail == thing.absent, what) end
    end
  end)

  it("do not see another's changes in the stream of events", function()
    local port = tonumber(world.gateway.url:match ":(%d+)$")
    local function listen(key)
      local stream = web.connect(port, ("GET /events?counts=1&timeout_sec=30 HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\n"
        .. "\r\n"):format(key))
      assert.is_true(stream:wait(function() return stream.text:find("event: counts", 1, true) end), stream.text)
      return stream
    end
    local our_stream, their_stream = listen(ours), listen(theirs)
    finally(function()
      our_stream:close()
      their_stream:close()
    end)
    assert.truthy(our_stream.text:find('"total":[1-9]'))
    assert.truthy(their_stream.text:find('"total":0', 1, true), their_stream.text)
    world:put("our-own-run", { tenant_id = "acme" })
    world:put("their-own-run", { tenant_id = "other" })
    assert.is_true(our_stream:wait(function() return our_stream.text:find("our-own-run", 1, true) end))
    assert.is_true(their_stream:wait(function() return their_stream.text:find("their-own-run", 1, true) end))
    assert.falsy(their_stream.text:find("our-own-run", 1, true) or their_stream.text:find("acme", 1, true))
    assert.falsy(our_stream.text:find("their-own-run", 1, true) or our_stream.text:find('"other"', 1, true))
  end)

  it("do not see runs of nobody, as those made before there were keys", function()
    world:put("11111111-2222-4333-8444-555555555555")
    local function get(key)
      return world.gateway:fetch("/runs/11111111-2222-4333-8444-555555555555", { headers = { ["X-API-Key"] = key } })
    end
    assert.equal(404, get(ours).status)
    local list = world.gateway:fetch("/runs", { headers = { ["X-API-Key"] = theirs } })
    assert.falsy(list.body:find("11111111", 1, true))
  end)
end)
