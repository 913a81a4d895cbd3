--- How failures of NATS are told to callers (CONTRACT 6).
local err = require "pyoco.err"
local fault = require "pyoco.service.fault"

describe("a failure of the store", function()
  for what, case in pairs {
    ["no answer in time"] = { "no answer from $JS.API after 2 s", "timeout", "TimeoutError" },
    ["no connection"] = { "stream KV_x: not connected to NATS (nats://10.0.0.5:4222): reconnecting", "unavailable",
      "ConnectionError" },
    ["no connection, as the read model says it"] = { "NATS is reconnecting", "unavailable", "ConnectionError" },
    ["a message larger than NATS takes"] = { "cannot send a request to $KV.pyoco_runs.r: (pub.c:130): Payload 1300362 "
      .. "greater than maximum allowed: 1048576", "too_large", "MaxPayloadError" },
    ["a full store"] = { "maximum bytes exceeded", "unavailable", "maximum bytes exceeded" },
  } do
    it("is answered by its class, and whole in the log: " .. what, function()
      local _, message, code = fault.of_store(case[1], case[2])
      assert.same({ "nats unavailable: " .. case[1], "unavailable" }, { message, code })
      assert.equal("nats unavailable: " .. case[3], err.public(message))
      local cause = err.take_cause()
      assert.same({ case[2], case[1] }, { cause.type, cause.message })
    end)
  end

  it("does not name the server when it is told later, after others", function()
    local _, message = fault.of_store("not connected to NATS (nats://10.0.0.5:4222): closed", "unavailable")
    err.take_cause()
    assert.equal("nats unavailable: ConnectionError", err.public(message))
  end)

  it("that the caller can mend is passed on", function()
    assert.same({ "its 9 bytes are more than 8", "too_large" },
      { select(2, fault.of_store("its 9 bytes are more than 8", "too_large")) })
    assert.same({ "gone", "not_found" }, { select(2, fault.of_store("gone", "not_found")) })
    assert.is_nil(err.take_cause())
    assert.equal("run not found", err.public "run not found")
  end)
end)
