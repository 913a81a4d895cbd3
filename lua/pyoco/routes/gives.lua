--- What the routes answer, as JSON Schemas: by the name of the row, and the parts that they share. Of an object the
--- fields that are always there are `required`; more fields may come. For /openapi.json, and for the specs, which check
--- every answer against it.
local M = {}

local function ref(name) return { ["$ref"] = "#/components/schemas/" .. name } end
local function list_of(schema) return { type = "array", items = schema } end

local TEXT, WHOLE, NUMBER, FLAG = { type = "string" }, { type = "integer" }, { type = "number" }, { type = "boolean" }
local OBJECT, LIST = { type = "object" }, { type = "array" }
local TEXT_OR_NULL, WHOLE_OR_NULL = { type = { "string", "null" } }, { type = { "integer", "null" } }
local NUMBER_OR_NULL, FLAG_OR_NULL = { type = { "number", "null" } }, { type = { "boolean", "null" } }
local OBJECT_OR_NULL = { type = { "object", "null" } }

--- An object: its fields by type, as { [schema] = "names that are always there" }, `may` the same for the others.
local function object(always, may, doc)
  local schema = { type = "object", properties = {}, required = {}, description = doc }
  for _, group in ipairs { always, may or {} } do
    for kind, names in pairs(group) do
      for name in names:gmatch("%S+") do
        schema.properties[name] = kind
        if group == always then table.insert(schema.required, name) end
      end
    end
  end
  table.sort(schema.required)
  if #schema.required == 0 then schema.required = nil end
  return schema
end

local RUN_FIELDS = {
  [TEXT_OR_NULL] = [[tag status flow_name tenant_id api_key_id workflow_yaml_sha256 schedule_id bundle_hash root_run_id
    parent_run_id spawned_from_task entry_workflow approval_status approved_by approval_comment rejected_by
    rejection_reason cancel_requested_by error worker_id graph_sha256 source_sha256 worker_state requeued_from]],
  [WHOLE_OR_NULL] = "workflow_yaml_bytes workflow_bundle_bytes spawn_depth spawn_count crash_count",
  [NUMBER_OR_NULL] = [[start_time end_time heartbeat_at updated_at cancel_requested_at approval_requested_at approved_at
    rejected_at worker_heartbeat_at]],
  [FLAG_OR_NULL] = "approval_required task_records_truncated tasks_truncated worker_alive worker_hidden",
  [OBJECT] = "params tasks task_records task_counts frame_records attempt",
  [OBJECT_OR_NULL] = "result_summary",
  [LIST] = "tags child_run_ids failed_tasks worker_tags",
}

local SCHEDULE = {
  [TEXT] = "schedule_id flow_name tag status schedule_type workflow_yaml_sha256",
  [WHOLE] = "workflow_yaml_bytes dispatch_count", [NUMBER] = "created_at updated_at",
  [TEXT_OR_NULL] = "tenant_id api_key_id last_run_id last_error",
  [NUMBER_OR_NULL] = "run_at next_run_at interval_seconds start_at last_submitted_at",
}

local WHEEL = { [TEXT] = "name bucket", [WHOLE] = "size_bytes",
  [TEXT_OR_NULL] = "digest sha256_b64 sha256_hex mtime nuid", [NUMBER_OR_NULL] = "modified", [list_of(TEXT)] = "tags" }

