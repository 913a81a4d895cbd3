---@meta host.guard

--- What blind writers have destroyed in the bucket of runs, which the gateway's read model follows.
---@class host.guard
local M = {}

--- Takes a fault that nobody has taken yet.
---@return string? kind "cancel": a run that was being cancelled goes on without a word of it; "ended": a run that had
---ended goes on; nil: nothing
---@return string? run_id
---@return string? value cancel_requested_at as JSON text ("" unknown); or the snapshot as the run had ended
---@return string? by cancel_requested_by as JSON text, of "cancel"
function M.take() end

--- Takes in a write of this process, which the tail may never see: KV keeps one version.
---@param run_id string
---@param snapshot string? nil: deleted
---@param revision integer? one that is older than what is known of the run is passed over
---@param created number? the server's unix seconds; default now
function M.see(run_id, snapshot, revision, created) end

--- Forgets everything.
function M.clear() end

--- What is remembered.
---@return integer runs
---@return integer bytes of images
function M.stats() end

return M
