--- A worker: pulls jobs by tag and runs their flows, each in a slot process of its own.
---
---     pyoco-host worker.lua --tags cpu,gpu --worker-id w1 --slots 4
---
--- A copy of this file may give flow files more globals: worker.main({ globals = { answer = 42 } }, ...).
local worker = require "pyoco.worker"

return worker.main({}, ...)
