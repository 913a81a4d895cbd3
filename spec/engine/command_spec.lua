--- Tasks that are commands: the same from a document and from Lua, with selectors, inputs, retries, loops and limits.
local canonical = require "pyoco.flow.canonical"
local document = require "pyoco.flow.document"
local engine = require "pyoco.engine"
local engine_local = require "pyoco.engine.local"
local json = require "host.json"
local load_flow = require "pyoco.flow.load"
local pyoco = require "pyoco"
local tmp = require "spec.support.tmp"

--- The flow of a document.
local function flow_of(text)
  local doc, message, _, errors = document.read(text)
  if not doc then error(message .. (errors and "\n" .. json.encode(errors) or "")) end
  return assert(load_flow.document(doc, {}))
end

--- A document of one task with the given lines, run to its end; returns the task's record and the engine.
local function run(lines, options)
  local eng = assert(engine_local.run(flow_of("version: 1\nflow:\n  graph: t\ntasks:\n  t:\n    "
    .. table.concat(lines, "\n    ") .. "\n"), options))
  return eng.records.t, eng
end

describe("a command task", function()
  local folder

  before_each(function() folder = tmp.dir() end)
  after_each(function() tmp.remove(folder) end)

  it("runs its list, selectors replaced by values", function()
    local record = run({ [[run: [printf, '["%s","%s","%s","%s"]', $ctx.params.n, $ctx.params.text, 1.50, a b] ]] },
      { params = { n = 0.25, text = "x 'y'" } })
    assert.is_nil(record.error)
    assert.same({ "0.25", "x 'y'", "1.5", "a b" }, record.output)
  end)

  it("gives what is no text as JSON", function()
    local record = run({ "run: [echo, $ctx.params.list]" }, { params = { list = json.array { 1, { a = true } } } })
    assert.same({ 1, { a = true } }, record.output)
  end)

  it("runs a text by the shell", function()
    assert.equal(3, run({ [[run: "printf 'a\\nb\\nc\\n' | grep -c ."]] }).output)
  end)

  it("gives its inputs as JSON on stdin and as variables", function()
    local record = run({ [[run: "cat; echo; echo \"[\\\"$INPUT_NAME\\\",$INPUT_MAX_N,$INPUT_LIST,$INPUT_NONE]\""]],
      "inputs: { name: a b, max-n: 3, list: [1, {x: 2}], none: null }" })
    assert.equal('{"list":[1,{"x":2}],"max-n":3,"name":"a b","none":null}\n["a b",3,[1,{"x":2}],null]\n',
      record.log_tail)
    assert.same({ "a b", 3, { 1, { x = 2 } }, json.null }, record.output)
  end)

  it("gives an input that is too large for a variable on stdin only", function()
    local record = run({ [[run: "wc -c; echo ${INPUT_BIG-unset} ${INPUT_SMALL-unset}"]],
      "inputs: { big: $ctx.params.big, small: 1 }" }, { params = { big = ("x"):rep(10000000) } })
    assert.equal("10000020\nunset 1\n", record.log_tail)
  end)

  it("has env and cwd, selectors replaced", function()
    local record = run({ [[run: "echo \"$LR|$MODE\"; pwd"]], "env: { LR: $ctx.params.lr, MODE: fast }",
      "cwd: $ctx.params.dir" }, { params = { lr = 0.5, dir = folder } })
    assert.equal(("0.5|fast\n%s\n"):format(folder), record.log_tail)
  end)

  it("has the last line of JSON as its output, or null", function()
    assert.same({ ok = true }, run({ [[run: "echo log; echo '{\"ok\":true}'; echo bye"]] }).output)
    assert.is_nil(run({ "run: [echo, bye]" }).output)
  end)

  it("hands its output on, like any task", function()
    local eng = engine_local.run(flow_of [[
version: 1
flow: { graph: "make >> use" }
tasks:
  make: { run: [echo, '{"path": "a/b", "n": 2}'], outputs: [results.made] }
  use: { run: [printf, '["%s", %s]', $node.make.output.path, $node.make.output.n] }
]])
    assert.same({ "a/b", 2 }, eng.records.use.output)
    assert.same({ path = "a/b", n = 2 }, eng.results.made)
  end)

  it("fails when its output's last line is too long to be kept", function()
    local record = run({ [[run: "head -c 3000000 /dev/zero | tr '\\0' 1; echo; echo done"]] })
    assert.equal("SUCCEEDED", record.state)
    assert.is_nil(record.output) -- what is left of the long line would be a number
    record = run({ [[run: "head -c 3000000 /dev/zero | tr '\\0' 1"]] })
    assert.equal("output: the last line of stdout is longer than 1 MB; write large data to a file and print its path",
      record.error)
  end)

  it("fails with the program's end", function()
    local record, eng = run({ [[run: [sh, -c, "echo no GPU >&2; exit 3"] ]] })
    assert.equal("sh: exit code 3\nno GPU", record.error)
    assert.equal("FAILED", eng.status)
    assert.equal("cannot start 'no-such-program'", run({ "run: [no-such-program]" }).error:match("^[^:]*"))
  end)

  it("fails when a selector has no value", function()
    assert.truthy(run({ "run: [echo, $ctx.params.n]" }).error:find("run[2]: ", 1, true))
    assert.truthy(run({ "run: [echo]", "env: { A: $ctx.params.n }" }).error:find("env.A: ", 1, true))
  end)

  it("is tried again as its retries say; it knows which attempt it is", function()
    local record = run({ [[run: "echo $PYOCO_ATTEMPT; [ $PYOCO_ATTEMPT -ge 3 ]"]], "retries: 5",
      "retry_delay_sec: 0.01" })
    assert.equal("SUCCEEDED", record.state)
    assert.equal(3, record.output)
    assert.equal(3, record.attempt)
  end)

  it("that outlives its limit is ended, and its next attempt does not start before it is gone", function()
    -- each attempt holds a folder until it ends; mkdir fails while another one holds it
    local record = run({ ("run: \"mkdir %s/held || exit 9; trap 'rmdir %s/held; exit' TERM; "):format(folder, folder)
      .. [[[ $PYOCO_ATTEMPT = 2 ] && exit 0; while :; do sleep 0.01; done"]], "timeout_sec: 1", "retries: 1",
      "retry_delay_sec: 0" })
    assert.is_nil(record.error)
    assert.equal(2, record.attempt)
    assert.equal("task 't' timed out after 1 s (timeout_sec)", record.attempts[1].error)
  end)

  it("stands in loops", function()
    local eng = engine_local.run(flow_of [[
version: 1
flow: { graph: 'sq["$ctx.ns as n"] >> sum' }
tasks:
  sq: { run: "echo $((INPUT_N * INPUT_N))", inputs: { n: $ctx.n }, parallel: 3 }
  sum: { run: "tr -d '{}[]a-z\":' | tr , + | xargs -I% sh -c 'echo $((%))'", inputs: { all: $node.sq.output } }
]], { params = { ns = json.array { 1, 2, 3, 4 } } })
    assert.is_nil(eng.error)
    assert.same({ 1, 4, 9, 16 }, eng.records.sq.output)
    assert.equal(30, eng.records.sum.output)
  end)

  it("is the same from Lua", function()
    local t = pyoco.task("t", { run = { "echo", "$ctx.params.n", 2 }, env = { A = "$ctx.params.n" }, cwd = "/tmp" })
    local flow = pyoco.flow("main", t)
    assert.equal(7, engine_local.run(pyoco.flow("main", pyoco.task("t", { run = { "echo", "$ctx.params.n" } })),
      { params = { n = 7 } }).records.t.output)
    local doc = flow_of("version: 1\nflow: { graph: t }\ntasks:\n  t: { run: [echo, $ctx.params.n, 2], "
      .. "env: { A: $ctx.params.n }, cwd: /tmp }\n")
    local function plain(graph)
      local text = json.decode(canonical.encode(graph))
      text.name, text.origins = nil, nil
      return text
    end
    assert.same(plain(doc.graph), plain(flow.graph))
  end)

  it("is refused unless commands are allowed, before anything runs", function()
    local flow = flow_of "version: 1\nflow: { graph: t }\ntasks: { t: { run: [echo, x] } }\n"
    local message = "task 't' runs a command; this worker takes no commands from submitted documents: "
      .. "start it with --allow-commands"
    for _, options in ipairs { {}, { allow_commands = false } } do
      local ok, text = pcall(engine.new, flow, options)
      assert.is_false(ok)
      assert.equal(message, text)
    end
    local ok, text = pcall(engine_local.run, flow, { allow_commands = false })
    assert.is_false(ok)
    assert.equal(message, text)
  end)
end)
