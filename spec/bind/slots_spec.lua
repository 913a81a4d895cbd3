--- host.slots: processes of ours, their frames and their ends.
local slots = require "host.slots"
local process = require "spec.support.process"

describe("host.slots", function()
  local seen, ends

  local function spawn(script)
    seen, ends = {}, {}
    return assert(slots.spawn {
      script = script,
      on_frame = function(kind, head, body) seen[#seen + 1] = { kind, head, body } end,
      on_exit = function(code, signal) ends[#ends + 1] = { code, signal } end,
    })
  end

  local function close(slot)
    slot:close()
    process.settle()
  end

  it("reports why a slot cannot work, then its end", function()
    local slot = spawn("/nonexistent.lua")
    assert.is_true(slot:send("B", '{"nats":{"url":"nats://127.0.0.1:9"}}'))
    process.wait_for(function() return ends[1] end)
    assert.equal("E", seen[1][1])
    assert.truthy(seen[1][2]:find("error", 1, true))
    assert.same({ 70, 0 }, ends[1])
    local sent, _, code = slot:send("R", "{}")
    assert.is_nil(sent)
    assert.equal("unavailable", code)
    close(slot)
  end)

  it("kills what still lives when it is closed, without a callback", function()
    local slot = spawn("x.lua")
    local pid = slot:pid()
    close(slot)
    slot:close() -- twice is fine
    assert.is_nil((require("luv").kill(pid, 0)))
    assert.same({}, ends)
    assert.has_error(function() slot:pid() end, "attempt to use a closed slot")
    assert.equal("host.slots.slot (closed)", tostring(slot))
  end)

  it("has no deadline before a slot says one", function()
    local slot = spawn("x.lua")
    assert.is_nil((slot:deadline()))
    close(slot)
    assert.has_error(function() slot:deadline() end, "attempt to use a closed slot")
  end)

  it("reports the signal that ended one", function()
    local slot = spawn("x.lua")
    slot:signal(9)
    process.wait_for(function() return ends[1] end)
    assert.same({ 0, 9 }, ends[1])
    close(slot)
  end)

  it("sends more than the socket takes at once", function()
    local slot = spawn("x.lua")
    local big = ("x"):rep(3 << 20)
    assert.is_true(slot:send("B", '{"nats":{"url":"nats://127.0.0.1:9"},"pad":"' .. big .. '"}', big))
    process.wait_for(function() return ends[1] end)
    assert.equal("E", seen[1][1])
    close(slot)
  end)

  it("is refused for wrong arguments", function()
    assert.has_error(function() slots.spawn {} end)
    assert.has_error(function() slots.spawn { script = "x", on_frame = 1, on_exit = print } end)
    local slot = spawn("x.lua")
    assert.has_error(function() slot:send("too long", "{}") end)
    close(slot)
  end)

  it("is not for a run's VM to have: host.slot says so elsewhere", function()
    local ok, message = pcall(require("host.slot").nats)
    assert.is_false(ok)
    assert.truthy(message:find("VM of a run", 1, true), message)
  end)
end)
