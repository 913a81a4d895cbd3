--- Runs a second by POST /runs/batch beside single POST /runs, with and without keys, on a gateway and a NATS of its
--- own.
local clock = require "host.clock"
local http = require "host.http"
local json = require "host.json"
local runs = require "spec.support.runs"

local COUNT <const> = 5000

--- Sends all runs in batches of a size.
local function send(post, size, key_of)
  for first = 1, COUNT, size do
    local list = json.array {}
    for i = first, math.min(first + size - 1, COUNT) do
      list[#list + 1] = { flow_name = "main", params = { i = i }, idempotency_key = key_of and key_of(i) }
    end
    assert(post("/runs/batch", assert(json.encode { runs = list })).refused == 0)
  end
end

return function(out)
  local it = runs.start()
  local function post(path, body, key)
    local answer = assert(it.gateway:fetch(path, { method = "POST", body = body,
      headers = { ["content-type"] = "application/json", ["idempotency-key"] = key } }))
    assert(answer.status == 200, answer.body)
    return answer.json
  end
  local function measure(what, submit)
    local from = clock.monotonic()
    submit()
    out.row(what, ("%.0f runs/s"):format(COUNT / (clock.monotonic() - from)))
  end
  local function key_of(i) return "k" .. i end

  out.say("\nsubmits: %d runs of a flow by its name, one client", COUNT)
  measure("POST /runs, one after the other", function()
    for i = 1, COUNT do post("/runs", ('{"flow_name":"main","params":{"i":%d}}'):format(i)) end
  end)
  measure("the same, with keys", function()
    for i = 1, COUNT do post("/runs", ('{"flow_name":"main","params":{"i":%d}}'):format(i), "single " .. i) end
  end)
  for _, size in ipairs { 10, 100, 1000 } do
    measure(("POST /runs/batch of %d"):format(size), function() send(post, size) end)
  end
  measure("POST /runs/batch of 1000, with keys", function() send(post, 1000, key_of) end)
  measure("the same again: replays", function() send(post, 1000, key_of) end)
  http.close()
  it:stop()
end
