// One task of a run: what went in, what came out, what it said, and where it failed in the flow's own source.
import { get, runPath, text as readText } from "../lib/api.js";
import { h, put } from "../lib/dom.js";
import { bytes, duration, time } from "../lib/format.js";
import { texts } from "../lib/i18n.js";
import { fact, runLink } from "../lib/parts.js";
import { badge } from "../lib/status.js";
import { stateOf } from "./graph.js";

const t = texts({
  en: {
    pick: "Choose a task in the graph or the timeline.", started: "Started", took: "Took", attempts: "Attempts",
    iterations: "Iterations", inputs: "Inputs", output: "Output", log: "Log", whole_log: "Whole log",
    whole_output: "Show it ({size})", error: "Error", traceback: "Traceback", source_line: "Source, line {n}",
    children: "Child runs", artifacts: "Artifacts", options: "Options", runs: "Runs",
  },
  ja: {
    pick: "グラフかタイムラインでタスクを選んでください。", started: "開始", took: "所要時間", attempts: "試行", iterations: "繰り返し", inputs: "入力",
    output: "出力", log: "ログ", whole_log: "ログ全体", whole_output: "表示 ({size})", error: "エラー", traceback: "トレースバック", source_line: "ソース {n} 行目",
    children: "子の実行", artifacts: "成果物", options: "オプション", runs: "実行内容",
  },
});

const AROUND = 3; // source lines before and after

const pretty = (value) => h("pre", { tabindex: "0" }, typeof value === "string" ? value : JSON.stringify(value, null, 2));

// Lines of the source around one, with their numbers.
export function sourceLines(source, line) {
  const lines = source.split("\n");
  const from = Math.max(1, line - AROUND), to = Math.min(lines.length, line + AROUND);
  const rows = [];
  for (let n = from; n <= to; n++) {
    rows.push(h("span", { class: n === line ? "line marked" : "line" },
      h("span", { class: "number", "aria-hidden": "true" }, String(n).padStart(4)), ` ${lines[n - 1]}\n`));
  }
  return h("pre", { class: "source" }, rows);
}

// The line of the flow's source that an error names, or the one where the task is declared.
function lineOf(record, origin, source) {
  const named = /(?:^|\s|\/)([\w.-]+\.(?:lua|yaml)):(\d+)/.exec(record?.error ?? "");
  return source && named && origin?.file?.endsWith(named[1]) ? Number(named[2]) : origin?.line;
}

function output(runId, name, record) {
  if (record.output_ref) {
    const place = h("div");
    const button = h("button", { type: "button", on: { click: async () => {
      const value = await get(runPath(runId, "tasks", name, "output")).catch((error) => error.message);
      put(place, pretty(value));
    } } }, t("whole_output", { size: bytes(record.output_ref.size) }));
    put(place, button);
    return [h("h4", null, t("output")), place];
  }
  return record.output == null ? null : [h("h4", null, t("output")), pretty(record.output)];
}

function log(runId, name, record) {
  if (!record.log_tail && !record.log_ref) return null;
  const place = h("pre", { class: "log", tabindex: "0" }, record.log_tail ?? "");
  const whole = record.log_ref ? h("button", { class: "quiet", type: "button", on: { click: async () => {
    place.textContent = await readText(runPath(runId, "tasks", name, "log")).catch((error) => error.message);
    whole.remove();
  } } }, `${t("whole_log")} (${bytes(record.log_ref.size)})`) : null;
  return [h("h4", null, t("log")), place, whole];
}

const child = (one) => h("li", null, runLink(one.run_id), " ", badge(one.status));

// { node, show(name, snapshot, graph, source, relations) }. Nothing is drawn anew while what it shows has not changed, so that a
// selection in a log stays.
export function taskView(runId) {
  const node = h("section", { class: "card task", "aria-live": "off" }, h("p", { class: "empty" }, t("pick")));
  let drawn = "";

  function show(name, snapshot, graph, source, relations) {
    const record = snapshot.task_records?.[name] ?? {};
    const one = graph?.nodes.find((other) => other.name === name);
    const origin = graph?.origins?.[name];
    const children = (relations?.children ?? []).filter((other) => other.spawned_from_task === name);
    const key = JSON.stringify([name, record, snapshot.tasks?.[name], Boolean(source), Boolean(graph), children]);
    if (key === drawn) return;
    drawn = key;
    const attempts = record.attempts ?? [];
    const line = lineOf(record, origin, source);
    put(node, h("h3", null, name, " ", badge(stateOf(record, snapshot.tasks?.[name]))),
      h("dl", { class: "facts" }, fact(t("started"), time(record.started_at)),
        fact(t("took"), duration(record.duration_ms != null ? record.duration_ms / 1000 : null)),
        fact(t("iterations"), record.iterations), fact(t("runs"), origin?.callable ?? one?.command?.run ?? "")),
      record.error && [h("h4", null, t("error")), h("pre", { class: "error", tabindex: "0" }, record.error)],
      record.error && source && line && [h("h4", null, t("source_line", { n: line })), sourceLines(source, line)],
      attempts.length > 0 && [h("h4", null, t("attempts")), h("ol", null, attempts.map((try_) => h("li", null,
        `${time(try_.started_at)}: `, h("span", { class: try_.error ? "bad" : "" }, try_.error ?? ""))))],
      children.length > 0 && [h("h4", null, t("children")), h("ul", null, children.map(child))],
      output(runId, name, record),
      Object.keys(record.inputs ?? {}).length > 0 && [h("h4", null, t("inputs")), pretty(record.inputs)],
      Object.keys(record.artifacts ?? {}).length > 0 && [h("h4", null, t("artifacts")), pretty(record.artifacts)],
      log(runId, name, record),
      record.traceback && h("details", null, h("summary", null, t("traceback")), pretty(record.traceback)),
      !record.error && source && line && h("details", null, h("summary", null, t("source_line", { n: line })), sourceLines(source, line)),
      Object.keys(one?.options ?? {}).length > 0 && h("details", null, h("summary", null, t("options")), pretty(one.options)));
  }

  return { node, show };
}
