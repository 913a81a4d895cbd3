// The first page: submit a document, watch one run live, see the workers. Plain DOM; all text goes in by
// textContent, so nothing that a flow is called can become markup.
import { texts } from "/static/i18n.js";

const $ = (id) => document.getElementById(id);
const example = `version: 1
flow:
  graph: |
    meet >> (greet & count) >> celebrate
  defaults:
    name: world
tasks:
  meet: { callable: "hello_tasks:meet" }
  greet: { callable: "hello_tasks:greet" }
  count: { callable: "hello_tasks:count" }
  celebrate: { callable: "hello_tasks:celebrate" }
`;

let lang = localStorage.getItem("pyoco.lang") || document.documentElement.lang;
if (!texts[lang]) lang = "en";
const text = (key) => texts[lang][key];

function translate() {
  document.documentElement.lang = lang;
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = text(node.dataset.text);
  $("lang").value = lang;
}

function row(cells) {
  const tr = document.createElement("tr");
  for (const cell of cells) {
    const td = document.createElement("td");
    td.textContent = cell;
    tr.append(td);
  }
  return tr;
}

const short = (value) => (typeof value === "string" ? value : JSON.stringify(value)) ?? "";
const seconds = (ms) => (ms == null ? "" : `${(ms / 1000).toFixed(2)} s`);

function showRun(snapshot) {
  $("run-state").textContent = `${snapshot.flow_name}: ${snapshot.status}${snapshot.error ? ` (${snapshot.error})` : ""}`;
  $("run-state").dataset.state = snapshot.status;
  $("cancel").hidden = ["COMPLETED", "FAILED", "CANCELLED"].includes(snapshot.status);
  const records = snapshot.task_records || {};
  const names = Object.keys(snapshot.tasks || {}).sort(
    (a, b) => (records[a]?.started_at ?? Infinity) - (records[b]?.started_at ?? Infinity) || (a < b ? -1 : 1));
  $("tasks").hidden = names.length === 0;
  $("tasks").tBodies[0].replaceChildren(...names.map((name) => {
    const record = records[name] || {};
    const lines = (record.log_tail || "").trimEnd().split("\n");
    const last = record.error ?? (record.output != null ? short(record.output) : lines[lines.length - 1]);
    const tr = row([name, snapshot.tasks[name], seconds(record.duration_ms), last]);
    tr.dataset.state = snapshot.tasks[name];
    return tr;
  }));
}

let source;
let watched;

function watch(runId) {
  source?.close();
  watched = runId;
  document.forms.watch.run_id.value = runId;
  location.hash = `run/${encodeURIComponent(runId)}`;
  source = new EventSource(`/runs/${encodeURIComponent(runId)}/watch?include=records&until=terminal&timeout_sec=600`);
  source.addEventListener("snapshot", (event) => {
    const { snapshot } = JSON.parse(event.data);
    showRun(snapshot);
    if (["COMPLETED", "FAILED", "CANCELLED"].includes(snapshot.status)) source.close();
  });
  source.onerror = () => {
    $("run-state").textContent = source.readyState === EventSource.CLOSED ? text("not_found") : text("lost");
  };
}

async function submit(event) {
  event.preventDefault();
  const fields = new FormData(event.target);
  const body = new FormData();
  body.append("flow_name", fields.get("flow_name"));
  if (fields.get("tag")) body.append("tag", fields.get("tag"));
  body.append("workflow", new Blob([fields.get("workflow")], { type: "application/x-yaml" }), "flow.yaml");
  const answer = await fetch("/runs/yaml", { method: "POST", body }).catch(() => null);
  const data = answer ? await answer.json() : { detail: text("unreachable") };
  const items = answer?.ok ? [] : data.errors?.length ? data.errors : [{ message: short(data.detail) }];
  $("errors").replaceChildren(...items.map((item) => {
    const li = document.createElement("li");
    const place = item.line ? `${text("line")} ${item.line}:${item.column ?? 1}: ` : "";
    li.textContent = `${place}${item.message}${item.hint ? ` (${item.hint})` : ""}`;
    return li;
  }));
  if (answer?.ok) watch(data.run_id);
}

async function refresh() {
  const [health, workers] = await Promise.all(["/health", "/workers?limit=500"].map((path) =>
    fetch(path).then((answer) => (answer.ok ? answer.json() : null)).catch(() => null)));
  const trouble = !health ? text("unreachable")
    : health.reload_error ? `${text("reload_error")}: ${health.reload_error}`
    : health.nats !== "connected" ? `${text("nats")}: ${health.nats}` : null;
  $("health").textContent = trouble ?? text("ready");
  $("health").classList.toggle("bad", Boolean(trouble));
  $("workers").hidden = !workers?.length;
  $("no-workers").hidden = !workers || workers.length > 0;
  $("workers").tBodies[0].replaceChildren(...(workers || []).map((worker) => row([worker.worker_id, worker.state,
    worker.tags.join(", "), (worker.current_run_ids ?? [worker.current_run_id]).filter(Boolean).join(", ")])));
}

translate();
document.forms.submit.workflow.value = example;
document.forms.submit.addEventListener("submit", submit);
document.forms.watch.addEventListener("submit", (event) => {
  event.preventDefault();
  watch(event.target.run_id.value.trim());
});
$("cancel").addEventListener("click", () => fetch(`/runs/${encodeURIComponent(watched)}/cancel`, { method: "POST" }));
$("lang").addEventListener("change", (event) => {
  lang = event.target.value;
  localStorage.setItem("pyoco.lang", lang);
  translate();
  refresh();
});
if (location.hash.startsWith("#run/")) watch(decodeURIComponent(location.hash.slice(5)));
refresh();
setInterval(refresh, 3000);
