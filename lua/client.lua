--- The command line client: `pyoco-host client.lua --help`.
return require("pyoco.cli.client").main({ ... })
