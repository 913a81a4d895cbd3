--- Queues: the ready tasks, lowest first (tasks that may start together do so in the order of the graph), and plain
--- ones, first in first out.
local M = {}

--- The scopes around a scope, innermost first, without the top one.
local function depth_of(scope)
  local depth = 0
  while scope.parent do
    depth = depth + 1
    scope = scope.parent
  end
  return depth
end

--- Tells whether one iteration comes before another one of the same task: the outermost loop decides first.
local function is_earlier(a, b)
  local depth_a, depth_b = depth_of(a), depth_of(b)
  while depth_a > depth_b do a, depth_a = a.parent, depth_a - 1 end
  while depth_b > depth_a do b, depth_b = b.parent, depth_b - 1 end
  local earlier = false
  while a ~= b do
    if a.index ~= b.index then earlier = (a.index or 0) < (b.index or 0) end
    a, b = a.parent, b.parent
  end
  return earlier
end

--- Tells whether a node starts before another one when both are ready: declaration order, then iteration.
---@param a table node
---@param b table node
---@return boolean
function M.comes_before(a, b)
  if a.index ~= b.index then return a.index < b.index end
  return is_earlier(a.scope, b.scope)
end

local comes_before = M.comes_before

--- Adds a node to a binary heap.
local function heap_push(heap, node)
  local i = #heap + 1
  while i > 1 do
    local parent = i // 2
    local above = heap[parent]
    if not comes_before(node, above) then break end
    heap[i] = above
    i = parent
  end
  heap[i] = node
end

--- Takes the node that starts first from a binary heap that is not empty.
local function heap_pop(heap)
  local size = #heap
  local first, last = heap[1], heap[size]
  heap[size] = nil
  size = size - 1
  if size == 0 then return first end
  local i = 1
  while true do
    local child = 2 * i
    if child > size then break end
    local node = heap[child]
    if child < size and comes_before(heap[child + 1], node) then
      child = child + 1
      node = heap[child]
    end
    if not comes_before(node, last) then break end
    heap[i] = node
    i = child
  end
  heap[i] = last
  return first
end

--- Makes a plain queue.
---@return table fifo
function M.fifo() return { first = 1, last = 0 } end

--- Adds to a plain queue. It may be called while another item is being worked on.
---@param fifo table
---@param item any not nil
function M.add(fifo, item)
  local last = fifo.last + 1
  fifo.last = last
  fifo[last] = item
end

--- Takes the first item.
---@param fifo table
---@return any item nil when empty
function M.take(fifo)
  local first = fifo.first
  local item = fifo[first]
  if item == nil then return nil end
  fifo[first] = nil
  if first == fifo.last then
    fifo.first, fifo.last = 1, 0
  else
    fifo.first = first + 1
  end
  return item
end

local add, take = M.add, M.take

--- Makes a queue of ready nodes. Nodes mostly become ready in order, so most stand in a plain queue; the
--- others in a heap beside it.
---@return table ready
function M.ready()
  local ready = M.fifo()
  ready.heap = {}
  return ready
end

--- Adds a node that is ready.
---@param ready table
---@param node table
function M.push(ready, node)
  local before = ready[ready.last]
  if before and comes_before(node, before) then return heap_push(ready.heap, node) end
  add(ready, node)
end

--- Takes the node that starts first.
---@param ready table
---@return table? node nil when there is none
function M.pop(ready)
  local heap = ready.heap
  local node, other = ready[ready.first], heap[1]
  if other and (not node or comes_before(other, node)) then return heap_pop(heap) end
  return take(ready)
end

return M
