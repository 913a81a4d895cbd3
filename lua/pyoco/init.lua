--- What a flow file needs: `local pyoco = require "pyoco"`.
local M = {}

return M
