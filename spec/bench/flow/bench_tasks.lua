--- The tasks of bench.yaml: as little work as a task can do, so that what is measured is ours.
local M = {}

--- @param x number
function M.add_one(x) return x + 1 end

--- @param add_one number
function M.to_text(add_one) return ("v=%d"):format(add_one) end

return M
