--- host.readmodel alone: what is applied, in whatever order it comes.
local json = require "host.json"
local process = require "spec.support.process"
local readmodel = require "host.readmodel"

describe("host.readmodel", function()
  local model, reader

  before_each(function()
    model = assert(readmodel.start())
    reader = assert(readmodel.reader())
  end)

  after_each(function()
    reader:close()
    model:stop()
  end)

  local function apply(run_id, fields, revision)
    local value = fields and assert(json.encode(fields))
    assert.is_true(readmodel.apply(run_id, value, revision))
  end

  local function status_of(run_id)
    local rows = assert(reader:select(2000, "SELECT status FROM runs WHERE run_id=?1", run_id))
    return rows[1] and rows[1][1]
  end

  it("shows every write to the next question", function()
    for i = 1, 200 do
      apply("r", { status = "S" .. i }, i)
      assert.equal("S" .. i, status_of "r")
    end
  end)

  it("keeps the newest of writes that come in another order", function()
    apply("a", { status = "NEW" }, 5)
    apply("a", { status = "OLD" }, 4)
    assert.equal("NEW", status_of "a")
    apply("b", { status = "NEW" }, 7)
    apply("b", nil, 8)
    apply("b", { status = "LATE" }, 6)
    assert.is_nil(status_of "b")
    apply("c", nil, 9)
    apply("c", { status = "LATE" }, 3)
    assert.is_nil(status_of "c")
    apply("c", { status = "AGAIN" }, 10)
    assert.equal("AGAIN", status_of "c")
    assert.same({ { "AGAIN", 1 }, { "NEW", 1 } },
      reader:select(2000, "SELECT status, n FROM counters ORDER BY status"))
  end)

  it("takes the last of two members of one name, and values of odd types", function()
    readmodel.apply("r", '{"status":"A" , "status" : "B","flow_name":7,"updated_at":"x","error":{"a":[1,"}"]}}', 1)
    local rows = reader:select(2000, "SELECT status, flow, updated_at, error, summary FROM runs")
    assert.same({ "B", "", 0.0, "" }, table.move(rows[1], 1, 4, 1, {}))
    assert.same({ status = "B", flow_name = 7, updated_at = "x", error = { a = { 1, "}" } } }, json.decode(rows[1][5]))
  end)

  it("stands every cut of a snapshot, and broken escapes", function()
    local text = '{"run_id":"r","status":"\\u00e9\\ud83d\\ude00\\n","error":"\\ud83d \\u12","tags":["a\\"b"],'
      .. '"updated_at":1.5}'
    for i = 0, #text do readmodel.apply("r" .. i, text:sub(1, i), i + 1) end
    assert.same({ { 1 } }, reader:select(2000, "SELECT count(*) FROM runs"))
    assert.equal("é\u{1F600}\n", status_of("r" .. #text))
  end)

  it("is one for the process, and says when there is none", function()
    local second, message, code = readmodel.start()
    assert.is_nil(second)
    assert.equal("unavailable", code)
    assert.truthy(message:find "already")
    model:stop()
    local rows
    rows, message, code = reader:select(10, "SELECT 1")
    assert.same({ "warming", "unavailable" }, { message, code, rows })
    assert.is_nil(readmodel.reader())
    assert.is_false(readmodel.apply("r", "{}", 1))
  end)

  it("raises for SQL that is wrong, writes, and a wrong number of parameters", function()
    assert.has_error(function() reader:select(2000, "SELECT nothing") end)
    assert.has_error(function() reader:select(2000, "DELETE FROM runs") end)
    assert.has_error(function() reader:select(2000, "SELECT ?1") end)
    for i = 1, 100 do assert.same({ { i } }, reader:select(2000, "SELECT " .. i)) end
  end)

  it("batches writes that nobody waits for", function()
    for i = 1, 5000 do apply("r" .. i, { status = "S" }, i) end
    assert.same({ { 5000 } }, reader:select(2000, "SELECT count(*) FROM runs"))
    process.wait_for(function() return model:stats().writes >= 5000 end)
    assert.truthy(model:stats().batches < 2500, model:stats().batches)
  end)
end)
