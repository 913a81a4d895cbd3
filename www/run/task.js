// One task of a run: what went in and came out, what it said, and where it failed in the flow's source.
import { badge, button, bytes, duration, fact, fold, get, h, pre, put, readText, runLink, runPath, texts, time } from "../lib/ui.js";
import { isSelecting, renew } from "../lib/panel.js";
import { stateOf } from "./graph.js";

const t = texts({
  attempts: ["Attempts", "試行"],
  iterations: ["Iterations", "繰り返し"], inputs: ["Inputs", "入力"], output: ["Output", "出力"], log: ["Log", "ログ"],
  whole_log: ["Whole log", "ログ全体"], whole_output: ["Show it ({size})", "表示 ({size})"], traceback: ["Traceback", "トレースバック"],
  source_line: ["Source, line {n}", "ソース {n} 行目"], children: ["Child runs", "子の実行"], artifacts: ["Artifacts", "成果物"],
  options: ["Options", "オプション"], callable: ["Runs", "実行内容"],
});

const AROUND = 3; // source lines before and after

const hasAny = (values) => Object.keys(values ?? {}).length > 0;
const part = (title, ...children) => [h("h4", t(title)), children];

// Lines of the source around one, with their numbers.
function sourceLines(source, line) {
  const lines = source.split("\n");
  const from = Math.max(1, line - AROUND), to = Math.min(lines.length, line + AROUND);
  const rows = [];
  for (let n = from; n <= to; n++) {
    rows.push(h("span", { class: n === line ? "line marked" : "line" },
      h("span.number", { "aria-hidden": "true" }, String(n).padStart(4)), ` ${lines[n - 1]}\n`));
  }
  return h("pre.source", { tabindex: "0" }, rows);
}

// Where an error happened, as it or its traceback tells: [name of a file, line], one of `file` before others.
function placeOf({ error, traceback }, file = "") {
  const places = [...`${error}\n${traceback}`.matchAll(/([^\s/]+\.(?:lua|yaml)):(\d+)/g)].map(([, name, line]) => [name, Number(line)]);
  return places.find(([name]) => file.endsWith(name)) ?? places[0];
}

function output(runId, name, record) {
  if (record.output_ref) {
    const place = h("div");
    put(place, button(t("whole_output", { size: bytes(record.output_ref.size) }), async () => {
      put(place, pre(await get(runPath(runId, "tasks", name, "output")).catch((error) => error.message)));
    }));
    return part("output", place);
  }
  return record.output == null ? null : part("output", pre(record.output));
}

function logOf(runId, name, record) {
  if (!record.log_tail && !record.log_ref) return null;
  const place = h("pre.log", { tabindex: "0" }, record.log_tail ?? "");
  const whole = record.log_ref && button(`${t("whole_log")} (${bytes(record.log_ref.size)})`, async () => {
    place.textContent = await readText(runPath(runId, "tasks", name, "log")).catch((error) => error.message);
    whole.remove();
  }, "quiet");
  return part("log", place, whole);
}

const child = (one) => h("li", runLink(one.run_id), " ", badge(one.status));

// { node, show(name, snapshot, graph, source, relations) }. What has not changed, or is being selected, is not drawn anew.
export function taskView(runId) {
  const node = h("section.card.task", { hidden: true });
  let drawn = "", shown;

  function show(name, snapshot, graph, source, relations) {
    const record = snapshot.task_records?.[name] ?? {};
    const one = graph?.nodes.find((other) => other.name === name);
    const origin = graph?.origins?.[name];
    const children = (relations?.children ?? []).filter((other) => other.spawned_from_task === name);
    const key = JSON.stringify([name, record, snapshot.tasks?.[name], snapshot.status, Boolean(source), Boolean(graph), children]);
    if (key === drawn || (name === shown && isSelecting(node))) return;
    if (name !== shown) put(node); // what a person opened belongs to the other task
    shown = name;
    node.hidden = false;
    drawn = key;
    const attempts = record.attempts ?? [];
    const failed = record.error && placeOf(record, origin?.file);
    const line = failed && origin?.file?.endsWith(failed[0]) ? failed[1] : origin?.line;
    const marked = source && line && [t("source_line", { n: line }), sourceLines(source, line)];
    const log = node.querySelector(".log"), atEnd = !log || log.scrollTop + log.clientHeight > log.scrollHeight - 20, top = log?.scrollTop ?? 0;
    renew(node, [h("h3", name, " ", badge(stateOf(record, snapshot.tasks?.[name], snapshot.status))),
      h("dl.facts", fact(t("started"), time(record.started_at)),
        fact(t("took"), duration(record.duration_ms != null ? record.duration_ms / 1000 : null)),
        fact(t("iterations"), record.iterations), fact(t("callable"), origin?.callable ?? one?.command?.run ?? "")),
      record.error && [part("error", h("pre.error", { tabindex: "0" }, record.error)), marked && [h("h4", marked[0]), marked[1]]],
      record.traceback && fold([t("traceback"), failed?.join(":")].filter(Boolean).join(": "), pre(record.traceback)),
      attempts.length > 0 && part("attempts", h("ol", attempts.map((attempt) => h("li", `${time(attempt.started_at)}: `, h("span.bad", attempt.error ?? ""))))),
      children.length > 0 && part("children", h("ul", children.map(child))),
      output(runId, name, record),
      hasAny(record.inputs) && part("inputs", pre(record.inputs)), hasAny(record.artifacts) && part("artifacts", pre(record.artifacts)),
      logOf(runId, name, record),
      !record.error && marked && fold(...marked),
      hasAny(one?.options) && fold(t("options"), pre(one.options))]);
    const newLog = node.querySelector(".log");
    if (newLog) newLog.scrollTop = atEnd && snapshot.tasks?.[name] === "RUNNING" ? newLog.scrollHeight : top;
  }

  return { node, show };
}
