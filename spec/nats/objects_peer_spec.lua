--- Objects written by us and read by another NATS client, and the other way round (npm's `nats`, development only).
--- Where npm cannot install it, these are pending; the wire format itself is checked in objects_spec.lua.
local crypto = require "host.crypto"
local json = require "host.json"
local nats = require "host.nats"
local jetstream = require "pyoco.nats.jetstream"
local objects = require "pyoco.nats.objects"
local rpc = require "pyoco.nats.rpc"
local other_client = require "spec.support.object_peer"
local support = require "spec.support.nats"
local tmp = require "spec.support.tmp"

describe("pyoco.nats.objects and npm's nats", function()
  local server, dir, conn, store, fault

  setup(function()
    fault = other_client.missing()
    server, dir = support.start(), tmp.dir()
    conn = assert(nats.connect { url = server.url })
    store = assert(objects.new(jetstream.new(rpc.blocking(conn)), "b"))
    assert(store:ensure())
  end)
  teardown(function()
    conn:close()
    server:stop()
    tmp.remove(dir)
  end)

  --- Runs a verb of object_peer.js and gives what it printed.
  local function peer(...) return other_client.run(server.url, "b", ...) end

  local function both_ways(name, body)
    it(name, function()
      if fault then return pending(fault) end
      body()
    end)
  end

  for _, size in ipairs { 0, 5, 131072, 1000003 } do
    local text = size == 0 and "" or assert(crypto.random(size % 131072 + 1)):rep(8):sub(1, size)
    if #text < size then text = text .. ("p"):rep(size - #text) end

    -- an ASCII name: this client encodes others in Latin-1, not in UTF-8 as the rest do
    both_ways(("%d bytes of ours are theirs"):format(size), function()
      local info = assert(store:put("ours/1 x.whl", text, { headers = { sha256 = crypto.sha256(text) } }))
      local theirs = peer("get", "ours/1 x.whl", dir .. "/got")
      assert.is_true(tmp.read(dir .. "/got") == text)
      for _, key in ipairs { "name", "bucket", "nuid", "size", "chunks", "digest", "deleted" } do
        assert.are.equal(info[key], theirs[key], key)
      end
    end)

    both_ways(("%d bytes of theirs are ours"):format(size), function()
      tmp.write(dir .. "/give", text)
      local theirs = peer("put", "theirs", dir .. "/give")
      local back, info = store:get("theirs")
      assert.is_true(back == text)
      for _, key in ipairs { "name", "bucket", "nuid", "size", "chunks", "digest" } do
        assert.are.equal(theirs[key], info[key], key)
      end
      assert.are.equal("from npm", info.description)
      assert.are.same({ ["content-type"] = "text/x-peer", ["x-pyoco-wheel-tags"] = "hello,cpu" }, info.headers)
    end)
  end

  both_ways("each replaces and deletes the other's, and sees its links", function()
    tmp.write(dir .. "/give", "theirs")
    assert(store:put("x", ("o"):rep(300000)))
    peer("put", "x", dir .. "/give")
    assert.are.equal("theirs", (store:get("x")))
    assert(store:put("x", "ours"))
    peer("get", "x", dir .. "/got")
    assert.are.equal("ours", tmp.read(dir .. "/got"))
    peer("link", "to x", "x")
    assert.are.equal("ours", (store:get("to x")))
    assert(store:delete("to x"))
    assert.is_true(peer("delete", "x").success)
    assert.are.equal("not_found", select(3, store:info("x")))
    assert(store:put("y", "y"))
    assert(store:delete("y"))
    assert.is_true(peer("get", "y", dir .. "/got") == json.null)
    assert(store:put("z", "z"))
    local listed = {}
    for _, it in ipairs(peer("list")) do listed[it.name] = it.deleted end
    for _, info in ipairs(assert(store:list())) do
      assert.is_false(listed[info.name])
      listed[info.name] = nil
    end
    assert.is_nil(next(listed))
  end)
end)
