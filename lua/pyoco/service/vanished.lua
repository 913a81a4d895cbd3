--- Runs that have vanished without a marker: the bucket's stream was purged, or somebody made the bucket with an age
--- limit. Nothing tells the read models of it. The gateway that holds the lease writes the markers that are missing, so
--- that every gateway's lists and events follow. Only of runs that had ended: the job of another may still come, and a
--- marker would say that it was deleted.
local shared = require "host.shared"

local M = {}

--- How often the duty looks. A spec may set it before the app is made.
M.EVERY_SEC = 60

local BATCH = 500
local SOON_SEC = 1

local state = { done_below = 0 } -- the stream's first revision when nothing was left to do

--- One batch of markers.
---@param app table { store, log }
---@return number|nil delay_sec when there may be more
function M.duty(app)
  if shared.get "health.warming" == "true" then return SOON_SEC end
  local first = app.store.garbage:first_revision()
  if not first or first == state.done_below then return nil end
  local ids = app.store.model:ended_before(first, BATCH)
  if not ids then return nil end
  if #ids == 0 then
    state.done_below = first
    return nil
  end
  local runs, count = {}, 0
  for i, run_id in ipairs(ids) do runs[i] = { run_id = run_id, revision = 0 } end
  for _, result in ipairs(app.store.garbage:delete_runs(runs)) do
    if result.revision then count = count + 1 end
  end
  if count > 0 then app.log:info("runs had vanished from their bucket; lists forget them", { runs = count }) end
  return SOON_SEC
end

return M
