---@meta pyoco.testing

--- Tries out tasks and flows in a spec, by a virtual clock: `pyoco-host test.lua spec/etl_spec.lua`.
---@class pyoco.testing
local M = {}

--- What both task and flow take.
---@class pyoco.testing.Options
---@field params? table<string, pyoco.json>
---@field env? table<string, string>
---@field http? any answers: fun(request, ctx), a table of them by URL, or true for the real thing
---@field exec? any answers: fun(spec, ctx), a table of them, or true for the real thing
---@field run? table fields of ctx.run
---@field scratch? table<string, pyoco.json>
---@field artifacts_dir? string
---@field now? number unix seconds at the start

---@class pyoco.testing.TaskOptions: pyoco.testing.Options
---@field name? string
---@field inputs? table<string, pyoco.json> instead of those that it declares
---@field results? table<string, pyoco.json> outputs of other tasks
---@field item? any of the loop around it
---@field as? string the item's name
---@field index? integer
---@field count? integer
---@field attempt? integer
---@field options? pyoco.TaskOptions instead of its own

---@class pyoco.testing.FlowOptions: pyoco.testing.Options
---@field fakes? table<string, any> task -> function, or the output that it is to have; of child runs ["workflow.task"]
---@field max_parallel? integer
---@field max_iterations? integer
---@field max_child_runs? integer that one run may spawn; default 100
---@field max_parallel_child_runs? integer at once; default 8
---@field child_timeout_sec? number how long a task waits for its child; default 3600, 0 = for ever

---@class pyoco.testing.TaskResult
---@field ok boolean
---@field output pyoco.json
---@field error string?
---@field log string all that it told
---@field record table
---@field state string
---@field clock number virtual seconds that passed
---@field attempts integer
---@field artifacts table
---@field http table[] requests that it made
---@field exec table[] commands that it ran
---@field params table
---@field results table
---@field scratch table

---@class pyoco.testing.FlowResult
---@field ok boolean
---@field status string
---@field error string?
---@field outputs table<string, pyoco.json>
---@field tasks table<string, string> states
---@field records table<string, table>
---@field order string[] names in the order in which they started
---@field log string
---@field logs table<string, string>
---@field clock number
---@field http table[]
---@field exec table[]
---@field events table[]
---@field params table
---@field results table
---@field scratch table
---@field frames table?
---@field failed_tasks string[]?
---@field children pyoco.testing.ChildResult[] in the order in which they were spawned

--- A child run; `clock` counts from its start.
---@class pyoco.testing.ChildResult: pyoco.testing.FlowResult
---@field run_id string
---@field workflow string
---@field task string the parent's task that has spawned it
---@field iteration integer[] indexes of the loops around that task
---@field attempt integer at that task
---@field summary table what the task gets as output

--- Runs one task.
---@param what pyoco.Task|function|pyoco.Flow of a flow, the next argument is the task's name
---@param options pyoco.testing.TaskOptions|string?
---@param more pyoco.testing.TaskOptions?
---@return pyoco.testing.TaskResult
function M.task(what, options, more) end

--- Runs one flow.
---@param what pyoco.Flow|string a flow, or the path of its file
---@param options pyoco.testing.FlowOptions?
---@return pyoco.testing.FlowResult
function M.flow(what, options) end

--- Loads a file as a worker does.
---@param path string a Lua flow, a module of tasks, or a document
---@param roots string[]? folders of more modules
---@return any loaded a flow, several, or a module; of a bundle the flow of its entry workflow
---@return table<string, pyoco.Flow>? flows of a bundle: all its workflows
function M.load(path, roots) end

return M
