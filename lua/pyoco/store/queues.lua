--- The queues of jobs, tag by tag.
local M = {}

local queues = {}
queues.__index = queues

--- How each tag's queue stands; a tag without jobs is not there.
---@return table[]|nil list by tag { tag, jobs, in_hand, redelivered, oldest } (pyoco.nats.queues)
---@return string|nil message
---@return string|nil code
function queues:list()
  return self.backend.queues(self.cfg.work_stream, self.cfg.work_subject_prefix, self.cfg.durable_prefix)
end

---@param cfg table configuration
---@param backend table with queues(stream, prefix, durable_prefix)
---@return table verbs
function M.new(cfg, backend)
  return setmetatable({ cfg = cfg, backend = backend }, queues)
end

return M