--- The parts that answers share.
M.schemas = {
  Error = object({ [TEXT] = "detail" }, { [LIST] = "errors" }, "What went wrong, for people."),
  Fault = object({ [TEXT] = "type msg", [LIST] = "loc", [{}] = "input" }, { [OBJECT] = "ctx" },
    "A fault of a request, as pydantic 2 has it."),
  DocumentFault = object({ [WHOLE] = "line column", [TEXT] = "message" }, { [TEXT_OR_NULL] = "path code hint" },
    "A fault of a document, with its place."),
  Invalid = { type = "object", required = { "detail" }, properties = {
    detail = { anyOf = { TEXT, list_of(ref "Fault") } }, errors = list_of(ref "DocumentFault") } },
  Submitted = object({ [TEXT] = "run_id status", [TEXT_OR_NULL] = "bundle_hash" },
    { [TEXT_OR_NULL] = "entry_workflow requeued_from", [FLAG] = "replayed" }, "A run that is queued."),
  Run = object({ [TEXT] = "run_id" }, RUN_FIELDS, "The snapshot of a run: the fields of its kind, null where unknown."),
  RunPage = object({ [list_of(ref "Run")] = "items", [TEXT_OR_NULL] = "next_cursor" }),
  Tasks = object({ [TEXT] = "run_id", [OBJECT] = "tasks task_records", [FLAG] = "task_records_truncated" },
    { [TEXT_OR_NULL] = "flow_name status", [OBJECT] = "frame_records task_counts", [LIST] = "failed_tasks",
      [FLAG_OR_NULL] = "tasks_truncated" }),
  Schedule = object(SCHEDULE, {}, "A schedule."),
  Wheel = object(WHEEL, { [list_of(TEXT)] = "warnings" }, "A wheel of the registry."),
  WheelEvent = object({ [TEXT] = "event_id action wheel_name", [NUMBER] = "occurred_at", [LIST] = "tags",
    [OBJECT] = "actor source" }, { [FLAG_OR_NULL] = "replace", [WHOLE_OR_NULL] = "size_bytes",
    [TEXT_OR_NULL] = "sha256_hex" }, "An upload or a deletion."),
  Worker = object({ [TEXT] = "worker_id state", [FLAG] = "hidden", [list_of(TEXT)] = "tags" },
    { [TEXT_OR_NULL] = "instance_id current_run_id last_run_id last_run_status stop_reason version host",
      [NUMBER_OR_NULL] = [[last_seen_at last_heartbeat_at heartbeat_at last_run_started_at last_run_finished_at
        stopped_at updated_at]], [OBJECT_OR_NULL] = "wheel_sync", [LIST] = "flows flow_errors current_run_ids",
      [WHOLE_OR_NULL] = "pid memory_bytes",
      [{ type = { "integer", "object", "null" } }] = "slots" },
    "A worker's record, with the state that follows from its age."),
  DeadLetter = object({ [WHOLE] = "seq", [TEXT_OR_NULL] = "reason error dlq_subject" },
    { [NUMBER_OR_NULL] = "stored_at timestamp", [TEXT_OR_NULL] = [[run_id flow_name tenant_id api_key_id worker_id tag
      subject payload requeued_to]], [LIST] = "tags", [WHOLE] = "num_delivered" }, "A job that could not be run."),
  RunRelation = { anyOf = { { type = "null" }, object({ [TEXT] = "run_id" }) } },
}

local function json(schema, doc) return { schema = schema, doc = doc } end

local STREAM = { [200] = { media = "text/event-stream", schema = TEXT, doc = "Events, until the stream ends." } }
local DOCUMENT = { [200] = { schema = {}, doc = "The JSON that is stored." } }
local function plain(media) return { [200] = { media = media, schema = TEXT } } end

--- A submit: the run as it is queued, or with ?wait its snapshot.
local SUBMIT = {
  [200] = json({ anyOf = { ref "Submitted", ref "Run" } }, "The run is queued; with ?wait its snapshot: it has ended."),
  [202] = json(ref "Submitted", "With ?wait: the run has not ended in time."),
  takes = { { "Idempotency-Key", "Sent again with the same request, the answer is the first run's." } },
}

