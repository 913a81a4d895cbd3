--- Filters of lists: those that lists and event streams of runs share, and how the others are read.
local M = {}

--- A filter's text without the blanks around it; nil when nothing is left: a blank one does not filter.
---@param text string|nil
---@return string|nil
function M.word(text) return text and text:match("^%s*(%S.-)%s*$") end

M.STATUS = { "status", "string", doc = "Only runs of this status." }
M.FLOW = { "flow", "string", doc = "Only runs of the flow of this name." }
M.TAG = { "tag", "string", doc = "Only runs with this tag." }
M.SHA256 = { "workflow_yaml_sha256", "string", doc = "Only runs of the document with this hash." }
M.SCHEDULE = { "schedule_id", "string", doc = "Only runs of this schedule." }
M.TEXT = { "q", "string", max_length = 200, doc = "Only runs with this text in run_id, flow, worker or error." }

return M
