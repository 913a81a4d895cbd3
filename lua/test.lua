--- Runs specs of flows and tasks: `pyoco-host test.lua --help`.
return require("pyoco.testing.main").main({ ... })