--- Route -> status -> answer.
M.routes = {
  page = plain "text/html", docs = plain "text/html",
  ready = { [200] = json(object { [TEXT] = "status" }) },
  version = { [200] = json(object { [TEXT] = "name version" }) },
  openapi = { [200] = json(OBJECT, "This document.") },
  redoc = { [307] = { doc = "See /docs.", is_empty = true } },
  ["schemas.flow"] = { [200] = { media = "application/schema+json", schema = OBJECT } },
  metrics = plain "text/plain",
  events = STREAM, ["runs.watch"] = STREAM,
  ["runs.submit"] = SUBMIT, ["runs.submit_yaml"] = SUBMIT, ["runs.submit_bundle"] = SUBMIT,
  ["runs.submit_batch"] = { [200] = json(object { [LIST] = "results", [WHOLE] = "accepted refused" }) },
  check = { [200] = json(object({ [LIST] = "warnings", [TEXT] = "sha256" }, { [OBJECT] = "graph defaults",
    [TEXT] = "graph_sha256" })) },
  ["runs.list"] = { [200] = json { anyOf = { list_of(ref "Run"), ref "RunPage" } } },
  ["runs.counts"] = { [200] = json(object { [OBJECT] = "counts", [WHOLE] = "total" }) },
  ["runs.get"] = { [200] = json(ref "Run") }, ["runs.cancel"] = { [200] = json(ref "Run") },
  ["runs.approve"] = { [200] = json(ref "Run") }, ["runs.reject"] = { [200] = json(ref "Run") },
  ["runs.tasks"] = { [200] = json(ref "Tasks") },
  ["runs.output"] = DOCUMENT, ["runs.graph"] = DOCUMENT,
  ["runs.log"] = plain "text/plain", ["runs.source"] = plain "text/plain",
  ["runs.relations"] = { [200] = json(object({ [TEXT] = "run_id", [LIST] = "children",
    [ref "RunRelation"] = "parent root", [TEXT_OR_NULL] = "workflow_name entry_workflow bundle_hash",
    [WHOLE] = "depth" })) },
  ["schedules.create"] = { [200] = json(ref "Schedule") },
  ["schedules.list"] = { [200] = json(list_of(ref "Schedule")) },
  ["schedules.delete"] = { [200] = json(object { [TEXT] = "schedule_id", [FLAG] = "deleted" }) },
  ["schedules.runs"] = { [200] = json(list_of(ref "Run")) },
  ["workers.list"] = { [200] = json(list_of(ref "Worker")) },
  ["workers.hide"] = { [200] = json(object { [TEXT] = "worker_id", [FLAG] = "hidden", [NUMBER] = "updated_at" }) },
  ["wheels.list"] = { [200] = json(list_of(ref "Wheel")) }, ["wheels.upload"] = { [200] = json(ref "Wheel") },
  ["wheels.history"] = { [200] = json(list_of(ref "WheelEvent")) },
  ["wheels.download"] = { [200] = { media = "application/octet-stream", schema = TEXT } },
  ["wheels.delete"] = { [200] = json(object { [TEXT] = "name", [FLAG] = "deleted" }) },
  ["dlq.list"] = { [200] = json(object { [list_of(ref "DeadLetter")] = "items", [WHOLE_OR_NULL] = "next_before" }) },
  ["dlq.get"] = { [200] = json(ref "DeadLetter") },
  ["dlq.requeue"] = { [200] = json(ref "Submitted") },
  ["queues.list"] = { [200] = json(object { [LIST] = "queues", [OBJECT] = "history" }) },
}

--- Answers that C gives by itself: rows as an app's.
M.also = {
  { method = "GET", path = "/health", name = "health", public = true,
    doc = "200 while the process serves; how it is with NATS, the read model, duties.",
    gives = { [200] = json(object({ [TEXT] = "status" }, { [TEXT] = "version nats runs_tail",
      [NUMBER] = "uptime_sec", [NUMBER_OR_NULL] = "clock_skew_sec", [FLAG] = "stopping", [LIST] = "flow_errors",
      [WHOLE] = "script_version requests in_flight streams uploads vms vms_busy", [OBJECT_OR_NULL] = "leader",
      [TEXT_OR_NULL] = "nats_problem", [{}] = "reload_error warming" })) } },
}

return M
