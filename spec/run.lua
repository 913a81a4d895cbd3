--- Runs the specs inside pyoco-host, so that they see the same modules as the product.
--- usage: pyoco-host spec/run.lua [FILE|DIR ...]   (default: all of spec/, a process for each file, JOBS at once)
local root = require("host").home
package.path = table.concat({ root .. "/?.lua", root .. "/?/init.lua", package.path }, ";")

local targets = { table.unpack(arg) }
if #targets == 0 then -- all, by the same names as one by one: they stand in messages
  assert(require("luv").chdir(root))
  return require("spec.support.parallel").run()
end
_G.arg = { [0] = "busted", "--helper=" .. root .. "/spec/support/helper.lua",
  "--output=" .. root .. "/spec/support/output.lua", "--pattern=_spec%.lua$", table.unpack(targets) }
require("busted.runner")({ standalone = false })
