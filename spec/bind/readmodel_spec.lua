--- host.readmodel alone, over a bucket of its own.
local json = require "host.json"
local nats = require "host.nats"
local process = require "spec.support.process"
local readmodel = require "host.readmodel"
local jetstream = require "pyoco.nats.jetstream"
local kv = require "pyoco.nats.kv"
local rpc = require "pyoco.nats.rpc"
local support = require "spec.support.nats"

describe("host.readmodel", function()
  local bus, conn, bucket, model, reader, number

  setup(function()
    bus = support.start()
    conn = assert(nats.connect { url = bus.url })
    nats.share(conn)
    number = 0
  end)

  teardown(function()
    nats.share(nil)
    conn:close()
    bus:stop()
  end)

  --- Waits until the model is complete: a question does not.
  local function complete()
    process.wait_for(function() return not model:stats().warming end, 10000, "the model to be complete")
  end

  before_each(function()
    number = number + 1
    bucket = assert(kv.new(jetstream.new(rpc.blocking(conn)), "runs" .. number))
    assert(bucket:ensure {})
    model = assert(readmodel.start { bucket = "runs" .. number })
    reader = assert(readmodel.reader())
    complete()
  end)

  after_each(function()
    reader:close()
    model:stop()
  end)

  local function put(run_id, fields)
    local text = type(fields) == "string" and fields or assert(json.encode(fields))
    assert.is_true(readmodel.wrote(assert(bucket:put(run_id, text))))
  end

  local function select(sql, ...) return assert(reader:select(2000, sql, ...)) end

  local function status_of(run_id)
    local rows = select("SELECT status FROM runs WHERE run_id=?1", run_id)
    return rows[1] and rows[1][1]
  end

  it("shows every write of this process to the next question", function()
    for i = 1, 200 do
      put("r", { status = "S" .. i })
      assert.equal("S" .. i, status_of "r")
    end
    readmodel.wrote(assert(bucket:delete "r"))
    assert.is_nil(status_of "r")
    put("r", { status = "AGAIN" })
    assert.equal("AGAIN", status_of "r")
    assert.same({ { "AGAIN", 1 } }, select "SELECT status, n FROM counters")
  end)

  it("is filled while runs change: of each the newest version stays, and it works on", function()
    local busy = assert(kv.new(jetstream.new(rpc.blocking(conn)), "busy"))
    assert(busy:ensure { history = 5 }) -- all versions come, as they do when runs change during the filling
    local entries = {}
    for i = 1, 2000 do entries[i] = { ("run-%04d"):format(i), '{"status":"FIRST"}', 0 } end
    local first = busy:update_many(entries)
    for i, entry in ipairs(entries) do
      entry[2], entry[3] = '{"status":"SECOND"}', assert(first[i].revision, first[i].message)
    end
    for _, result in ipairs(busy:update_many(entries)) do assert(result.revision, result.message) end
    reader:close()
    model:stop()
    model = assert(readmodel.start { bucket = "busy" })
    reader = assert(readmodel.reader())
    complete()
    assert.same({ { "SECOND", 2000 } }, select "SELECT status, count(*) FROM runs GROUP BY status")
    assert(busy:put("run-0001", '{"status":"THIRD"}'))
    process.wait_for(function() return status_of "run-0001" == "THIRD" end, nil, "the next change to show")
    assert.same({ { "SECOND", 1999 }, { "THIRD", 1 } }, select "SELECT status, n FROM counters ORDER BY 1")
  end)

  it("does not wait for ever for a write that never comes", function()
    put("r", { status = "S" })
    assert.equal("S", status_of "r")
    assert.is_true(readmodel.wrote(1000000))
    assert.same({ { "S" } }, reader:select(50, "SELECT status FROM runs"))
  end)

  it("takes the last of two members of one name, and values of odd types", function()
    put("r", '{"status":"A" , "status" : "B","flow_name":7,"updated_at":"x","error":{"a":[1,"}"]}}')
    local rows = select "SELECT status, flow, updated_at, error, summary FROM runs"
    assert.same({ "B", "", 0.0, "" }, table.move(rows[1], 1, 4, 1, {}))
    assert.same({ status = "B", flow_name = 7, updated_at = "x", error = { a = { 1, "}" } } }, json.decode(rows[1][5]))
  end)

  it("stands every cut of a snapshot, and broken escapes", function()
    local text = '{"run_id":"r","status":"\\u00e9\\ud83d\\ude00\\n","error":"\\ud83d \\u12","tags":["a\\"b"],'
      .. '"updated_at":1.5,"flow_name":"a\\u0000b"}'
    for i = 0, #text do put("r" .. i, text:sub(1, i)) end
    assert.same({ { 1 } }, select "SELECT count(*) FROM runs")
    assert.equal("é\u{1F600}\n", status_of("r" .. #text))
  end)

  it("is one for the process, and says when there is none", function()
    local second, message, code = readmodel.start { bucket = "runs1" }
    assert.is_nil(second)
    assert.equal("unavailable", code)
    assert.truthy(message:find "already")
    model:stop()
    local rows
    rows, message, code = reader:select(10, "SELECT 1")
    assert.same({ "warming", "unavailable" }, { message, code, rows })
    assert.is_nil(readmodel.reader())
    assert.is_false(readmodel.wrote(1))
  end)

  it("raises for SQL that is wrong, writes, and a wrong number of parameters", function()
    assert.has_error(function() reader:select(2000, "SELECT nothing") end)
    assert.has_error(function() reader:select(2000, "DELETE FROM runs") end)
    assert.has_error(function() reader:select(2000, "SELECT ?1") end)
    for i = 1, 100 do assert.same({ { i } }, reader:select(2000, "SELECT " .. i)) end
  end)

  it("writes in batches, and of a run that changes often the newest", function()
    for i = 1, 3000 do
      assert(conn:publish(("$KV.runs%d.r%d"):format(number, i % 10), ('{"status":"S%d"}'):format(i)))
    end
    process.wait_for(function() return status_of "r0" == "S3000" end)
    assert.truthy(model:stats().batches < 1500, model:stats().batches)
    assert.truthy(select("SELECT seq FROM meta")[1][1] < 2000)
    assert.same({ { 10 } }, select "SELECT sum(n) FROM counters")
  end)

  describe("keeps an index of texts", function()
    local function found(text)
      local ids = {}
      for i, row in ipairs(select("SELECT r.run_id FROM texts t CROSS JOIN runs r ON r.id=t.rowid"
        .. " WHERE texts MATCH ?1 ORDER BY 1", '"' .. text .. '"')) do ids[i] = row[1] end
      return table.concat(ids, " ")
    end

    --- Waits until all is indexed.
    local function indexed()
      process.wait_for(function()
        return select("SELECT (SELECT max(id) FROM runs)=indexed FROM meta")[1][1] == 1
      end, 10000, "the index of texts")
    end

    it("up to date with what changes and goes", function()
      for i = 1, 700 do put("run-" .. i, { flow_name = "flow" .. i % 7, worker_id = "host-" .. i % 10 }) end
      indexed()
      assert.equal("run-123", found "run-123")
      assert.equal("run-70 run-700", found "run-70")
      put("run-123", { flow_name = "flow1", worker_id = "other", error = "disk full" })
      assert.equal("run-123", found "disk full")
      assert.equal("run-123", found "OTHER")
      readmodel.wrote(assert(bucket:delete "run-123"))
      assert.equal("", found "disk full")
      assert.equal("", found "run-123")
      put("new-1", { flow_name = "fresh" })
      indexed()
      assert.equal("new-1", found "fresh")
      select "SELECT rowid FROM texts WHERE texts MATCH '\"flow\"'" -- nothing of it is broken
    end)
  end)
end)
