--- What tasks print. The engine says which task runs; print, io.write and ctx:log then end in its record's
--- log_tail (the last 4 KB) and in an event.
local json = require "host.json"
local task = require "host.task"

local byte, sub = string.byte, string.sub

local M = {}

local TAIL_BYTES = 4096

local current -- the node of the task that runs, or nil

--- Text as UTF-8: bytes that are not become U+FFFD, so that JSON can carry it.
---@param text string
---@return string
M.clean = json.clean

--- The last bytes of a text, from a character's start.
---@param text string UTF-8
---@param bytes integer? at most so many; default 4096
---@return string
function M.tail(text, bytes)
  bytes = bytes or TAIL_BYTES
  if #text <= bytes then return text end
  local first = #text - bytes + 1
  while first <= #text and byte(text, first) & 0xC0 == 0x80 do first = first + 1 end
  return sub(text, first)
end

--- Appends text to the output of a task.
---@param target table the engine's node
---@param text string any bytes
function M.append(target, text)
  text = M.clean(text)
  local record = target.record
  record.log_tail = M.tail(#text < TAIL_BYTES and (record.log_tail or "") .. text or text)
  target.eng:log(target, text)
end

--- Appends text to the output of the task that runs; dropped when none does.
---@param text string
function M.write(text)
  if current then M.append(current, text) end
end

--- Says whose output follows.
---@param target table? the engine's node { record, eng }; eng:log(node, text) is told. nil: nobody's
function M.select(target) current = target end

--- Whose code runs now.
---@return table? node
function M.running() return current end

--- Connects print and io.write of this VM's tasks; the engine calls it once per run.
function M.install() task.on_output(M.write) end

return M
