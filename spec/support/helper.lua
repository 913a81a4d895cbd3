--- Loaded by busted before the specs: every `it`, its before_each and after_each included, must leave the process as
--- it found it (spec/support/leaks.lua). spec/support/helper_spec.lua proves that one that does not fails.
local uv = require "luv"
local busted = require "busted"
local leaks = require "spec.support.leaks"

-- What libuv opens once and keeps: a spare descriptor with the first stream, a signal pipe with the first child.
uv.new_tcp():close()
uv.new_signal():close()
uv.run("nowait")

local PATIENCE_MS = 2000 -- threads that end by themselves close their files a moment later

local before, name, status

busted.subscribe({ "test", "start" }, function(element)
  name = element.name
  return nil, true
end)

busted.subscribe({ "test", "end" }, function(_, _, outcome)
  status = outcome
  return nil, true
end)

--- Turns the loop until nothing is left over, at most PATIENCE_MS. Returns what is left over, or nil.
local function left_over()
  local growth = leaks.growth(before, leaks.count())
  local deadline = uv.hrtime() + PATIENCE_MS * 1000000
  while growth and uv.hrtime() < deadline do
    local timer = uv.new_timer()
    timer:start(10, 0, function() timer:close() end)
    while not timer:is_closing() do uv.run("once") end
    growth = leaks.growth(before, leaks.count())
  end
  return growth
end

busted.before_each(function()
  before, name, status = leaks.count(), nil, nil
end)

-- The outermost after_each runs last. Only after a success: a failure may well leave things behind.
busted.after_each(function()
  local growth = status == "success" and left_over()
  if growth then error(("left behind by '%s':\n%s"):format(name, growth), 0) end
end)
