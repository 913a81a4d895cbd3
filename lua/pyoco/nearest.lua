--- "Did you mean": the known name nearest to a mistyped one.
local M = {}

--- Edits (insert, delete, replace, swap of neighbours) that turn a into b.
local function distance(a, b)
  local before, previous = {}, {}
  for j = 0, #b do previous[j] = j end
  for i = 1, #a do
    local current = { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      current[j] = math.min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + cost)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        current[j] = math.min(current[j], before[j - 2] + 1)
      end
    end
    before, previous = previous, current
  end
  return previous[#b]
end

---@param name string what was typed
---@param known string[] names that exist
---@return string|nil the first that begins with it, or the nearest, if at most a third of its letters differ
function M.name(name, known)
  local best, best_distance
  for _, candidate in ipairs(known) do
    local begins = #name >= 3 and candidate:sub(1, #name) == name
    local d = begins and 0 or distance(name:lower(), candidate:lower())
    if d <= math.max(1, #candidate // 3) and (not best or d < best_distance) then best, best_distance = candidate, d end
  end
  return best
end

--- What to write instead of an unknown name.
---@param name any what was written
---@param known string[] names that exist
---@param otherwise string begins the list of all, when none is near: "it has ", "known: "
---@return string "did you mean X?", or the list
function M.hint(name, known, otherwise)
  local near = M.name(tostring(name), known)
  return near and "did you mean " .. near .. "?" or otherwise .. table.concat(known, ", ")
end

return M
