--- Keys, stored runs, wheels and the configuration, beside the gateway: `pyoco-host admin.lua --help`.
return require("pyoco.cli.admin").main({ ... }, require("pyoco.store.jetstream").connect)
