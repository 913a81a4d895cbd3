---@meta pyoco

--- Types of what a flow file uses, for editors with a Lua language server (LuaCATS). Never loaded by pyoco-host.
---
--- A function that is written right into `task("name", function(ctx) ... end)` has its ctx completed. To have mistakes
--- flagged too, say what it is:
---
---     ---@param ctx pyoco.ctx
---     local function fetch(ctx, url) return ctx:http{ url = url }.body end

--- What a flow file needs: `local pyoco = require "pyoco"`.
---@class pyoco
local M = {}

--- A value that JSON can carry: a text, a number, a boolean, a list or a table with text keys.
---@alias pyoco.json string|number|boolean|table|nil

--- What can stand beside an operator: a task, or tasks joined by operators.
---
---   a >> b                      b after a                    a & b   side by side
---   a | b                       the first that succeeds      x[3]    three times
---   x["$ctx.items as item"]     x for each item              x % "cond"   until it holds (x % { "cond", 10 })
---@class pyoco.Fragment
---@operator shr(pyoco.Fragment): pyoco.Fragment
---@operator band(pyoco.Fragment): pyoco.Fragment
---@operator bor(pyoco.Fragment): pyoco.Fragment
---@operator mod(string|{ [1]: string, [2]: integer }): pyoco.Fragment
---@field [integer] pyoco.Fragment that many times
---@field [string] pyoco.Fragment "$ctx.n" times, or for each item of "$ctx.items as item"
local Fragment = {}

--- Once for each item of a list; ctx.item is the item.
---@param over string an expression such as "$ctx.items"
---@param as string? the item's name, for tasks that take it as a parameter; default "item"
---@param options { parallel: integer }? iterations at once
---@return pyoco.Fragment
function Fragment:each(over, as, options) end

--- A task. Called, it is its function.
---@class pyoco.Task: pyoco.Fragment
---@overload fun(...: any): any

--- A flow, as a flow file returns it.
---@class pyoco.Flow
---@field name string
---@field graph table
---@field defaults table<string, pyoco.json>

--- Options of a task; all may be left out.
---@class pyoco.TaskOptions
---@field spawn? string the flow that the task runs as a child run, by its declared name
---@field fail_on? ("FAILED"|"CANCELLED")[] ends of the child run that fail the task
---@field tag? string whose workers take the child run; default the parent's
---@field run? string|(string|number)[] the program that the task runs: a list, or one text for the shell
---@field env? table<string, string|number> environment variables of the program: texts or selectors
---@field cwd? string folder that the program runs in
---@field inputs? table<string, pyoco.json> values of parameters by name: JSON values, or selectors
---@field outputs? string[] where the output is also saved: "scratch.x", "results.x.y", "params.x"
---@field retries? integer how often it is tried again after a failed attempt; default 0
---@field retry_delay_sec? number seconds before the first retry; default 1
---@field backoff? number by how much the wait grows from one retry to the next; default 2
---@field timeout_sec? number seconds after which an attempt is stopped
---@field fail_policy? "stop"|"isolate" isolate: only the task and what depends on it fail; default stop
---@field parallel? integer iterations of the loop right around the task that may run at once; default 1

--- Options of a flow.
---@class pyoco.FlowOptions
---@field defaults? table<string, pyoco.json> parameters of the run that need not be given at submit
---@field expose_env? string[] environment variables of the worker that "$env.NAME" may name

--- Declares a task. Parameters of its function are wired by name: inputs, then aliases of loops around it, then
--- parameters of the run, then results of tasks; `ctx` is the context.
---@param name string unique in a flow
---@param fn fun(ctx: pyoco.ctx|any, ...: any): any, string?
---@param options pyoco.TaskOptions?
---@return pyoco.Task
---@overload fun(name: string, options: pyoco.TaskOptions): pyoco.Task
function M.task(name, fn, options) end

--- Declares a flow; a flow file returns it, or a list of several.
---@param name string the name under which it is submitted
---@param expr pyoco.Fragment|pyoco.Fragment[] tasks joined by operators, or a list of such
---@param options pyoco.FlowOptions?
---@return pyoco.Flow
function M.flow(name, expr, options) end

--- A switch: pyoco.switch "$ctx.mode" { fast = a, ["*"] = b >> c } runs one of the branches.
---@param on string an expression; its value is compared with the labels as text
---@return fun(branches: table<string|number, pyoco.Fragment>): pyoco.Fragment
function M.switch(on) end

--- Tells whether a value is a flow made by pyoco.flow.
---@param value any
---@return boolean
function M.is_flow(value) end

