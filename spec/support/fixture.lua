--- Recordings of the reference system: spec/fixtures/NAME.json, decoded.
local host = require "host"
local json = require "host.json"

--- Reads one fixture.
---@param name string file name without .json
---@return table
return function(name)
  local file <close> = assert(io.open(("%s/spec/fixtures/%s.json"):format(host.home, name)))
  return assert(json.decode(file:read("a")))
end
