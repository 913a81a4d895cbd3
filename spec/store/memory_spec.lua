--- The memory store against the contract of all stores.
local memory = require "pyoco.store.memory"

describe("store.memory", function()
  require "spec.contract.store"(_ENV, memory.open, function() end)
end)
