--- The graph as a whole: edges out of conditions, and whether its members can run at all. Frames are members like
--- tasks; nothing leads from one scope into another, so that all scopes are looked at in one pass.
local condition = require "pyoco.flow.condition"

local M = {}

local ipairs, type = ipairs, type

local MAX_EDGES = 200000

--- Fills graph.edges. Returns false, after an error, if there are too many.
local function add_edges(graph, c, memo)
  local edges, count = graph.edges, 0
  for _, records in ipairs { graph.nodes, c.opened } do
    for _, record in ipairs(records) do
      local needs, key = record.needs, record.name or record.key
      if type(needs) == "string" then
        count = count + 1
        edges[count] = { needs, key }
      elseif needs then
        local list = condition.members(needs, memo)
        for i = 1, count + #list <= MAX_EDGES and #list or 0 do edges[count + i] = { list[i], key } end
        count = count + #list
      end
      if count > MAX_EDGES then
        c.fail(record.place, "too_large", ("the graph has more than %d edges"):format(MAX_EDGES),
          { hint = "put one task between the two groups" })
        return false
      end
    end
  end
  return true
end

--- Completes a graph with its edges, and checks cycles and what is read.
---@param graph table with nodes and frames
---@param c table the compiler's state
function M.check(graph, c)
  local memo = {}
  local is_fine = add_edges(graph, c, memo)
  local reads = c.has_reads and require("pyoco.flow.reads").collect(graph, c) or {}
  if not is_fine or (c.is_in_order and #reads == 0) then return end
  local order_of = require "pyoco.flow.order"
  local order = c.is_in_order and c.order or order_of.sort(c, memo)
  if not order or c.opts.partial or #reads == 0 then return end
  require("pyoco.flow.reads").report(c, order_of.not_before(c, order, reads, memo))
end

return M
