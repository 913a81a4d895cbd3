--- Tasks of flows/study.yaml: ordinary functions, whose parameters are filled by name.
local M = {}

--- Finds the bottom of (w - 3)^2, step by step.
function M.train(ctx, rate, epochs)
  local w = 0
  for epoch = 1, epochs do
    w = w - rate * 2 * (w - 3)
    if epoch % 10 == 0 then ctx:log("epoch %d: w = %.3f", epoch, w) end
  end
  return { w = w }
end

function M.evaluate(train)
  return { loss = (train.w - 3) ^ 2 }
end

--- `trial` is the list of the child runs' summaries, in the order of the rates.
function M.best(trial, rates)
  local best
  for i, summary in ipairs(trial) do
    local loss = summary.status == "COMPLETED" and summary.outputs.evaluate.loss or math.huge
    if not best or loss < best.loss then best = { rate = rates[i], loss = loss, run_id = summary.run_id } end
  end
  return best
end

return M
