--- The flows that come with the program: each loads, and its tasks can be called as the ordinary functions they are.
local host = require "host"
local uv = require "luv"
local bundle = require "pyoco.flow.bundle"
local document = require "pyoco.flow.document"
local load = require "pyoco.flow.load"

local root = host.home .. "/flows"

--- A context that waits for nothing.
local ctx = { log = function() end, sleep = function() end }

describe("flows/", function()
  it("holds documents whose callables are all there, with no warning", function()
    local scan = assert(uv.fs_scandir(root))
    local count = 0
    while true do
      local name = uv.fs_scandir_next(scan)
      if not name then break end
      if name:find("%.yaml$") then
        local file <close> = assert(io.open(root .. "/" .. name))
        local text = file:read("a")
        local read = bundle.is_bundle(text) and bundle.read or document.read
        local doc = assert(read(text, { name = name }))
        assert.same({}, doc.warnings)
        for _, one in pairs(doc.workflows or { doc }) do assert(load.document(one, { root })) end
        count = count + 1
      end
    end
    assert.is_true(count >= 2)
  end)

  it("holds Lua flows that load", function()
    local list = load.list({ root })
    assert.same({}, list.errors)
    assert.equal("word-report", list.flows[1].name)
  end)

  it("says hello", function()
    local file <close> = assert(io.open(root .. "/hello.yaml"))
    local flow = assert(load.document(assert(document.read(file:read("a"), { name = "hello" })), { root }))
    assert.same({ { "meet", "greet" }, { "meet", "count" }, { "greet", "celebrate" }, { "count", "celebrate" } },
      flow.graph.edges)
    local call = flow.functions
    local name = call.meet(ctx, flow.defaults.name)
    assert.equal("Hello, world! Your name has 5 letters. Everything works.",
      call.celebrate(ctx, call.greet(ctx, name), call.count(ctx, name)))
  end)

  it("reports words", function()
    local call = assert(load.flow("word-report", { root })).functions
    local text = call.read(ctx)
    local top = call.top(call.words(ctx, text), 2)
    assert.equal("2 lines; most frequent: the (4), dog (2)", call.report(ctx, top, call.lines(ctx, text)))
  end)
end)

describe("flows/ on the engine", function()
  local engine = require "pyoco.engine.local"

  --- Runs a flow and returns the engine.
  local function run(flow, params)
    local eng = assert(engine.run(flow, { params = params }))
    assert.is_nil(eng.error)
    assert.equal("COMPLETED", eng.status)
    return eng
  end

  it("greets whom it is given, with log lines", function()
    local file <close> = assert(io.open(root .. "/hello.yaml"))
    local flow = assert(load.document(assert(document.read(file:read("a"), { name = "hello" })), { root }))
    local records = run(flow, { name = "Ada" }).records
    assert.equal("Hello, Ada! Your name has 3 letters. Everything works.", records.celebrate.output)
    assert.equal("looking for Ada ...\nthere you are!\n", records.meet.log_tail)
    assert.same({ greet = "Hello, Ada!", count = 3 }, records.celebrate.inputs)
  end)

  it("reports the words of a text that comes with the run", function()
    local flow = assert(load.flow("word-report", { root }))
    assert.equal("1 lines; most frequent: b (2), a (1)", run(flow, { text = "a b b" }).records.report.output)
  end)
end)
