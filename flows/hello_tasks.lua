--- Tasks of hello.yaml: ordinary functions. Parameters are wired by name; `ctx` is the run's context.
local M = {}

--- Picks whom to greet. `name` is a parameter of the run: submit with --param name=Ada.
function M.meet(ctx, name)
  ctx:log("looking for %s ...", name)
  ctx:sleep(0.2)
  ctx:log("there you are!")
  return name
end

--- Runs beside `count`: both wait for `meet` only.
function M.greet(ctx, meet)
  ctx:log("writing a greeting")
  ctx:sleep(0.3)
  return ("Hello, %s!"):format(meet)
end

function M.count(ctx, meet)
  ctx:log("counting letters")
  ctx:sleep(0.15)
  return utf8.len(meet) or #meet
end

--- Has the results of both: its parameters are named after them.
function M.celebrate(ctx, greet, count)
  ctx:log("putting it together")
  ctx:sleep(0.1)
  return ("%s Your name has %d letters. Everything works."):format(greet, count)
end

return M
