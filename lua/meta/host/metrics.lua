---@meta host.metrics

--- Histograms of seconds, process-wide: what GET /metrics shows under their names.
---@class host.metrics
local M = {}

--- Counts one observation. At most 200 sets of labels per name; later ones are counted under `overflow`.
---@param name string
---@param labels string as 'route="runs.get",code="200"', escaped; "" for none
---@param overflow string labels
---@param seconds number
function M.observe(name, labels, overflow, seconds) end

--- Samples in Prometheus's text format.
---@param name string
---@param added_up boolean? true: all labels together, without labels
---@return string "" when nothing was observed
function M.text(name, added_up) end

--- How much was observed, over all labels.
---@param name string
---@return number count
---@return number sum in seconds
function M.total(name) end

return M
