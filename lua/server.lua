--- The command line of pyoco-server on our parts: `pyoco-host server.lua --help`.
return require("pyoco.up.server").main({ ... })
