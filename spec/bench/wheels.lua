--- Wheels of 500 MB up and down through a gateway: MB/s, and what the gateway's memory peaks at; what other requests
--- notice of four uploads at once.
local clock = require "host.clock"
local crypto = require "host.crypto"
local http = require "host.http"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local gateways = require "spec.support.gateway"
local nats = require "spec.support.nats"

local BYTES <const>, PIECE <const> = 500 * 1000000, 1000000
local AT_ONCE <const> = 4
local AIM_MEMORY <const>, AIM_MS <const> = 32 << 20, 100

--- Peak of a process's resident memory since the last call for it.
local function peak(pid)
  local status <close> = assert(io.open(("/proc/%d/status"):format(pid)))
  local kb = tonumber(status:read("a"):match("VmHWM:%s+(%d+) kB"))
  local clear <close> = assert(io.open(("/proc/%d/clear_refs"):format(pid), "w"))
  clear:write("5")
  return kb * 1024
end

local function write_file(path, bytes)
  local file <close> = assert(io.open(path, "wb"))
  local piece = assert(crypto.random(PIECE))
  for i = 1, bytes // PIECE do assert(file:write(("%016d"):format(i), piece:sub(17))) end
  return path
end

local function upload(gateway, path, name)
  local answer = assert(http.request { url = gateway.url .. "/wheels", timeout_sec = 600, form = {
    { name = "wheel", path = path, filename = name, content_type = "application/octet-stream" } } })
  if answer.status ~= 200 then error(("upload: %d %s"):format(answer.status, answer.body), 0) end
end

local function download(gateway, name, sha256)
  local hasher = crypto.hasher()
  local answer = assert(http.request { url = gateway.url .. "/wheels/" .. name, timeout_sec = 600,
    on_data = function(bytes) hasher:update(bytes) end })
  if answer.status ~= 200 or answer.headers.etag ~= sha256 or '"' .. hasher:hex() .. '"' ~= sha256 then
    error("the download is not what went up", 0)
  end
end

local function timed(out, gateway, what, idle, fn)
  peak(gateway.process.pid)
  local start = clock.monotonic()
  fn()
  local seconds, most = clock.monotonic() - start, peak(gateway.process.pid) - idle
  out.row(what, ("%.0f MB/s"):format(BYTES / 1e6 / seconds))
  out.row("  most memory of the gateway, above idle", ("%.1f MB"):format(most / 1048576),
    ("< %d MB"):format(AIM_MEMORY >> 20), most < AIM_MEMORY)
end

--- p50 and p99 in milliseconds of small requests while fn's processes run.
local function beside(gateway, uploads)
  local times = {}
  local function running()
    process.settle()
    for _, one in ipairs(uploads) do
      if not one.code then return true end
    end
  end
  while running() do
    local before = clock.monotonic()
    assert(http.request { url = gateway.url .. "/runs?limit=1" })
    times[#times + 1] = (clock.monotonic() - before) * 1e3
  end
  table.sort(times)
  return times[(#times + 1) // 2], times[math.ceil(#times * 0.99)], #times
end

local function measure(out, gateway, dir)
  gateway:wait("/runs", function(answer) return answer.status == 200 end, "the read model")
  local path = write_file(dir .. "/big", BYTES)
  local idle = peak(gateway.process.pid)
  timed(out, gateway, "upload", idle, function() upload(gateway, path, "big-1-py3-none-any.whl") end)
  local sha256 = '"' .. gateway:fetch("/wheels").json[1].sha256_hex .. '"'
  timed(out, gateway, "download", idle, function() download(gateway, "big-1-py3-none-any.whl", sha256) end)

  local small, uploads = write_file(dir .. "/small", BYTES // 5), {}
  for i = 1, AT_ONCE do
    uploads[i] = process.spawn("curl", { "-sS", "-f", "-o", "/dev/null", "-F",
      ("wheel=@%s;filename=small%d-1-py3-none-any.whl"):format(small, i), gateway.url .. "/wheels" })
  end
  local p50, p99, count = beside(gateway, uploads)
  for _, one in ipairs(uploads) do
    one:wait(60000)
    if one.code ~= 0 then error("upload: " .. one.stderr, 0) end
  end
  out.row(("GET /runs beside %d uploads: p50"):format(AT_ONCE), ("%.1f ms"):format(p50))
  out.row(("  p99 of %d"):format(count), ("%.1f ms"):format(p99), ("< %d ms"):format(AIM_MS), p99 < AIM_MS)
end

--- Runs the part.
---@param out table say, row
return function(out)
  out.say("\nwheels of %d MB through a gateway, its file in /var/tmp meanwhile", BYTES // 1000000)
  local server, dir = nats.start(), tmp.dir()
  local gateway = gateways.start { nats_url = server.url }
  local ok, message = xpcall(measure, debug.traceback, out, gateway, dir)
  gateway:stop()
  server:stop()
  tmp.remove(dir)
  if not ok then error(message, 0) end
end
