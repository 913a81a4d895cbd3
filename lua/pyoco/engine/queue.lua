--- The ready tasks, lowest index first: tasks that may start together do so in the order of the graph.
local M = {}

--- Adds a node (a binary heap by node.index).
---@param heap table a list, {} at first
---@param node table
function M.push(heap, node)
  local i = #heap + 1
  while i > 1 do
    local parent = i // 2
    if heap[parent].index <= node.index then break end
    heap[i] = heap[parent]
    i = parent
  end
  heap[i] = node
end

--- Takes the node with the lowest index.
---@param heap table
---@return table? node nil when empty
function M.pop(heap)
  local size = #heap
  local first, last = heap[1], heap[size]
  heap[size] = nil
  size = size - 1
  if size <= 0 then return first end
  local i = 1
  while true do
    local child = 2 * i
    if child > size then break end
    if child < size and heap[child + 1].index < heap[child].index then child = child + 1 end
    if last.index <= heap[child].index then break end
    heap[i] = heap[child]
    i = child
  end
  heap[i] = last
  return first
end

return M
