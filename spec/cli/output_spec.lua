--- pyoco.cli.output, text, sse and params: what is read from and shown to a terminal or pipe.
local json = require "host.json"
local output = require "pyoco.cli.output"
local params = require "pyoco.cli.params"
local sse = require "pyoco.client.sse"
local text = require "pyoco.cli.text"
local tmp = require "spec.support.tmp"

describe("output.json_line", function()
  it("has the contract's separators and keeps the order of keys and the spelling of numbers", function()
    assert.equal('{"b": 1.50, "a": [1, {"x": null}], "c": {}, "d": []}',
      output.json_line('{"b":1.50,"a" : [1,\n{"x":null}],"c":{},"d":[]}'))
  end)

  it("leaves strings alone, but for characters that are not ASCII", function()
    assert.equal([[{"a:b, c": "x \" , : \\", "\u3042\ud83d\ude00\u00e9": "\u00e9"}]],
      output.json_line([[{"a:b, c":"x \" , : \\","あ😀é":"\u00e9"}]]))
  end)
end)

describe("output.table", function()
  it("pads every cell to the widest of its column, trailing blanks kept", function()
    assert.equal("worker_id   state  \nw1          RUNNING\nlonger_id1  IDLE   \n",
      output.table({ "worker_id", "state" }, { { "w1", "RUNNING" }, { "longer_id1", "IDLE" } }))
    assert.equal("a  b \n1  22\n", output.table({ "a", "b" }, { { "1", "22" } }))
  end)

  it("says so when it is empty", function()
    assert.equal("(no items)\n", output.table({ "a" }, {}))
  end)
end)

describe("output.duration", function()
  it("is short and readable at every size", function()
    for seconds, shown in pairs { [0] = "0ms", [0.0123] = "12ms", [0.5] = "0.5s", [12.3] = "12s", [184] = "3m 04s",
      [7500] = "2h 05m", [-3] = "0ms" } do
      assert.equal(shown, output.duration(seconds))
    end
  end)
end)

describe("text", function()
  it("removes what could steer a terminal", function()
    assert.equal("red title a b", text.clean("\27[31mred\27[0m \27]0;evil\7title a\tb\1\127"))
    assert.equal("bad ? byte", text.clean("bad \xff byte"))
    assert.equal("x", text.clean("\u{9B}x"))
  end)

  it("counts cells and cuts by them", function()
    assert.equal(6, text.width("日本語"))
    assert.equal("日本…", text.cut("日本語です", 6))
    assert.equal("ab…", text.cut("abcdef", 3))
    assert.equal("", text.cut("abcdef", 0))
    assert.equal("ab  ", text.pad("ab", 4))
  end)

  it("finds the last line of a log that has something on it", function()
    assert.equal("second", text.last_line("first\nsecond\n\n  \n"))
    assert.equal("50%", text.last_line("10%\r50%\r"))
    assert.equal("", text.last_line(""))
  end)
end)

describe("sse.reader", function()
  local function read(chunks, on_event)
    local events = {}
    local feed = sse.reader(on_event or function(event) events[#events + 1] = event end)
    for _, chunk in ipairs(chunks) do feed(chunk) end
    return events
  end

  it("puts events together from any cut of the stream", function()
    local stream = 'event: snapshot\nid: 7\ndata: {"a":\ndata: 1}\n\n: comment\n\nevent: heartbeat\r\ndata: {}\r\n\r\n'
    local whole = read { stream }
    assert.same({ { event = "snapshot", data = '{"a":\n1}', id = "7" },
      { event = "heartbeat", data = "{}", id = "7" } }, whole)
    local bytes = {}
    for i = 1, #stream do bytes[i] = stream:sub(i, i) end
    assert.same(whole, read(bytes))
  end)

  it("calls an event without a name `message`, and gives nothing for an unfinished one", function()
    assert.same({ { event = "message", data = "x" } }, read { "data:x\n\ndata: y\n" })
  end)

  it("stops when told", function()
    local count = 0
    local feed = sse.reader(function()
      count = count + 1
      return false
    end)
    assert.is_false(feed("data: 1\n\ndata: 2\n\n"))
    assert.is_false(feed("data: 3\n\n"))
    assert.equal(1, count)
  end)
end)

describe("params.collect", function()
  local dir
  before_each(function() dir = tmp.dir() end)
  after_each(function() tmp.remove(dir) end)

  it("lets --param win over --params, and that over the file", function()
    local path = tmp.write(dir .. "/p.json", '{"a":1,"b":1,"c":1,"list":[]}')
    local got = assert(params.collect { params_file = path, params = '{"b":2,"c":2}', param = { "c=3", "d=text=1" } })
    assert.equal('{"a":1,"b":2,"c":3,"d":"text=1","list":[]}', json.encode(got, { sort = true }))
  end)

  it("takes --param values as JSON if they parse, else as text; nothing is the empty text", function()
    local got = assert(params.collect { param = { "n=1.5", "t=true", 'o={"x":[1]}', "s=hello", "e=", "z=null",
      'q="1"' } })
    assert.equal('{"e":"","n":1.5,"o":{"x":[1]},"q":"1","s":"hello","t":true,"z":null}',
      json.encode(got, { sort = true }))
  end)

  it("reads YAML files too", function()
    local path = tmp.write(dir .. "/p.yaml", "name: you\nitems: [1, two]\n")
    local got = assert(params.collect { params_file = path })
    assert.equal('{"items":[1,"two"],"name":"you"}', json.encode(got, { sort = true }))
  end)

  it("says what is wrong, and where", function()
    local list = tmp.write(dir .. "/list.json", "[1]")
    local broken = tmp.write(dir .. "/broken.json", '{"a": ')
    for _, case in ipairs {
      { { param = { "novalue" } }, "--param novalue has no =", "invalid" },
      { { param = { "=value" } }, "--param =value has no name", "invalid" },
      { { params = "{" }, "--params is not JSON: ", "invalid" },
      { { params = "[]" }, "--params must be a JSON object", "invalid" },
      { { params = "null" }, "--params must be a JSON object", "invalid" },
      { { params_file = list }, "must hold an object", "invalid" },
      { { params_file = broken }, "is neither JSON nor YAML", "invalid" },
      { { params_file = dir .. "/none.json" }, "none.json: No such file or directory", "not_found" },
      { { params_file = dir }, "Is a directory", "not_found" },
    } do
      local got, message, code = params.collect(case[1])
      assert.is_nil(got)
      assert.equal(case[3], code)
      assert.truthy(message:find(case[2], 1, true), message)
    end
  end)
end)
