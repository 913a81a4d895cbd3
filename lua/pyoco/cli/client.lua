--- The command line client: its table of commands.
local command = require "pyoco.cli.command"
local program = require "pyoco.cli.program"

local M = {}

local RUN_ID = { "RUN_ID", doc = "Id of the run; submit prints it." }
local SEQ = { "SEQ", type = "integer", min = 1, doc = "Its number; dlq list prints it." }
local JSON_OUTPUT = { "--output", choices = { "json" }, doc = "JSON also on a terminal." }
local LISTS = {
  { "--status", doc = "Only runs of this status." },
  { "--flow", doc = "Only runs of the flow of this name." },
  { "--tag", doc = "Only runs with this tag." },
  { "--full", flag = true, doc = "Whole snapshots, with the records of their tasks." },
  { "--limit", type = "integer", min = 1, max = 200, doc = "At most so many; 50 if not given." },
  { "--output", choices = { "json", "table" }, doc = "Table on a terminal, else JSON." },
}
local TASKS = { "--tasks", type = "paths", metavar = "<folders>",
  doc = "Where modules of tasks are, separated by colons. Default: the task path (PYOCO_TASK_PATH) and the file's "
    .. "own folder." }
local PARAMS = {
  { "--params", metavar = "<json>", doc = "Parameters as a JSON object." },
  { "--params-file", metavar = "<file>", doc = "Parameters from a JSON or YAML file." },
  { "--param", metavar = "<name=value>", many = true,
    doc = "One parameter; its value is JSON if it parses, else text. May be repeated; wins over the others." },
}

local KEY = { "--idempotency-key", metavar = "<key>",
  doc = "Sent again with the same key within a day, the submit answers the first run and starts no other." }

