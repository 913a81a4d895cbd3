--- The jobs that wait or are in hand, as the work stream holds them: for whoever looks for what was left behind.
local M = {}

local work = {}
work.__index = work

--- The stream's extent.
---@return table|nil { messages, first_seq, last_seq, first_time }
---@return string|nil message
---@return string|nil code
function work:info() return self.messages:info() end

--- Some messages from a sequence on, in order.
---@param from integer
---@param last integer
---@return table[]|nil messages { seq, subject, data, time }
---@return integer|string|nil from where to go on, nil at the end; or the message
---@return string|nil code
function work:read(from, last) return self.messages:read(from, last) end

--- One message.
---@param seq integer
---@return table|nil message
---@return string|nil text
---@return string|nil code "not_found"
function work:get(seq) return self.messages:get(seq) end

--- Deletes a message: the job is over.
---@param seq integer
---@return boolean|nil
---@return string|nil message
---@return string|nil code "not_found"
function work:delete(seq) return self.messages:delete(seq) end

--- The tag of a message.
---@param message table
---@return string
function work:tag(message) return message.subject:sub(#self.prefix + 2) end

--- What the workers' consumer of a tag says.
---@param tag string
---@return table|nil { in_hand, delivered_seq, ack_wait_sec, max_deliver }
---@return string|nil message
---@return string|nil code "not_found": no worker has had this tag yet
function work:consumer(tag) return self.messages:consumer(self.durable_prefix .. "_" .. tag) end

--- Sequences of messages that will not be delivered again, as the server has said since the last call.
---@return integer[]
function work:exhausted() return self.messages:exhausted() end

--- The verbs over a backend.
---@param cfg table work_stream, work_subject_prefix, durable_prefix
---@param backend table with work(stream)
---@return table
function M.new(cfg, backend)
  return setmetatable({ messages = backend.work(cfg.work_stream), prefix = cfg.work_subject_prefix,
    durable_prefix = cfg.durable_prefix }, work)
end

return M
