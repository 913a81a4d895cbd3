--- The address that a request came from. X-Forwarded-For counts only as far as trusted proxies have written it.
local M = {}

--- An IPv4 address as a number; nil for anything else.
local function number(text)
  local a, b, c, d = text:match("^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
  if not a then return nil end
  return (tonumber(a) << 24 | tonumber(b) << 16 | tonumber(c) << 8 | tonumber(d)) & 0xffffffff
end

--- Whether an address is in one of the networks.
local function within(address, networks)
  local value = number(address)
  for _, network in ipairs(value and networks or {}) do
    local base, bits = network:match("^(.-)/(%d+)$")
    local shift = 32 - tonumber(bits)
    if value >> shift == number(base) >> shift then return true end
  end
  return false
end

--- Who sent a request: the peer, or when that is a trusted proxy, the last address before all trusted proxies.
---@param req table { remote_addr, headers }
---@param trusted string[]|nil networks as "10.0.0.0/8" (pyoco.config_type networks)
---@return string address
function M.of(req, trusted)
  local address = req.remote_addr
  local forwarded = trusted and req.headers["x-forwarded-for"]
  if not forwarded or not within(address, trusted) then return address end
  local hops = {}
  for hop in forwarded:gmatch("[^,%s]+") do hops[#hops + 1] = hop end
  for i = #hops, 1, -1 do
    if #hops[i] > 64 then return address end -- no address: the proxy passes on what it was told
    address = hops[i]
    if not within(address, trusted) then return address end
  end
  return address
end

return M