local function with_params(...)
  local rows, has_output = { ... }, false
  for _, row in ipairs(rows) do has_output = has_output or row[1] == "--output" end
  table.move(PARAMS, 1, #PARAMS, #rows + 1, rows)
  if not has_output then rows[#rows + 1] = JSON_OUTPUT end
  return rows
end

local SCHEDULE_ID = {
  "--schedule-id", required = true, not_empty = true, metavar = "<id>", doc = "Id of the schedule." }

local function with_lists(...)
  local rows = { table.unpack(LISTS) }
  return table.move({ ... }, 1, select("#", ...), #rows + 1, rows)
end

--- The program. `run` is { module, function }, loaded when the command is used; with `is_local` it needs no gateway.
M.program = {
  name = "client.lua",
  doc = "Submits runs to a gateway and looks after them.",
  epilog = "Exit codes: 0 done, 1 failed (the reason and what to do next are on standard error), 130 interrupted.",
  config = { "server_url", "api_key", "api_key_header" },
  only = { "client", "process" },
  groups = { dlq = "Dead letters: jobs that could not be run." },
  commands = {
    { "submit", doc = "Run a flow that the workers know by its name.", run = { "submit", "submit" },
      options = with_params(
        { "--flow-name", default = "main", doc = "Name of the flow." },
        { "--tag", doc = "Which workers may run it; the gateway's default tag if not given." },
        { "--tags", doc = "Labels of the run, separated by commas." }, KEY) },
    { "submit-yaml", doc = "Run a YAML document.", run = { "submit", "submit_yaml" },
      options = with_params(
        { "--workflow-file", required = true, metavar = "<file>", doc = "The document." },
        { "--flow-name", required = true, doc = "Name of the run's flow." },
        { "--tag", required = true, doc = "Which workers may run it." }, KEY) },
    { "submit-bundle", doc = "Run a bundle of workflows, whose tasks may spawn runs.", run = { "bundles", "submit" },
      options = with_params(
        { "--bundle-file", required = true, metavar = "<file>", doc = "The bundle." },
        { "--tag", doc = "Which workers may run it; the gateway's default tag if not given." }, KEY) },
    { "approve", doc = "Approve a run that waits for it (PENDING_APPROVAL).", run = { "bundles", "approve" },
      options = { RUN_ID, { "--comment", metavar = "<text>", doc = "Why; kept in the run." }, JSON_OUTPUT } },
    { "reject", doc = "Reject a run that waits for approval: it is cancelled.", run = { "bundles", "reject" },
      options = { RUN_ID, { "--reason", metavar = "<text>", doc = "Why; kept in the run." }, JSON_OUTPUT } },
    { "relations", doc = "Show whom a run was spawned by, and whom it has spawned.", run = { "bundles", "relations" },
      options = { RUN_ID, JSON_OUTPUT } },
    { "schedule-yaml", doc = "Run a YAML document at a time, or again and again.", run = { "schedules", "create" },
      options = with_params(
        { "--workflow-file", required = true, metavar = "<file>", doc = "The document." },
        { "--flow-name", required = true, doc = "Name of the runs' flow." },
        { "--tag", required = true, doc = "Which workers may run it." },
        { "--run-at", metavar = "<time>", doc = "Once, at this time: 2026-12-24T18:00:00+09:00." },
        { "--interval-seconds", type = "number", doc = "Again and again, so many seconds apart." },
        { "--start-at", metavar = "<time>", doc = "With --interval-seconds: the first time." }) },
    { "schedules", doc = "List the schedules, those that run next first.", run = { "schedules", "list" },
      options = { JSON_OUTPUT } },
    { "schedule-runs", doc = "List the runs of a schedule, newest first.", run = { "schedules", "runs" },
      options = { SCHEDULE_ID,
        { "--limit", type = "integer", min = 1, max = 200, doc = "At most so many; 50 if not given." },
        { "--records", flag = true, doc = "Whole snapshots, with the records of their tasks." }, JSON_OUTPUT } },
    { "schedule-delete", doc = "Remove a schedule; its runs remain.", run = { "schedules", "delete" },
      options = { SCHEDULE_ID, JSON_OUTPUT } },
    { "submit-batch", doc = "Run many flows that the workers know by their names; prints a result for each.",
      run = { "submit_batch", "run" },
      options = {
        { "FILE", doc = "Runs, an object on each line or in one JSON array: flow_name, params, tag, tags, "
          .. "idempotency_key. - is standard input." }, JSON_OUTPUT } },
    { "check", doc = "Say what is wrong with flow files, and draw their graphs. Needs no gateway.",
      run = { "check", "run" }, is_local = true, needs = { "file", "workflow_file" },
      options = {
        { "FILE", many = true, metavar = "FILE|DIR", doc = "Lua flow files, YAML documents, folders of them." },
        { "--workflow-file", metavar = "<file>", doc = "The same as FILE." },
        { "--format", choices = { "text", "mermaid", "dot", "json" }, default = "text",
          doc = "How to show the graph; errors then go to standard error. json is its canonical form." },
        TASKS,
        { "--output", choices = { "json" }, doc = "A line of JSON for each file: its flows, errors and warnings." } } },
    { "run", doc = "Run a flow file here, with no server.", run = { "run", "run" },
      is_local = true,
      options = with_params(
        { "FILE", doc = "A Lua flow file or a YAML document." },
        { "--flow", metavar = "<name>", doc = "Which flow, when the file declares several." },
        { "--watch", flag = true, doc = "Run again whenever the file or a module that it loads is saved." },
        TASKS,
        { "--output", choices = { "json", "plain" }, doc = "Lines also on a terminal; json when it is none." }) },
    { "new", doc = "Write a small flow to begin with, or a folder for a wheel of flows, and its spec.",
      run = { "new", "run" }, is_local = true, options = {
        { "KIND", choices = { "flow", "wheel" }, metavar = "flow|wheel", doc = "What to write." },
        { "NAME", doc = "Name of the flow, and of its file; of the wheel, and of its folder." },
        { "--yaml", flag = true, doc = "A YAML document and a module of tasks; default: a Lua flow." },
        { "--dir", metavar = "<folder>", doc = "Where to write it. Default: flows; a wheel: the current folder." } } },
    { "get", doc = "Show a run.", run = { "runs", "get" },
      options = { RUN_ID, { "--records", flag = true, doc = "With the records of its tasks." }, JSON_OUTPUT } },
    { "tasks", doc = "Show the tasks of a run.", run = { "runs", "tasks" }, options = { RUN_ID, JSON_OUTPUT } },
    { "watch", doc = "Follow a run: a live tree on a terminal, else a line for each event.", run = { "watch", "run" },
      options = { RUN_ID,
        { "--records", flag = true, doc = "With the records of its tasks." },
        { "--since", type = "number", doc = "Skip what is older than this (unix seconds)." },
        { "--timeout-sec", type = "integer", min = 1, max = 600,
          doc = "Stop watching after this long. Lines end after 60 s if not given." },
        { "--max-events", type = "integer", min = 0, doc = "Stop after so many events; 0 = no limit." },
        { "--until-terminal", flag = true, doc = "Stop when the run has ended." },
        { "--output", choices = { "json", "status" }, doc = "Lines also on a terminal." } } },
    { "cancel", doc = "Cancel a run.", run = { "runs", "cancel" }, needs = { "run_id", "run_id_option" },
      options = { { "RUN_ID", optional = true, doc = "Id of the run; submit prints it." },
        { "--run-id", target = "run_id_option", not_empty = true, metavar = "<run-id>", doc = "The same as RUN_ID." },
        { "--wait", flag = true, doc = "Stay until the run has ended." },
        { "--timeout-sec", type = "number", default = 30, min = 0, doc = "How long --wait may take." }, JSON_OUTPUT } },
    { "list", doc = "List runs, newest first.", run = { "list", "list" }, options = with_lists() },
    { "list-vnext", doc = "List runs page by page.", run = { "list", "list_vnext" },
      options = with_lists(
        { "--updated-after", type = "number", doc = "Only runs updated after this (unix seconds)." },
        { "--cursor", doc = "next_cursor of the page before." },
        { "--workflow-yaml-sha256", metavar = "<sha256>", doc = "Only runs of the document with this hash." }) },
    { "dlq list", doc = "List dead letters: jobs that could not be run, newest first.", run = { "dlq", "list" },
      options = {
        { "--limit", type = "integer", min = 1, max = 200, doc = "At most so many; 50 if not given." },
        { "--before", type = "integer", min = 1, metavar = "<seq>", doc = "Only older ones than this." },
        { "--reason", doc = "Only with this reason, as execution_error." },
        { "--flow", doc = "Only of runs of this flow." },
        { "--tag", doc = "Only of jobs with this tag." },
        { "--output", choices = { "json", "table" }, doc = "Table on a terminal, else JSON." } } },
    { "dlq show", doc = "Show a dead letter whole.", run = { "dlq", "show" }, options = { SEQ, JSON_OUTPUT } },
    { "dlq requeue", doc = "Make the run of a dead letter anew.", run = { "dlq", "requeue" },
      options = { SEQ, JSON_OUTPUT } },
    { "metrics", doc = "Print the gateway's metrics.", run = { "list", "metrics" }, options = {} },
    { "workers", doc = "List the workers.", run = { "runs", "workers" },
      options = {
        { "--scope", choices = { "active", "all" }, default = "active", doc = "Also those that are gone: all." },
        { "--state", choices = { "RUNNING", "IDLE", "STOPPED_GRACEFUL", "DISCONNECTED" }, doc = "Only these." },
        { "--include-hidden", flag = true, doc = "Also hidden ones." },
        { "--limit", type = "integer", min = 1, max = 500, doc = "At most so many." },
        { "--output", choices = { "json", "table", "plugins" }, doc = "Table on a terminal, else JSON." } } },
    { "wheels", doc = "List the wheels in the registry.", run = { "wheels", "list" }, options = { JSON_OUTPUT } },
    { "wheel-history", doc = "List uploads and deletions of wheels, newest first.", run = { "wheels", "history" },
      options = {
        { "--limit", type = "integer", min = 1, max = 500, default = 100, doc = "At most so many." },
        { "--wheel-name", metavar = "<name>", doc = "Only of this wheel." },
        { "--action", metavar = "<upload|delete>", doc = "Only these." }, JSON_OUTPUT } },
    { "wheel-upload", doc = "Put a wheel into the registry, for workers to install.", run = { "wheels", "upload" },
      options = {
        { "--wheel-file", required = true, metavar = "<file>", doc = "The wheel; its name says package and version." },
        { "--tags", doc = "Which workers take it, separated by commas; all if not given." },
        { "--replace", flag = true, doc = "The default; a version that is there is refused all the same." },
        { "--no-replace", flag = true, doc = "Undoes it." },
        { "--preflight", choices = { "strict", "warn", "off" }, default = "strict",
          doc = "What a wheel that lacks metadata, usage documentation or entry points comes to." },
        { "--allow-no-entry-points", flag = true, doc = "Entry points may be missing." },
        { "--allow-missing-usage-doc", flag = true, doc = "Usage documentation may be missing." }, JSON_OUTPUT } },
    { "wheel-download", doc = "Get a wheel from the registry.", run = { "wheels", "download" },
      options = {
        { "NAME", doc = "Its file name; `wheels` lists them." },
        { "--out", metavar = "<file>", doc = "Where to write it; its name in the current folder if not given." },
        { "--force", flag = true, doc = "Write over a file that is there." }, JSON_OUTPUT } },
    { "wheel-delete", doc = "Remove a wheel from the registry; workers drop it.", run = { "wheels", "delete" },
      options = { { "--name", required = true, not_empty = true, doc = "Its file name." }, JSON_OUTPUT } },
  },
}

--- Runs one command line.
---@param argv string[]
---@return integer exit code: 0 done, 1 failed, 130 interrupted
function M.main(argv)
  local cfg, values = program.start(M.program, argv)
  if not cfg then return values end
  local row = command.row(M.program, values.command)
  local api = not row.is_local and require("pyoco.cli.api").new(cfg) or nil -- loading libcurl takes a while
  return command.run(row, cfg, values, api)
end

return M
