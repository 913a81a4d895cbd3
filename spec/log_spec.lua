--- pyoco.log: the lines of the contract, section 14.
local json = require "host.json"
local log = require "pyoco.log"

--- A logger whose lines are kept, at a fixed time.
local function logger(cfg)
  local lines = {}
  return log.new { service = "pyoco-server:worker", logger = "pyoco_server.worker", config = cfg,
    sink = function(line) lines[#lines + 1] = line end, now = function() return 1700000000 end }, lines
end

describe("log", function()
  it("writes one JSON object a line, the fixed keys first", function()
    local l, lines = logger()
    l:info("started", { worker_id = "w1" })
    assert.truthy(lines[1]:find('^{"ts":"2023%-11%-14T22:13:20Z","service":"pyoco%-server:worker","level":"INFO",'
      .. '"logger":"pyoco_server.worker","message":"started","pathname":'))
    local record = assert(json.decode(lines[1]))
    assert.equal("w1", record.worker_id)
    assert.truthy(record.pathname:find("log_spec.lua", 1, true))
    assert.equal(15, record.lineno)
    assert.equal("integer", math.type(record.process))
    assert.equal("integer", math.type(record.thread))
  end)

  it("leaves out what is below the level", function()
    local l, lines = logger { log_level = "WARNING" }
    l:debug("a")
    l:info("b")
    l:warning("c")
    l:error("d")
    assert.equal(2, #lines)
  end)

  it("gives an event its ids, level and error", function()
    local l, lines = logger()
    l:event("flow_not_found", "flow not found", { run_id = "r" },
      { message = "no flow x", traceback = "flows/a.lua:7: no flow x\n\tflows/a.lua:7: in function 'go'" })
    local record = assert(json.decode(lines[1]))
    assert.equal("ERR-PYOCO-0006", record.err_id)
    assert.equal("MSG-PYOCO-0006", record.msg_id)
    assert.equal("ERROR", record.level)
    assert.equal("no flow x", record.exc_message)
    assert.same({ file = "flows/a.lua", line = 7, func = "go" }, record.exc_origin)
  end)

  it("has the contract's order of keys, our own ones behind them by name", function()
    local l, lines = logger()
    l:event("invalid_job", "m", { worker_id = "w", tag = "t", zeta = 1, reason = "r", run_id = "i", alpha = 2 },
      { message = "no", traceback = "a.lua:1: no" })
    local keys = {}
    for key in lines[1]:sub(2):gsub("{[^{}]*}", "0"):gmatch '"([%w_]+)":' do keys[#keys + 1] = key end
    assert.equal("ts service level logger message pathname lineno func process thread err_id msg_id run_id tag "
      .. "worker_id reason exc_type exc_message exc_traceback exc_origin alpha zeta", table.concat(keys, " "))
  end)

  it("leaves tracebacks out when told", function()
    local l, lines = logger { log_include_traceback = false }
    l:error("x", nil, { message = "m", traceback = "t" })
    local record = assert(json.decode(lines[1]))
    assert.equal("m", record.exc_message)
    assert.is_nil(record.exc_traceback)
    assert.is_nil(record.exc_origin)
  end)

  it("writes text with context and traceback", function()
    local l, lines = logger { log_format = "text" }
    local context = { reason = "invalid_json", tag = "t" }
    l:event("invalid_job", "invalid job payload", context, { message = "m", traceback = "trace" })
    assert.truthy(lines[1]:find("^ERROR pyoco%-server:worker pyoco_server.worker [^ ]+:%d+ [^ ]+ %- "
      .. "invalid job payload %(err_id=ERR%-PYOCO%-0012, msg_id=MSG%-PYOCO%-0012, tag=t, reason=invalid_json%)"
      .. "\ntrace\n$"),
      lines[1])
  end)

  it("lets nobody forge a line of text", function()
    local l, lines = logger { log_format = "text" }
    l:info("a\nERROR b", { tag = "x\r\nERROR y" })
    assert.equal(1, select(2, lines[1]:gsub("\n", "")))
    assert.truthy(lines[1]:find("a ERROR b (tag=x  ERROR y)\n", 1, true), lines[1])
  end)

  it("adds the context of `with`, and keeps the line when a value is no JSON", function()
    local l, lines = logger()
    l:with({ run_id = "r" }):info("x", { odd = function() end })
    local record = assert(json.decode(lines[1]))
    assert.equal("r", record.run_id)
    assert.truthy(record.odd:find("^function"))
  end)

  it("cuts what is long, between two characters", function()
    local l, lines = logger()
    l:error(("é"):rep(5000), { flow_name = "x" .. ("é"):rep(5000) }, { message = ("m"):rep(5000),
      traceback = ("t"):rep(40000) })
    local record = assert(json.decode(lines[1]))
    assert.equal(("é"):rep(2048) .. "...", record.message)
    assert.equal("x" .. ("é"):rep(2047) .. "...", record.flow_name)
    assert.same({ 4099, 32771 }, { #record.exc_message, #record.exc_traceback })
  end)

  it("shows local time with its offset when not UTC", function()
    local l, lines = logger { log_utc = false }
    l:info("x")
    assert.truthy(json.decode(lines[1]).ts:find("^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%d[+-]%d%d%d%d$"))
  end)
end)