--- The flows among what a flow file returned: a flow, or a list with flows in it.
---@param value any
---@return pyoco.Flow[]
function M.flows_of(value) end

--- The function inside a task made by pyoco.task; nil for any other value.
---@param value any
---@return function?
function M.function_of(value) end

--- One loop around a task.
---@class pyoco.Loop
---@field index integer from 0
---@field count integer? how many there are in all, where that is known
---@field item pyoco.json the item, in a loop over a list
---@field name string the frame's id, as each1

--- The run that a task belongs to.
---@class pyoco.Run
---@field run_id string
---@field flow_name string
---@field tag string
---@field tags string[]
---@field attempt integer delivery of the run's job, from 1
---@field started_at number unix seconds

--- A command of ctx:exec: the program and its arguments as list items, and
---@class pyoco.ExecSpec
---@field [integer] string|number program, then its arguments
---@field env? table<string, string|number>
---@field cwd? string
---@field stdin? string
---@field timeout_sec? number
---@field check? boolean raise when it fails; default true
---@field quiet? boolean do not log what it prints
---@field shell? string a line for the shell, instead of a list

---@class pyoco.ExecResult
---@field ok boolean it exited with 0
---@field code integer? exit code
---@field signal string? "SIGKILL": what ended it
---@field stdout string the last 64 KB
---@field stderr string the last 64 KB
---@field output pyoco.json the last JSON line of stdout
---@field truncated boolean there was more
---@field error string? what went wrong
---@field timed_out boolean?

--- A request of ctx:http.
---@class pyoco.HttpSpec
---@field url string
---@field method? string default GET, or POST with a body
---@field headers? table<string, string|number>
---@field query? table<string, any> added to the URL
---@field body? string
---@field json? pyoco.json body as JSON
---@field timeout_sec? number default 30
---@field follow? boolean follow redirects
---@field check? boolean raise for an answer that is no success; default true
---@field max_bytes? integer
---@field ca_file? string

---@class pyoco.HttpResponse
---@field status integer
---@field headers table<string, string> names in lower case
---@field body string
---@field json pyoco.json the body, decoded, when it is JSON

--- What a task knows of its run, as the parameter `ctx`. Tables that it hands out are the task's own copies. The items
--- of loops around the task are here too, under their names.
---@class pyoco.ctx
---@field params table<string, pyoco.json> parameters of the run
---@field results table<string, pyoco.json> outputs of tasks that have ended
---@field scratch table<string, pyoco.json> what tasks have kept by ctx:set
---@field artifacts table<string, pyoco.json> what tasks have saved by ctx:save_artifact
---@field env table<string, string> variables that the flow's expose_env lists
---@field run pyoco.Run
---@field attempt integer of this task, from 1
---@field loop pyoco.Loop? the innermost loop
---@field loops pyoco.Loop[] all loops around, outermost first
---@field item any the innermost loop's item
local ctx = {}

--- Writes a line to the task's log.
---@param pattern string as for string.format when values follow
---@param ... any
function ctx:log(pattern, ...) end

--- Waits; other tasks of the run go on meanwhile.
---@param seconds number 0 or more
function ctx:sleep(seconds) end

--- Whether the run is being cancelled: for code between two calls into C that take long.
---@return boolean
function ctx:cancelled() end

--- Keeps a value for other tasks of the run. The last to write wins.
---@param path string|(string|integer)[] "scratch.seen.count", "results.x", "params.x"
---@param value pyoco.json copied; nil removes what is there
function ctx:set(path, value) end

--- Reads what this or another task has kept.
---@param path string|(string|integer)[]
---@param default any?
---@return any value a copy
function ctx:get(path, default) end

--- Keeps something that the run has made.
---@param name string letters, digits, _ - and dots, not first
---@param value pyoco.json|{ file: string }|{ bytes: string }
---@return any recorded
function ctx:save_artifact(name, value) end

--- Runs a program and waits for its end; other tasks go on.
---@param spec pyoco.ExecSpec
---@return pyoco.ExecResult
function ctx:exec(spec) end

--- Sends an HTTP request and waits for its answer; other tasks go on.
---@param spec pyoco.HttpSpec
---@return pyoco.HttpResponse
function ctx:http(spec) end

--- Makes the streams, buckets and object stores on NATS that are missing; what is there stays as it is. For scripts.
---@param values? table<string, any> options by their short name, over those of the environment
---@return boolean? done
---@return string? message
---@return string? code
function M.ensure_resources(values) end

return M
