--- A flow in Lua, submitted by the name that it declares: client.lua submit --flow-name word-report
--- Edit it while everything runs: the next run uses what you saved.
local pyoco = require "pyoco"
local task, flow = pyoco.task, pyoco.flow

local SAMPLE = [[
The quick brown fox jumps over the lazy dog.
The dog sleeps; the fox does not.
]]

--- The text comes with the run (--param text="..."), or is our sample.
local read = task("read", function(ctx, text)
  ctx:log("reading %d characters", #(text or SAMPLE))
  return text or SAMPLE
end)

local words = task("words", function(ctx, read)
  local counts = {}
  for word in read:lower():gmatch("%a+") do counts[word] = (counts[word] or 0) + 1 end
  ctx:sleep(0.1)
  return counts
end)

local lines = task("lines", function(ctx, read)
  ctx:sleep(0.1)
  return select(2, read:gsub("[^\n]+", ""))
end)

--- Inputs name where a value comes from when the parameter's own name does not say it.
local top = task("top", function(counts, limit)
  local list = {}
  for word, count in pairs(counts) do list[#list + 1] = { word = word, count = count } end
  table.sort(list, function(a, b)
    if a.count ~= b.count then return a.count > b.count end
    return a.word < b.word
  end)
  return { table.unpack(list, 1, math.min(limit, #list)) }
end, { inputs = { counts = "$node.words.output" } })

local report = task("report", function(ctx, top, lines)
  local parts = {}
  for i, entry in ipairs(top) do parts[i] = ("%s (%d)"):format(entry.word, entry.count) end
  ctx:log("done")
  return ("%d lines; most frequent: %s"):format(lines, table.concat(parts, ", "))
end)

return flow("word-report", read >> (words >> top & lines) >> report, { defaults = { limit = 3 } })
