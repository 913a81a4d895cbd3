--- NATS, gateway and a worker on this machine, in one command: `pyoco-host up.lua --help`.
return require("pyoco.up.main").main({ ... })
