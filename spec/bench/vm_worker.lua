--- A worker script for spec/bench/vm.lua: its slot's runs do nothing but tell how big their fresh VM is.
local slot = require "host.slot"
local runs = require "pyoco.worker.slot"

local prepare = runs.prepare

--- As a real slot's, with everything that a run needs loaded; only the run itself is another.
function runs.prepare(spec)
  prepare(spec)
  return function() slot.send("F", tostring(collectgarbage "count")) end, function() end
end

return {}
