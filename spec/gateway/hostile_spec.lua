--- Bad input at the real gateway, with a real NATS behind it: an answer each time, and nothing stored by what was
--- refused or only checked.
local host = require "host"
local http = require "host.http"
local json = require "host.json"
local config = require "pyoco.config"
local stores = require "pyoco.store.jetstream"
local gateways = require "spec.support.gateway"
local mutate = require "spec.support.mutate"
local nats = require "spec.support.nats"
local tmp = require "spec.support.tmp"

describe("the gateway", function()
  local gateway, server, store, cfg, text

  setup(function()
    server = nats.start()
    gateway = gateways.start { nats_url = server.url }
    cfg = assert(config.load { env = {}, cwd = "/nonexistent", flags = { nats_url = server.url } })
    store = assert(stores.connect(cfg, { name = "spec" }))
    gateway:wait("/ready", function(answer) return answer.status == 200 end, "the gateway to be ready")
    text = assert(tmp.read(host.home .. "/flows/hello.yaml"))
  end)

  after_each(http.close)

  teardown(function()
    store:close()
    gateway:stop()
    server:stop()
  end)

  --- What NATS holds: messages and last sequence of every stream that submitting writes to.
  local function stored()
    local list = {}
    for _, name in ipairs { cfg.work_stream, cfg.dlq_stream, "KV_" .. cfg.runs_bucket,
      "KV_" .. cfg.workflow_bundles_bucket } do
      local state = assert(store.js:stream_info(name)).state
      list[name] = { state.messages, state.last_seq }
    end
    return list
  end

  local function check(document)
    return assert(gateway:fetch("/check", { method = "POST", body = document,
      headers = { ["content-type"] = "application/yaml" } }))
  end

  --- Whether an answer is one of a document's: a graph, or errors with their places.
  local function check_answer(answer, what)
    if answer.status == 200 then return end
    assert.equal(422, answer.status, what .. ": " .. answer.body)
    assert.is_true(#answer.json.errors > 0, what)
    for _, found in ipairs(answer.json.errors) do assert.is_true(found.line >= 1 and found.column >= 1) end
  end

  it("checks documents that lack a byte, and stores nothing", function()
    local before, seen = stored(), {}
    for at, changed in mutate.deletions(text) do
      if at % 7 == 0 then
        local answer = check(changed)
        check_answer(answer, "byte " .. at)
        seen[answer.status] = true
      end
    end
    for _, byte in ipairs(mutate.NASTY) do
      check_answer(check(text:sub(1, 150) .. byte .. text:sub(152)), ("byte %q"):format(byte))
    end
    assert.same({ [200] = true, [422] = true }, seen)
    assert.same(before, stored())
  end)

  it("refuses bodies that are no document, and stores nothing", function()
    local before = stored()
    for _, body in ipairs { "", "\0", "\xff\xfe", ("["):rep(10000), ("{a: "):rep(10000), ("- "):rep(50000) .. "x",
      "a: &a [*a]", ("x"):rep(200000), "--- a\n--- b\n" } do
      check_answer(check(body), body:sub(1, 20))
      assert.equal(422, gateway:submit(body, { { "flow_name", "x" } }).status)
    end
    local large = gateway:submit(("# " .. ("x"):rep(1000) .. "\n"):rep(3000), { { "flow_name", "x" } })
    assert.equal(413, large.status)
    assert.same(before, stored())
  end)

  it("refuses a flow_name with control characters, naming the field, and stores nothing", function()
    local before = stored()
    for _, name in ipairs { "a\0b", "\0", "a\nb", "\27[31mred", "a\tb", "a\127" } do
      local answer = assert(gateway:fetch("/runs", { json = { flow_name = name } }))
      assert.equal(422, answer.status, name)
      assert.same({ "body", "flow_name" }, answer.json.detail[1].loc)
      assert.truthy(answer.json.detail[1].msg:find("\\x00", 1, true), answer.body)
      answer = gateway:submit(text, { { "flow_name", name } })
      assert.equal(422, answer.status, name)
      assert.truthy(answer.body:find("flow_name", 1, true), answer.body)
    end
    assert.same(before, stored())
  end)

  it("answers to whatever else a flow_name or params may hold", function()
    for _, name in ipairs { "読む", "a b", "../../etc/passwd", "%s%n", "$ctx.x", "'; drop", ("n"):rep(1000) } do
      assert.equal(200, assert(gateway:fetch("/runs", { json = { flow_name = name } })).status, name)
      assert.equal(200, gateway:submit(text, { { "flow_name", name } }).status, name)
    end
    for _, body in ipairs { '{"flow_name":"\xff"}', '{"flow_name":"\\ud800"}', '{"flow_name":5}', '{"flow_name":"x",',
      '{"flow_name":"x","params":' .. ("["):rep(5000), '{"flow_name":"x","params":{"a":1e999}}', "[]", "null", "",
      '{"flow_name":"x","params":' .. ('{"a":'):rep(200) .. "1" .. ("}"):rep(200) .. "}" } do
      local answer = assert(gateway:fetch("/runs", { method = "POST", body = body,
        headers = { ["content-type"] = "application/json" } }))
      assert.equal(422, answer.status, body:sub(1, 40) .. " " .. answer.body)
    end
    for _, params in ipairs { "[]", "5", "{", '{"a":"\xff"}', ("["):rep(5000) } do
      assert.equal(422, gateway:submit(text, { { "flow_name", "x" }, { "params", params } }).status, params:sub(1, 20))
    end
    local giant = { flow_name = ("n"):rep(1500000) }
    local refused = assert(gateway:fetch("/runs", { json = giant })) -- more than a message of NATS holds (CONTRACT 6)
    assert.equal(503, refused.status, refused.body)
    local body, kind = http.multipart({ { "flow_name", "a\xffb" } }, { { name = "workflow", filename = "f.yaml",
      content_type = "application/x-yaml", data = text } })
    local answer = assert(gateway:fetch("/runs/yaml", { method = "POST", body = body,
      headers = { ["content-type"] = kind } }))
    assert.equal(422, answer.status, answer.body)
    assert.truthy(json.encode(answer.json))
  end)
end)
