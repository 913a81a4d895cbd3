--- Checks of admin.lua doctor that ask the gateway: is it there, is it ready, which keys does it take.
local http = require "host.http"
local json = require "host.json"
local called = require "pyoco.cli.called"
local null = require "pyoco.null"

local M = {}

local TIMEOUT_SEC = 2
local SKEW_SEC = 1
local LOOPBACK = { ["127.0.0.1"] = true, ["localhost"] = true, ["::1"] = true }

local finding = require("pyoco.cli.doctor").finding

--- A request to the gateway.
local function get(view, path, with_key)
  local key = with_key and view.config.api_key
  return http.request { url = view.config.server_url .. path, timeout_sec = TIMEOUT_SEC,
    connect_timeout_sec = TIMEOUT_SEC,
    headers = key and { [view.config.api_key_header] = key } or nil }
end

local function check_gateway(view)
  local answer, message = get(view, "/health")
  local health = answer and json.decode(answer.body)
  if not answer or answer.status ~= 200 or type(health) ~= "table" or health.status ~= "ok" then
    local why = not answer and message or ("it answers %d, as no gateway does"):format(answer.status)
    return { finding("fail", ("no gateway at %s: %s"):format(view.config.server_url, why),
      ("start one with `%s` or `%s gateway.lua`, or name its address: --server URL, PYOCO_SERVER_URL"):format(
        called.program "up", called.host())) }
  end
  view.gateway = health
  return { finding("ok", ("gateway %s at %s, up for %.0f s"):format(health.version or "of another kind",
    view.config.server_url, health.uptime_sec or 0)) }
end

--- Text of a field of /health that tells of trouble; nil when it does not.
local function trouble(value)
  if not null.present(value) then return nil end
  return type(value) == "string" and value or assert(json.encode(value, { sort = true }))
end

local function check_ready(view)
  local found = {}
  local answer, message = get(view, "/ready")
  local said = answer and json.decode(answer.body)
  if answer and answer.status == 200 then
    found[1] = finding("ok", "runs can be submitted")
  else
    local why = type(said) == "table" and said.detail or message or ("it answers %d"):format(answer.status)
    found[1] = finding("fail", "the gateway is not ready: " .. tostring(why),
      "it heals by itself when NATS answers; its log says more")
  end
  local reload = trouble(view.gateway.reload_error)
  if reload then
    found[#found + 1] = finding("fail", "gateway.lua does not load; the last good version serves: " .. reload,
      "mend the file; it is taken up by itself")
  end
  for name, value in pairs(view.gateway) do
    if name:find "^duty%." and trouble(value) then
      found[#found + 1] = finding("fail", ("the periodic duty %s fails: %s"):format(name:sub(6), trouble(value)),
        "the gateway's log has all of it")
    end
  end
  return found
end

local function check_flow_errors(view)
  local errors, found = view.gateway.flow_errors, {}
  for _, it in ipairs(type(errors) == "table" and errors or {}) do
    found[#found + 1] = finding("warn", ("worker %s cannot load %s%s"):format(it.worker_id or "?", it.file or "a file",
      null.present(it.line) and (":%s"):format(it.line) or ""), "mend that file on its machine")
  end
  if #found == 0 then found[1] = finding("ok", "the workers load their flow files") end
  return found
end

local function check_clock(view)
  local skew = null.present(view.gateway.clock_skew_sec) and view.gateway.clock_skew_sec
  if not skew then return { finding("skip", "the gateway does not know the NATS server's clock yet") } end
  if math.abs(skew) <= SKEW_SEC then
    return { finding("ok", ("the gateway's clock is %.3f s from the NATS server's"):format(skew)) }
  end
  return { finding("warn", ("the gateway's clock is %.1f s %s the NATS server's"):format(math.abs(skew),
    skew > 0 and "ahead of" or "behind"),
    "set the clocks (NTP): times of our programs are right, those of others on that machine are not") }
end

--- What to say of a gateway that asks for no key.
local function check_open(view, remedy)
  local cfg = view.config
  if cfg.api_key then
    return finding("warn", "a key is set here, and the gateway asks for none", "PYOCO_HTTP_AUTH_MODE=api_key for it")
  end
  if LOOPBACK[cfg.http_host] then return finding("ok", "no keys asked for; only this machine reaches it") end
  return finding("warn", ("no keys asked for, and it listens on %s: whoever reaches the port may do everything"):format(
    cfg.http_host), "PYOCO_HTTP_AUTH_MODE=api_key for the gateway; " .. remedy)
end

--- What to say of one that asks for a key.
local function check_key(view, remedy)
  if not view.config.api_key then
    return finding("warn", "the gateway asks for a key, and none is set here", remedy)
  end
  local keyed = get(view, "/runs?limit=1", true)
  if keyed and keyed.status ~= 401 and keyed.status ~= 403 and keyed.status ~= 429 then
    return finding("ok", "the gateway asks for a key, and takes ours")
  end
  return finding("fail", ("the gateway refuses our key (%s)"):format(keyed and keyed.status or "no answer"),
    "is it revoked, or made with another PYOCO_AUTH_PEPPER? The gateway's log says which; " .. remedy)
end

local function check_auth(view)
  local open = get(view, "/runs?limit=1")
  if not open then return { finding("skip", "the gateway does not answer") } end
  local remedy = ("`%s api-key create --tenant NAME` makes one; then --api-key KEY, or PYOCO_API_KEY"):format(
    called.program "admin")
  return { (open.status == 401 and check_key or check_open)(view, remedy) }
end

--- The rows (pyoco.cli.doctor).
M.checks = {
  { "gateway", run = check_gateway },
  { "ready", needs = "gateway", run = check_ready },
  { "clock", needs = "gateway", run = check_clock },
  { "keys", needs = "gateway", run = check_auth },
  { "flow files", needs = "gateway", run = check_flow_errors },
  require("pyoco.cli.doctor_local").files,
}

return M
