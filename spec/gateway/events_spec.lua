--- GET /events of a real gateway on a real NATS.
local json = require "host.json"
local gateways = require "spec.support.gateway"
local process = require "spec.support.process"
local runs = require "spec.support.runs"
local sse = require "pyoco.client.sse"
local web = require "spec.support.web"

local Stream = {}
Stream.__index = Stream

--- Opens GET /events and reads its events.
local function open(gateway, query, headers, path)
  local self = setmetatable({ events = {}, fed = 0 }, Stream)
  self.feed = sse.reader(function(event) self.events[#self.events + 1] = event end)
  self.c = web.connect(tonumber(gateway.url:match ":(%d+)$"), ("GET %s%s HTTP/1.0\r\nHost: a\r\n%s\r\n"):format(
    path or "/events", query or "", headers or ""))
  return self
end

--- The events so far, heartbeats left out unless asked for.
function Stream:list(with_heartbeats)
  local from = self.fed > 0 and self.fed or select(2, self.c.text:find("\r\n\r\n", 1, true))
  if from and #self.c.text > from then
    self.feed(self.c.text:sub(from + 1))
    self.fed = #self.c.text
  end
  local list = {}
  for _, event in ipairs(self.events) do
    if event.event ~= "heartbeat" or with_heartbeats then
      list[#list + 1] = { event = event.event, id = event.id, data = json.decode(event.data) }
    end
  end
  return list
end

--- Waits until the n-th event is there, and gives it.
function Stream:event(n)
  local found
  self.c:wait(function()
    found = self:list()[n]
    return found
  end)
  return assert(found, "no event " .. n .. " in: " .. self.c.text)
end

function Stream:close() self.c:close() end

--- "event run_id status" of event n.
local function brief(stream, n)
  local event = stream:event(n)
  return ("%s %s %s"):format(event.event, event.data.run_id or event.data.reason, event.data.status or "")
end

describe("GET /events", function()
  local it_has

  setup(function()
    it_has = runs.start()
    it_has:settle {}
  end)
  teardown(function() it_has:stop() end)

  local number = 0

  --- A new run's id.
  local function new_id()
    number = number + 1
    return "run-" .. number
  end

  it("begins with reset, then tells what is new, changed and deleted, as lists have it", function()
    local s, id = open(it_has.gateway), new_id()
    local reset = s:event(1)
    assert.same({ "reset", "start" }, { reset.event, reset.data.reason })
    assert.truthy(s.c.text:find "^HTTP/1.1 200 OK\r\ncontent%-type: text/event%-stream; charset=utf%-8\r\n")
    local revision = it_has:put(id, { error = "日本\n" })
    local run = s:event(2)
    assert.equal("run", run.event)
    assert.equal(revision, tonumber(run.id:match "^(%d+)%-%x+$"))
    assert.same(it_has:list("?limit=1")[1], run.data) -- what a stream has been told, a list shows
    it_has:put(id, { status = "RUNNING" })
    assert.equal("run " .. id .. " RUNNING", brief(s, 3))
    assert(it_has.store.runs:delete(id))
    assert.equal("deleted " .. id .. " ", brief(s, 4))
    assert.same({}, it_has:ids())
    it_has:put(id, { status = "COMPLETED" })
    assert.equal("run " .. id .. " COMPLETED", brief(s, 5))
    s:close()
  end)

  it("tells who filters what leaves the filter, and nothing of others", function()
    local a, b, c = new_id(), new_id(), new_id()
    local by_status = open(it_has.gateway, "?status=RUNNING&flow=f1")
    local by_text = open(it_has.gateway, "?q=HOST-7")
    local by_all = open(it_has.gateway, "?tag=t&schedule_id=s&workflow_yaml_sha256=" .. ("ab"):rep(32))
    for _, s in ipairs { by_status, by_text, by_all } do s:event(1) end
    it_has:put(a, { flow_name = "f1" })
    it_has:put(b, { flow_name = "f2", status = "RUNNING", worker_id = "host-70" })
    it_has:put(a, { flow_name = "f1", status = "RUNNING", worker_id = "host-1" })
    assert.equal("run " .. a .. " RUNNING", brief(by_status, 2))
    assert.equal("run " .. b .. " RUNNING", brief(by_text, 2))
    it_has:put(a, { flow_name = "f1", status = "FAILED", worker_id = "host-1", error = "lost host-7" })
    assert.equal("left " .. a .. " ", brief(by_status, 3))
    assert.equal("run " .. a .. " FAILED", brief(by_text, 3))
    it_has:put(b, { flow_name = "f2", status = "RUNNING", worker_id = "host-1" })
    assert.equal("left " .. b .. " ", brief(by_text, 4))
    local fields = { flow_name = "f3", tag = "t", schedule_id = "s", workflow_yaml_sha256 = ("ab"):rep(32) }
    it_has:put(c, fields)
    assert.equal("run " .. c .. " PENDING", brief(by_all, 2))
    assert(it_has.store.runs:delete(b))
    assert(it_has.store.runs:delete(c))
    assert.equal("deleted " .. c .. " ", brief(by_all, 3))
    assert.equal(3, #by_status:list())
    for _, s in ipairs { by_status, by_text, by_all } do s:close() end
  end)

  it("goes on after Last-Event-ID, with the newest of each run that has changed since", function()
    local a, b = new_id(), new_id()
    local s = open(it_has.gateway)
    s:event(1)
    it_has:put(a, {})
    local id = s:event(2).id
    s:close()
    it_has:put(b, {})
    it_has:put(a, { status = "RUNNING" })
    it_has:put(a, { status = "COMPLETED" })
    it_has:settle({ a }, "?status=COMPLETED&limit=1&q=" .. a)
    for _, how in ipairs { { "", "Last-Event-ID: " .. id .. "\r\n" }, { "?last_event_id=" .. id },
      { "?last_event_id=" .. id:match "%d+" } } do
      s = open(it_has.gateway, how[1], how[2])
      assert.equal("run " .. b .. " PENDING", brief(s, 1))
      assert.equal("run " .. a .. " COMPLETED", brief(s, 2))
      s:close()
    end
  end)

  it("says so when it cannot go on from there", function()
    local s = open(it_has.gateway)
    local revision, life = s:event(1).id:match "^(%d+)%-(%x+)$"
    s:close()
    for id, reason in pairs { [revision .. "-1234abcd"] = "other_stream", ["99999999-" .. life] = "too_old",
      ["0"] = "start", nonsense = "start", ["-5"] = "too_old" } do
      s = open(it_has.gateway, "?last_event_id=" .. id)
      assert.equal("reset " .. reason .. " ", brief(s, 1), id)
      s:close()
    end
  end)

  it("counts runs by status when asked", function()
    local s = open(it_has.gateway, "?counts=true&status=NONE")
    local counts = s:event(2)
    assert.equal("counts", counts.event)
    local id = new_id()
    local before = counts.data.by_status.CANCELLED or 0
    it_has:put(id, { status = "CANCELLED" })
    local after = s:event(3).data
    assert.equal(before + 1, after.by_status.CANCELLED)
    assert.equal(counts.data.total + 1, after.total)
    assert(it_has.store.runs:delete(id))
    assert.equal(counts.data.total, s:event(4).data.total)
    s:close()
  end)

  it("sends a heartbeat after 2 quiet seconds, as the watch of a run does, and ends after timeout_sec", function()
    local id = new_id()
    it_has:put(id, {})
    it_has:settle({ id }, "?limit=1&q=" .. id)
    local s = open(it_has.gateway, "?timeout_sec=3&flow=none")
    local watch = open(it_has.gateway, "?timeout_sec=3", "", "/runs/" .. id .. "/watch")
    local last = s:event(1).id
    assert.is_true(s.c:wait())
    assert.is_true(watch.c:wait())
    local list, watched = s:list(true), watch:list(true)
    assert.same({ "heartbeat", last, 2 }, { list[2].event, list[2].id, #list })
    assert.same({ "snapshot", "heartbeat", 2 }, { watched[1].event, watched[2].event, #watched })
    assert.equal(id, watched[2].data.run_id)
    s:close()
    watch:close()
  end)

  it("refuses bad values", function()
    for query, kind in pairs { ["timeout_sec=0"] = "greater_than_equal", ["timeout_sec=3601"] = "less_than_equal",
      ["counts=x"] = "bool_parsing" } do
      local answer = it_has.gateway:fetch("/events?" .. query)
      assert.same({ 422, kind }, { answer.status, answer.json.detail[1].type }, query)
    end
  end)

  it("starts over when the bucket is made anew", function()
    local s, id = open(it_has.gateway), new_id()
    s:event(1)
    assert(it_has.store.js:stream_delete("KV_pyoco_runs"))
    assert(it_has.store:ensure())
    assert.equal("reset rebuilt ", brief(s, 2))
    it_has:put(id, {})
    assert.equal("run " .. id .. " PENDING", brief(s, 3))
    local old = s:event(1).id
    s:close()
    s = open(it_has.gateway, "?last_event_id=" .. old)
    assert.equal("reset other_stream ", brief(s, 1))
    s:close()
  end)

  it("keeps a list that follows it the same as a list that is read, whatever the filter", function()
    local seed = os.time()
    math.randomseed(seed)
    local function any(list) return list[math.random(#list)] end -- of states that the gateway's duties leave alone
    local filters = { "?", "?status=RUNNING", "?status=S1&flow=f2", "?q=host-1",
      "?q=host-1&status=RUNNING&tag=t1" }
    local streams, known = {}, {}
    for i, filter in ipairs(filters) do streams[i], known[i] = open(it_has.gateway, filter), {} end
    for _, s in ipairs(streams) do s:event(1) end
    for i, filter in ipairs(filters) do
      for _, run in ipairs(it_has:list(filter .. "&limit=200")) do known[i][run.run_id] = run end
    end
    for n = 1, 600 do
      local run_id = "mixed-" .. math.random(25)
      if math.random(10) == 1 then
        it_has.store.runs:delete(run_id)
      else
        local k = tonumber(run_id:match "%d+")
        local run = runs.snapshot(run_id, { updated_at = n + 0.5, flow_name = "f" .. k % 3, tag = "t" .. k % 2,
          status = any { "RUNNING", "RUNNING", "PENDING_APPROVAL", "S1", "S2" },
          worker_id = any { "host-1", "host-2" }, error = any { json.null, "lost host-1" } })
        it_has.store.conn:publish("$KV.pyoco_runs." .. run_id, (json.encode(run)))
      end
    end
    local last = { flow_name = "f2", tag = "t1", worker_id = "host-1", updated_at = 1000 }
    for _, status in ipairs { "RUNNING", "S1" } do
      last.status = status
      it_has:put("last-" .. status, last)
    end
    for i, filter in ipairs(filters) do
      local wanted = filter:find "S1" and "last-S1" or "last-RUNNING"
      assert.is_true(streams[i].c:wait(function()
        local list = streams[i]:list()
        return list[#list].data.run_id == wanted or #list > 1 and list[#list - 1].data.run_id == wanted
      end))
    end
    for i, filter in ipairs(filters) do
      for _, event in ipairs(streams[i]:list()) do
        if event.event == "run" then known[i][event.data.run_id] = event.data end
        if event.event == "left" or event.event == "deleted" then known[i][event.data.run_id] = nil end
      end
      local read = {}
      for _, run in ipairs(it_has:list(filter .. "&limit=200")) do read[run.run_id] = run end
      known[i]["last-S1"] = read["last-S1"] -- it may come after the one that was waited for
      local different = {}
      for run_id, run in pairs(read) do
        local seen = known[i][run_id]
        if not seen or json.encode(seen, { sort = true }) ~= json.encode(run, { sort = true }) then
          different[#different + 1] = run_id
        end
        known[i][run_id] = nil
      end
      for run_id in pairs(known[i]) do different[#different + 1] = "not " .. run_id end
      assert.same({}, different, filter .. ", seed " .. seed)
      streams[i]:close()
    end
  end)

  it("tells a client that is far behind to start over, in bounded memory", function()
    local s = open(it_has.gateway)
    local id = s:event(1).id
    s:close()
    local text = json.encode(runs.snapshot("x", { error = ("e"):rep(2000) }))
    for i = 1, 2500 do assert(it_has.store.conn:publish("$KV.pyoco_runs.many-" .. i, text)) end
    process.wait_for(function() return #it_has:ids "?limit=1&q=many-2500" == 1 end, 10000, "the runs")
    s = open(it_has.gateway, "?last_event_id=" .. id)
    assert.equal("reset too_old ", brief(s, 1))
    s:close()
  end)
end)

describe("GET /events while the read model is warming", function()
  local it_has

  before_each(function() it_has = runs.start { bare = true } end)
  after_each(function() it_has:stop() end)

  it("is 503", function()
    it_has.server:halt()
    it_has.gateway = gateways.start { nats_url = it_has.server.url }
    local answer = it_has.gateway:fetch "/events"
    assert.same({ 503, "1", { detail = "warming" } }, { answer.status, answer.headers["retry-after"], answer.json })
  end)
end)
