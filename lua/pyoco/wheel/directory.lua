--- The central directory of a zip archive, read by ourselves: the names as their raw bytes. The library that reads the
--- entries ends a name at its first NUL and takes it from the entry's own header; only who has both sees an archive
--- that shows one thing to a scanner and another one to whoever unpacks it.
local M = {}

local END_BYTES, COMMENT_MAX = 22, 65535
local ENTRY_BYTES = 46

--- Finds the end record: its place in the file and its fields.
local function find_end(file, size)
  local from = math.max(0, size - END_BYTES - COMMENT_MAX)
  file:seek("set", from)
  local tail = file:read("a")
  for at = #tail - END_BYTES + 1, 1, -1 do
    if tail:sub(at, at + 3) == "PK\5\6" then
      local disk, start_disk, here, count, bytes, offset, comment = ("<I2I2I2I2I4I4I2"):unpack(tail, at + 4)
      if at + END_BYTES + comment == #tail + 1 then
        return { at = from + at - 1, is_split = disk ~= 0 or start_disk ~= 0 or here ~= count, count = count,
          bytes = bytes, offset = offset }
      end
    end
  end
  return nil
end

--- Reads the names.
---@param path string
---@param max_entries integer an archive that claims more is not read
---@return string[]|nil names in the directory's order
---@return string|nil message
---@return string|nil code "invalid" | "too_large" | "not_found"
function M.names(path, max_entries)
  local file <close>, why = io.open(path, "rb")
  if not file then return nil, why, "not_found" end
  local size = file:seek("end")
  local tail = size and size >= END_BYTES and find_end(file, size)
  if not tail then return nil, "it is no zip archive: it has no end record", "invalid" end
  if tail.count == 0xFFFF or tail.offset == 0xFFFFFFFF or tail.count > max_entries then
    return nil, ("more than %d entries"):format(max_entries), "too_large"
  end
  if tail.is_split or tail.offset + tail.bytes ~= tail.at then
    return nil, "its directory is not where its end record says", "invalid"
  end
  file:seek("set", tail.offset)
  local text = tail.bytes == 0 and "" or file:read(tail.bytes) or ""
  local names, at = {}, 1
  for _ = 1, tail.count do
    if at + ENTRY_BYTES - 1 > #text or text:sub(at, at + 3) ~= "PK\1\2" then
      return nil, "its directory is damaged", "invalid"
    end
    local name_bytes, extra_bytes, comment_bytes = ("<I2I2I2"):unpack(text, at + 28)
    names[#names + 1] = text:sub(at + ENTRY_BYTES, at + ENTRY_BYTES + name_bytes - 1)
    at = at + ENTRY_BYTES + name_bytes + extra_bytes + comment_bytes
  end
  if at ~= #text + 1 then return nil, "its directory holds more than its end record says", "invalid" end
  return names
end

return M
