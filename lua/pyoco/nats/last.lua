--- The last message of a stream's subjects, one or all of them: what key-value buckets and object stores read.
--- Failures are nil, message, code, err_code as in pyoco.nats.jetstream.
local json = require "host.json"
local shared = require "host.shared"
local jetstream = require "pyoco.nats.jetstream"

local M = {}
local Last = {}
Last.__index = Last

local DIRECT_KNOWN_SEC = 60
local CHUNK = 256 -- reads in flight while listing

--- The reader of a stream; nothing is asked of the server yet.
---@param js table jetstream context
---@param stream string
---@return table last
function M.new(js, stream) return setmetatable({ js = js, stream = stream }, Last) end

--- Remembers, for all VMs of the process, whether DIRECT.GET may be used: a slot's VM lives for one run, and must
--- not ask anew each time. A bucket may be made again with another setting, so not for ever.
---@param config table the stream's
function Last:remember(config)
  self.is_direct = config.allow_direct == true
  shared.set("nats.direct." .. self.stream, self.is_direct, DIRECT_KNOWN_SEC)
end

--- Whether DIRECT.GET may be used.
---@return boolean|nil is_direct
---@return string|nil message
---@return string|nil code "not_found" when there is no such stream
function Last:direct()
  if self.is_direct == nil then self.is_direct = shared.get("nats.direct." .. self.stream) end
  if self.is_direct == nil then
    local info, message, code, err_code = self.js:stream_info(self.stream)
    if not info then return nil, message, code, err_code end
    self:remember(info.config)
  end
  return self.is_direct
end

--- The last message of one subject.
---@param subject string
---@return table|nil message {subject, data, headers, seq, time}
---@return string|nil text
---@return string|nil code "not_found"
---@return integer|nil err_code 10037: the stream is there, the message is not
function Last:get(subject)
  local is_direct, message, code, err_code = self:direct()
  if is_direct == nil then return nil, message, code, err_code end
  return self.js:last_msg(self.stream, subject, { direct = is_direct })
end

--- The subjects that have messages, sorted.
---@param filter string
---@return string[]|nil subjects
---@return string|nil message
---@return string|nil code
function Last:subjects(filter)
  local found, seen, offset = {}, {}, 0
  repeat
    local info, message, code, err_code =
      self.js:stream_info(self.stream, { subjects_filter = filter, offset = offset })
    if not info then return nil, message, code, err_code end
    self:remember(info.config)
    local count = 0
    for subject in pairs(info.state.subjects or {}) do
      count = count + 1
      if not seen[subject] then
        seen[subject] = true
        found[#found + 1] = subject
      end
    end
    offset = offset + count
  until count == 0 or offset >= (info.total or 0)
  table.sort(found)
  return found
end

local function read_chunk(last, names, from, each)
  local requests = {}
  for i = from, math.min(from + CHUNK - 1, #names) do
    requests[#requests + 1] = last.is_direct and { ("$JS.API.DIRECT.GET.%s.%s"):format(last.stream, names[i]) }
      or { "$JS.API.STREAM.MSG.GET." .. last.stream, json.encode { last_by_subj = names[i] } }
  end
  local replies, text, why = last.js:request_many(requests)
  if not replies then return nil, text, why end
  for i, reply in ipairs(replies) do
    if reply.code then return nil, reply.message, reply.code end
    local msg, message, code, err_code = jetstream.stored_reply(reply, last.stream, names[from + i - 1], last.is_direct)
    if msg then
      each(msg)
    elseif err_code ~= 10037 then
      return nil, message, code, err_code
    end
  end
  return true
end

--- Calls a function with the last message of each of some subjects, in their order; those without are left out.
---@param names string[] subjects
---@param each fun(msg:table)
---@return boolean|nil done
---@return string|nil message
---@return string|nil code
function Last:each_of(names, each)
  local is_direct, message, code, err_code = self:direct()
  if is_direct == nil then return nil, message, code, err_code end
  for from = 1, #names, CHUNK do
    local ok
    ok, message, code, err_code = read_chunk(self, names, from, each)
    if not ok then return nil, message, code, err_code end
  end
  return true
end

--- Calls a function with the last message of every subject, in the subjects' order. Not one moment's picture: they
--- are read one by one, and one that is gone meanwhile is left out.
---@param filter string
---@param each fun(msg:table)
---@return boolean|nil done
---@return string|nil message
---@return string|nil code
function Last:each(filter, each)
  local names, message, code, err_code = self:subjects(filter)
  if not names then return nil, message, code, err_code end
  return self:each_of(names, each)
end

return M
