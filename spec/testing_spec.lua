--- pyoco.testing: tasks and flows in a spec, by a virtual clock.
local testing = require "pyoco.testing"
local pyoco = require "pyoco"
local tmp = require "spec.support.tmp"

local HOUR = 3600

describe("testing.task", function()
  it("runs a function, with params, results, inputs by name, and ctx", function()
    local result = testing.task(function(ctx, a, b, c)
      ctx:log("hello %s", ctx.params.a)
      return { a, b.n, c, ctx.results.b.n, ctx.run.run_id, ctx.env.HOME_OF, ctx.scratch.seen }
    end, { params = { a = 1 }, results = { b = { n = 2 } }, inputs = { c = "$literal" }, run = { run_id = "r7" },
      env = { HOME_OF = "us" }, scratch = { seen = true } })
    assert.is_true(result.ok, result.error)
    assert.same({ 1, 2, "$literal", 2, "r7", "us", true }, result.output)
    assert.equal("hello 1\n", result.log)
    assert.equal("SUCCEEDED", result.record.state)
    assert.equal(1, result.attempts)
  end)

  it("runs a task with what it declares; a spec's inputs come instead of declared ones", function()
    local task = pyoco.task("top", function(x, y) return { x, y } end,
      { inputs = { x = "$node.words.output.n", y = 5 } })
    assert.same({ 3, 5 }, testing.task(task, { results = { words = { n = 3 } } }).output)
    assert.same({ 4, 5 }, testing.task(task, { inputs = { x = 4 } }).output)
    assert.same({ 4, 6 }, testing.task(task, { inputs = { x = 4, y = 6 } }).output)
  end)

  it("says what went wrong", function()
    local result = testing.task(function() error("broken", 0) end)
    assert.is_false(result.ok)
    assert.equal("broken", result.error)
    assert.equal("FAILED", result.state)
    assert.is_nil(result.output)
    assert.truthy(result.record.traceback)
  end)

  it("waits an hour in no time", function()
    local result = testing.task(function(ctx)
      ctx:sleep(HOUR)
      ctx:sleep(0.5)
      return ctx.run.started_at
    end, { now = 1000 })
    assert.equal(HOUR + 0.5, result.clock)
    assert.equal(1000, result.output)
    assert.equal(1000, result.record.started_at)
    assert.equal(1000 + HOUR + 0.5, result.record.ended_at)
  end)

  it("gives a loop's item, by its alias too", function()
    local result = testing.task(function(ctx, file)
      return { file.path, ctx.item.path, ctx.loop.index, ctx.loop.count, #ctx.loops }
    end, { item = { path = "a.csv" }, as = "file", index = 2, count = 5 })
    assert.same({ "a.csv", "a.csv", 2, 5, 1 }, result.output)
    assert.same({ false, false }, testing.task(function(ctx, item) return { item, ctx.item } end,
      { item = false }).output)
  end)

  it("keeps what the task shares and saves", function()
    local result = testing.task(function(ctx)
      ctx:set("scratch.n", 1)
      ctx:set("params.m", 2)
      ctx:save_artifact("small", { x = 1 })
      ctx:save_artifact("big", { bytes = "bytes" })
    end)
    assert.is_true(result.ok, result.error)
    assert.equal(1, result.scratch.n)
    assert.equal(2, result.params.m)
    assert.same({ x = 1 }, result.artifacts.small)
    assert.equal("bytes", tmp.read(result.artifacts.big.path))
  end)

  it("refuses what is no task, and options that there are not", function()
    for _, case in ipairs {
      { { 5 }, "expected a task, its function, or a flow and the name of a task; got a number" },
      { { print, { parms = {} } }, "testing.task: unknown option 'parms'; did you mean params?" },
      { { print, 5 }, "testing.task: options must be a table, got a number" },
    } do
      local ok, message = pcall(testing.task, table.unpack(case[1]))
      assert.is_false(ok)
      assert.truthy(message:find(case[2], 1, true), message)
    end
  end)

  it("ends a task that waits for what never comes", function()
    local result = testing.task(function(ctx) while true do ctx:sleep(1) end end)
    assert.is_false(result.ok)
    assert.equal("CANCELLED", result.state)
    assert.truthy(result.error:find("have set the clock 100000 times", 1, true), result.error)
    result = testing.task(function() require("pyoco.engine").await(function() end) end)
    assert.truthy(result.error:find("wait for what cannot come", 1, true), result.error)
  end)
end)

describe("a virtual clock", function()
  it("wakes tasks in the order in which they would wake", function()
    local order = {}
    local function sleeper(seconds)
      return function(ctx)
        ctx:sleep(seconds)
        order[#order + 1] = seconds
      end
    end
    local a, b = pyoco.task("a", sleeper(3 * HOUR)), pyoco.task("b", sleeper(HOUR))
    local c = pyoco.task("c", sleeper(2 * HOUR))
    local result = testing.flow(pyoco.flow("f", { a, b, c }))
    assert.same({ HOUR, 2 * HOUR, 3 * HOUR }, order)
    assert.equal(3 * HOUR, result.clock)
  end)
end)

describe("testing.flow", function()
  local flow = pyoco.flow("etl",
    pyoco.task("fetch", function(ctx, url) return ctx:http({ url = url }).body end)
    >> pyoco.task("parse", function(fetch) return #fetch end)
    >> pyoco.task("report", function(ctx, parse) ctx:log("%d", parse) return parse * 2 end),
    { defaults = { url = "http://localhost/" } })

  it("runs a flow, with tasks of the spec's own", function()
    local result = testing.flow(flow, { fakes = { fetch = "12345" } })
    assert.is_true(result.ok, result.error)
    assert.same({ fetch = "12345", parse = 5, report = 10 }, result.outputs)
    assert.same({ "fetch", "parse", "report" }, result.order)
    assert.same({ fetch = "SUCCEEDED", parse = "SUCCEEDED", report = "SUCCEEDED" }, result.tasks)
    assert.equal("5\n", result.log)
    assert.equal("5\n", result.logs.report)
  end)

  it("wires a stand-in that is a function by its own parameters", function()
    local result = testing.flow(flow, { params = { x = "abc" }, fakes = { fetch = function(x) return x end,
      parse = function() error("no parser", 0) end } })
    assert.equal("FAILED", result.status)
    assert.equal("no parser", result.error)
    assert.equal("abc", result.outputs.fetch)
    assert.equal("PENDING", result.tasks.report)
  end)

  it("leaves the flow as it was", function()
    testing.flow(flow, { fakes = { fetch = "x", parse = 1, report = 2 } })
    assert.equal(6, testing.flow(flow, { fakes = { fetch = "abc" } }).outputs.report)
  end)

  it("refuses a stand-in for a task that there is not, and what is no flow", function()
    local ok, message = pcall(testing.flow, flow, { fakes = { fetsh = 1 } })
    assert.is_false(ok)
    assert.truthy(message:find("flow 'etl' has no task 'fetsh'; did you mean fetch?", 1, true), message)
    ok, message = pcall(testing.flow, pyoco.task("a", print))
    assert.is_false(ok)
    assert.truthy(message:find("expected a flow", 1, true), message)
    ok, message = pcall(testing.flow, { flow, flow })
    assert.is_false(ok)
    assert.truthy(message:find("several: choose one", 1, true), message)
  end)
end)

describe("retries and timeouts", function()
  it("of hours take no time, and always the same on the clock", function()
    local count = 0
    local task = pyoco.task("flaky", function()
      count = count + 1
      if count < 4 then error("no " .. count, 0) end
      return count
    end, { retries = 5, retry_delay_sec = HOUR, backoff = 2 })
    local result = testing.task(task)
    assert.is_true(result.ok, result.error)
    assert.equal(4, result.output)
    assert.equal(4, result.attempts)
    assert.equal(7 * HOUR, result.clock)
    assert.equal("no 1", result.record.attempts[1].error)
  end)

  it("end an attempt that waits for longer", function()
    local result = testing.task(function(ctx) ctx:sleep(2 * HOUR) end,
      { name = "slow", options = { timeout_sec = HOUR } })
    assert.equal("task 'slow' timed out after 3600 s (timeout_sec)", result.error)
    assert.equal(HOUR, result.clock)
  end)

  it("end an attempt that computes, after as long", function()
    local result = testing.task(function() while true do end end, { options = { timeout_sec = 0.05 } })
    assert.equal("task 'task' timed out after 0.05 s (timeout_sec)", result.error)
  end)

  it("are seen by ctx, whose methods are for the attempt that goes on", function()
    local kept, attempts = nil, {}
    local result = testing.task(function(ctx)
      attempts[#attempts + 1] = ctx.attempt
      kept = kept or ctx
      if ctx.attempt == 1 then error("again", 0) end
      kept:log("late")
    end, { options = { retries = 1, retry_delay_sec = HOUR } })
    assert.same({ 1, 2 }, attempts)
    assert.truthy(result.error:find("this ctx is task 'task''s, of an attempt that has ended", 1, true), result.error)
  end)
end)

describe("testing.load", function()
  local dir

  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  it("gives a flow, tasks, or a document's flow, as a worker would have them", function()
    tmp.write(dir .. "/helper.lua", "return { double = function(n) return n * 2 end }")
    tmp.write(dir .. "/some_tasks.lua", [[
      local helper = require "helper"
      return { twice = function(n) return helper.double(n) end }]])
    tmp.write(dir .. "/f.lua", [[
      local pyoco = require "pyoco"
      return pyoco.flow("f", pyoco.task("a", function(n) return n + 1 end))]])
    tmp.write(dir .. "/d.yaml",
      "version: 1\nflow: { graph: twice }\ntasks:\n  twice: { callable: 'some_tasks:twice' }\n")
    assert.equal(8, testing.task(testing.load(dir .. "/some_tasks.lua").twice, { params = { n = 4 } }).output)
    assert.equal(5, testing.flow(dir .. "/f.lua", { params = { n = 4 } }).outputs.a)
    assert.equal(8, testing.flow(dir .. "/d.yaml", { params = { n = 4 } }).outputs.twice)
    assert.equal(8, testing.task(testing.load(dir .. "/d.yaml"), "twice", { params = { n = 4 } }).output)
  end)

  it("says where a file is wrong", function()
    for text, expected in pairs {
      ["return nosuch"] = "/bad.lua:1: undeclared global 'nosuch'",
      ["return ("] = "/bad.lua:1: ",
    } do
      local ok, message = pcall(testing.load, tmp.write(dir .. "/bad.lua", text))
      assert.is_false(ok)
      assert.truthy(message:find(dir .. expected, 1, true), message)
    end
    local ok, message = pcall(testing.load, tmp.write(dir .. "/bad.yaml", "version: 1\nflow: { graph: 'a >>' }\n"))
    assert.is_false(ok)
    assert.truthy(message:find("bad%.yaml:2:%d+: "), message)
    ok, message = pcall(testing.load, dir .. "/none.lua")
    assert.is_false(ok)
    assert.truthy(message:find("none.lua", 1, true), message)
  end)
end)

describe("a stand-in for ctx:http", function()
  local URL = "http://api.example/items"
  local function get(ctx)
    local answer = ctx:http { url = "http://api.example/items", query = { page = 2 }, headers = { ["X-A"] = "b" } }
    return { answer.status, answer.body, answer.ok, answer.json }
  end

  it("is a function of the request, which is kept to look at", function()
    local result = testing.task(get, { http = function(request)
      return { status = 201, body = request.method .. " " .. request.url }
    end })
    assert.is_true(result.ok, result.error)
    assert.same({ 201, "GET " .. URL .. "?page=2", true }, result.output)
    assert.equal("GET", result.http[1].method)
    assert.equal(URL .. "?page=2", result.http[1].url)
    assert.equal("b", result.http[1].headers["X-A"])
  end)

  it("is a table of answers by URL: texts, statuses, JSON, responses, functions", function()
    local function output(answer, key) return testing.task(get, { http = { [key or URL] = answer } }).output end
    assert.same({ 200, "text", true }, output "text")
    assert.same({ 200, "text", true }, output("text", URL .. "?page=2"))
    assert.same({ 200, "text", true }, output("text", "GET " .. URL .. "?page=2"))
    assert.same({ 204, "", true }, output(204))
    assert.same({ 200, '{"n":1}', true, { n = 1 } }, output { n = 1 })
    assert.same({ 202, '[1]', true, { 1 } }, output { status = 202, json = { 1 } })
    assert.same({ 200, "x", true }, output(function() return "x" end))
  end)

  it("fails as the real one does, unless that is not checked", function()
    local result = testing.task(get, { http = { [URL] = 503 } })
    assert.truthy(result.error:find("testing_spec.lua:%d+: GET http://api.example/items: answered 503"), result.error)
    result = testing.task(function(ctx) return ctx:http({ url = URL, check = false }).status end,
      { http = { [URL] = 503 } })
    assert.equal(503, result.output)
  end)

  it("refuses what ctx:http refuses, and says what to give when there is no answer", function()
    local result = testing.task(function(ctx) ctx:http { uri = URL } end)
    assert.truthy(result.error:find("testing_spec.lua:%d+: ctx:http: unknown field 'uri'; did you mean url?"),
      result.error)
    result = testing.task(get)
    assert.truthy(result.error:find("this spec has no answer for GET " .. URL .. ": give http = function", 1, true),
      result.error)
  end)

  it("can fail twice, then answer: the retries take no time", function()
    local count = 0
    local fetch = pyoco.task("fetch", get, { retries = 3, retry_delay_sec = HOUR, backoff = 1 })
    local result = testing.task(fetch, { http = function()
      count = count + 1
      return count > 2 and "ok" or 500
    end })
    assert.equal("ok", result.output[2])
    assert.equal(3, result.attempts)
    assert.equal(2 * HOUR, result.clock)
  end)
end)

describe("a stand-in for ctx:exec", function()
  local function train(ctx)
    local result = ctx:exec { "python", "train.py" }
    return { result.ok, result.code, result.stdout, result.output }
  end

  it("is a function, a text, a code, a result, or a table of them", function()
    local out = 'epoch 1\n{"loss":0.5}\n'
    for _, given in ipairs { function(spec) return spec[2] == "train.py" and out end, { python = out },
      { ["python train.py"] = { stdout = out } }, function() return { stdout = out, code = 0 } end } do
      local result = testing.task(train, { exec = given })
      assert.is_true(result.ok, result.error)
      assert.same({ true, 0, out, { loss = 0.5 } }, result.output)
      assert.same({ { "python", "train.py" } }, result.exec)
    end
  end)

  it("fails as a command does, unless that is not checked", function()
    local result = testing.task(train, { exec = function() return 3 end })
    assert.equal("python: exit code 3", result.error)
    result = testing.task(train, { exec = { python = { signal = 9, stderr = "a\nout of memory\n" } } })
    assert.equal("python: killed by SIGKILL\na\nout of memory", result.error)
    result = testing.task(function(ctx) return ctx:exec({ "x", check = false }).code end, { exec = { x = 3 } })
    assert.equal(3, result.output)
  end)

  it("refuses what ctx:exec refuses", function()
    local result = testing.task(function(ctx) ctx:exec { "ls", timeout = 5 } end, { exec = { ls = "" } })
    assert.truthy(result.error:find("testing_spec.lua:%d+: ctx:exec: unknown field 'timeout'"), result.error)
  end)

  it("stands in for the program of a command task, too", function()
    local task = pyoco.task("train",
      { run = { "python", "train.py", "--lr", "$ctx.params.lr" }, env = { A = "$ctx.x" } })
    local result = testing.task(task, { params = { lr = 0.1, x = "y" }, exec = { python = '{"loss":0.5}' } })
    assert.is_true(result.ok, result.error)
    assert.same({ loss = 0.5 }, result.output)
    assert.same({ "python", "train.py", "--lr", "0.1" }, { table.unpack(result.exec[1]) })
    assert.equal("y", result.exec[1].env.A)
  end)

  it("can be the real one", function()
    assert.equal("hello\n", testing.task(function(ctx) return ctx:exec({ "echo", "hello" }).stdout end,
      { exec = true }).output)
  end)

  it("that has nothing for a command says what to give", function()
    local result = testing.task(train)
    assert.truthy(result.error:find("testing_spec.lua:%d+: ctx:exec: this spec has no answer for 'python train.py'"),
      result.error)
  end)

  it("can wait", function()
    local result = testing.task(train, { exec = function(_, ctx) ctx:sleep(HOUR) return "" end })
    assert.is_true(result.ok, result.error)
    assert.equal(HOUR, result.clock)
  end)
end)
