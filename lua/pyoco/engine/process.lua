--- One child process on the VM's loop: its output as it comes, its end, and how it is ended.
---
--- It is over when the program itself has ended. What that has left running in the background may still write: its
--- output goes on to be read until `close`.
local native = require "host.process"
local uv = require "luv"
local output = require "pyoco.engine.output"
local timer = require "pyoco.engine.timer"

local concat, sub, match, gmatch = table.concat, string.sub, string.match, string.gmatch

local M = {}

local SIGKILL <const>, SIGTERM <const> = 9, 15
local LINE_BYTES <const> = 65536      -- a longer line is told in pieces
local TAIL_BYTES <const> = 65536      -- what is kept of an output
local JSON_BYTES <const> = 1048576    -- the last line may be so long and still be read as JSON
local MANY_PARTS <const> = 256
local PIPE_READS <const> = 2          -- what a pipe can hold: what a program left there when it ended

-- the end of an output ----------------------------------------------------------------------------------------

--- The last `limit` bytes, or a little more, of what is added, in parts.
local function new_tail(limit) return { bytes = 0, limit = limit, is_cut = false } end

local function join(tail)
  local text = concat(tail)
  if #text > tail.limit then
    text = sub(text, -tail.limit)
    tail.is_cut = true
  end
  for i = #tail, 2, -1 do tail[i] = nil end
  tail[1], tail.bytes = text, #text
  return text
end

local function add(tail, text)
  tail[#tail + 1] = text
  tail.bytes = tail.bytes + #text
  if tail.bytes > 2 * tail.limit or #tail > MANY_PARTS then join(tail) end
end

-- reading -----------------------------------------------------------------------------------------------------

local Process = {}
Process.__index = Process

--- Tells what has come of an output: whole lines at once, a very long one in pieces.
local function tell(self, stream, text, whole)
  local on_text = self.on_text
  if not on_text then return end
  if whole > 0 then
    on_text(stream.rest .. sub(text, 1, whole))
    stream.rest = sub(text, whole + 1)
  else
    stream.rest = stream.rest .. text
  end
  if #stream.rest < LINE_BYTES then return end
  local last = #stream.rest -- a character that is not all here waits for its other bytes
  local from = utf8.offset(stream.rest, -1)
  if from and last - from < 3 and not utf8.len(stream.rest, from) then last = from - 1 end
  on_text(sub(stream.rest, 1, last) .. "\n")
  stream.rest = sub(stream.rest, last + 1)
end

--- Reads once. Returns whether there may be more.
local function read(self, which)
  local stream = self.streams[which]
  local text, whole = self.child:read(which)
  if not text then -- the end
    stream.poll:close()
    stream.poll = nil
    return false
  end
  if text == "" then return false end
  if not self.is_over then add(stream.tail, text) end
  tell(self, stream, text, whole)
  return true
end

--- The last part of a line that has no end.
local function flush(self)
  for which = 1, 2 do
    local stream = self.streams[which]
    if stream.rest ~= "" and self.on_text then self.on_text(stream.rest .. "\n") end
    stream.rest = ""
  end
end

--- The program has ended: its last output, then on_end.
local function ended(self)
  local code, signal = self.child:reap(self.is_ending)
  if not code and not signal then return end
  self.exit:close()
  self.exit = nil
  for which = 1, 2 do
    local reads = 0
    while self.streams[which].poll and reads < PIPE_READS and read(self, which) do reads = reads + 1 end
  end
  flush(self)
  self.code, self.signal, self.is_over = code, signal, true
  if self.stop_grace then self.stop_grace() end
  if not self.streams[1].poll and not self.streams[2].poll then self:close() end
  self.on_end(self)
end

local function watch(descriptor, fn)
  local poll = assert(uv.new_poll(descriptor))
  poll:start("r", fn)
  return poll
end

--- Starts a program.
---@param spec table { args = list, env = list of NAME=text, search = folders as in PATH, cwd, stdin = its whole text }
---@param on_text function|nil (text) gets its output, stdout and stderr as they come: whole lines, any bytes
---@param on_end function (process) once, when the program has ended; not after close
---@return table|nil process { pid, code, signal (numbers; one of them, at the end), is_over = the program has ended,
---  is_closed = its output too }
---@return string|nil message, string|nil code
function M.start(spec, on_text, on_end)
  local child, message, code = native.spawn(spec.args, spec.env, spec.search, spec.cwd, spec.stdin)
  if not child then return nil, message, code end
  local self = setmetatable({ child = child, pid = child:pid(), on_text = on_text, on_end = on_end,
    streams = { { rest = "", tail = new_tail(JSON_BYTES) }, { rest = "", tail = new_tail(TAIL_BYTES) } } }, Process)
  local at_end, out, err = child:descriptors()
  self.streams[1].poll = watch(out, function() read(self, 1) end)
  self.streams[2].poll = watch(err, function() read(self, 2) end)
  self.exit = watch(at_end, function() ended(self) end)
  return self
end

-- results -----------------------------------------------------------------------------------------------------

--- The last 64 KB of an output.
---@param which integer 1 stdout, 2 stderr
---@return string text UTF-8: other bytes are U+FFFD
---@return boolean is_cut there was more before it
function Process:text(which)
  local tail = self.streams[which].tail
  local text = join(tail)
  if #text <= TAIL_BYTES then return output.clean(text), tail.is_cut end
  return output.clean(output.tail(text, TAIL_BYTES)), true
end

--- Lines of stdout, the last one first: those that end in its last 64 KB.
---@return string[] lines
---@return boolean is_cut the last line is longer than 1 MB: its begin is lost
function Process:last_lines()
  local tail = self.streams[1].tail
  local text = join(tail)
  local before = #text - TAIL_BYTES
  local first = before > 0 and match(sub(text, 1, before), "^.*\n()") or 1
  local lines = {}
  for line in gmatch(sub(text, first), "[^\r\n]+") do lines[#lines + 1] = line end
  local is_cut = false
  if tail.is_cut and first == 1 then -- the first one has lost its begin
    is_cut = #lines == 1
    table.remove(lines, 1)
  end
  for i = 1, #lines // 2 do lines[i], lines[#lines + 1 - i] = lines[#lines + 1 - i], lines[i] end
  return lines, is_cut
end

-- the end -----------------------------------------------------------------------------------------------------

--- Ends it: SIGTERM to its group, and SIGKILL when it has not ended in time; with it goes all of its group.
---@param grace_sec number
function Process:stop(grace_sec)
  if self.is_over or self.is_ending then return end
  self.is_ending = true
  self.child:signal(SIGTERM)
  self.stop_grace = timer.after(grace_sec, function()
    self.stop_grace = nil
    self.child:signal(SIGKILL)
  end)
end

--- Gives it up: a program that runs is killed, nothing more is read or told.
function Process:close()
  if self.stop_grace then self.stop_grace() end
  for _, stream in ipairs(self.streams) do
    if stream.poll then stream.poll:close() end
    stream.poll = nil
  end
  if self.exit then self.exit:close() end
  self.exit, self.is_over, self.is_closed = nil, true, true
  self.child:close()
end

return M
