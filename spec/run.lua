--- Runs the specs inside pyoco-host, so that they see the same modules as the product.
--- usage: pyoco-host spec/run.lua [FILE|DIR ...]   (default: all of spec/)
local root = require("host").home
package.path = table.concat({ root .. "/?.lua", root .. "/?/init.lua", package.path }, ";")

local targets = #arg > 0 and { table.unpack(arg) } or { root .. "/spec" }
_G.arg = { [0] = "busted", "--helper=" .. root .. "/spec/support/helper.lua",
  "--output=" .. root .. "/spec/support/output.lua", "--pattern=_spec%.lua$", table.unpack(targets) }
require("busted.runner")({ standalone = false })
