// Submit a document: checked while it is typed, the graph as a preview.
import {
  ApiError, button, dropZone, field, formOf, get, h, jsonObject, notice, post, pre, put, runPage, send, single, submitForm, texts,
} from "../lib/ui.js";
import { graphView } from "../run/graph.js";

const t = texts({
  title: ["Submit a flow", "フローを投入"],
  document: ["Document (YAML): type, paste, or drop a file", "ドキュメント (YAML): 入力、貼り付け、またはファイルをドロップ"],
  params: ["Parameters over the defaults (JSON)", "既定値に重ねるパラメータ (JSON)"],
  by_name: ["Run a flow of the workers by its name", "ワーカーにあるフローを名前で実行"], checking: ["Checking …", "確認中…"],
  fine: ["It is fine: {n} tasks.", "問題ありません: タスク {n} 個。"], faults: ["{n} error(s)", "エラー {n} 件"],
  place: ["line {line}:{column}", "{line} 行 {column} 列"], empty: ["The graph appears here as you type.", "入力するとここにグラフが表示されます。"],
  defaults: ["Defaults", "既定値"], bundle: ["This is a bundle: it starts with {entry}.", "バンドルです。{entry} から始まります。"],
  approval: ["It starts other runs, so someone will have to approve it.", "他の実行を始めるため、承認が必要です。"],
});

const CHECK_MS = 300;
const DRAFT = "pyoco.draft";
const EXAMPLE = `version: 1
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

const isBundle = (text) => /^(workflows|submit)\s*:/m.test(text) && !/^flow\s*:/m.test(text);

function keepDraft(text) {
  try { sessionStorage.setItem(DRAFT, text); } catch { /* no room: it lasts as long as this page */ }
}

export function show() {
  let timer, controller, closed = false;

  const numbers = h("div.numbers", { "aria-hidden": "true" });
  const area = h("textarea.code", { rows: "18", wrap: "off", "aria-label": t("document"),
    "aria-describedby": "check-state",
    oninput: later, scroll: () => { numbers.scrollTop = area.scrollTop; } });
  area.value = sessionStorage.getItem(DRAFT) ?? EXAMPLE;
  const name = h("input", { name: "flow_name", value: "hello", required: true });
  const tagInput = () => h("input", { name: "tag", placeholder: "default", pattern: "[A-Za-z0-9_\\-]+", list: "tags" });
  const tag = tagInput();
  const params = h("textarea.code", { rows: "3", placeholder: "{}" });
  const { node: state, say: tell } = notice();
  state.id = "check-state";
  const faults = h("ul.faults");
  const preview = h("div", h("p.empty", t("empty")));
  const defaults = h("div");
  const { node: said, say } = notice("alert");
  const flows = h("datalist", { id: "flows" }), tagList = h("datalist", { id: "tags" });

  function drawNumbers(bad = new Set()) {
    const n = area.value.split("\n").length;
    numbers.replaceChildren(...Array.from({ length: n }, (_, at) => h("span", { class: bad.has(at + 1) ? "bad" : "" }, at + 1)));
    numbers.scrollTop = area.scrollTop;
  }

  // Puts the cursor where an error is.
  function goTo(line, column) {
    const before = area.value.split("\n").slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
    area.focus();
    area.setSelectionRange(before + Math.max(0, (column ?? 1) - 1), before + Math.max(0, column ?? 1));
    area.scrollTop = Math.max(0, (line - 6) * parseFloat(getComputedStyle(area).lineHeight));
  }

  const fault = (one, kind) => h("li", { class: kind },
    one.line && button(t("place", { line: one.line, column: one.column ?? 1 }), () => goTo(one.line, one.column), "quiet"),
    " ", one.message, one.hint ? h("span.soft", ` ${one.hint}`) : null);

  function drawFaults(errors, warnings) {
    faults.replaceChildren(...errors.map((one) => fault(one, "bad")), ...warnings.map((one) =>
      fault(typeof one === "string" ? { message: one } : one, "soft")));
    drawNumbers(new Set(errors.map((one) => one.line)));
  }

  async function check() {
    controller?.abort();
    controller = new AbortController();
    keepDraft(area.value);
    name.closest("label").hidden = isBundle(area.value);
    name.required = !isBundle(area.value);
    tell(t("checking"));
    try {
      const body = formOf({}, "workflow", area.value);
      const answer = await (await send("POST", "/check", { body, signal: controller.signal })).json();
      if (closed) return;
      const graph = answer.graph;
      drawFaults([], answer.warnings ?? []);
      tell([t("fine", { n: graph?.nodes?.length ?? "?" }), answer.entry_workflow && t("bundle", { entry: answer.entry_workflow }),
        answer.requires_approval && t("approval")].filter(Boolean).join(" "));
      if (graph) {
        const view = graphView(graph, () => {});
        view.update({});
        put(preview, view.node);
      }
      put(defaults, Object.keys(answer.defaults ?? {}).length > 0 && [h("h3", t("defaults")), pre(answer.defaults)]);
    } catch (error) {
      if (closed || error.name === "AbortError") return;
      tell(error.errors?.length ? t("faults", { n: error.errors.length }) : error.message, true);
      drawFaults(error.errors ?? [], []);
    }
  }

  function later() {
    drawNumbers();
    clearTimeout(timer);
    timer = setTimeout(check, CHECK_MS);
  }

  // Runs what ask() submits, and goes to it.
  const submitting = (ask) => single(async (event) => {
    say("");
    try {
      location.hash = runPage((await ask(event)).run_id);
    } catch (error) {
      if (error instanceof ApiError && error.errors.length) drawFaults(error.errors, []);
      say(error.message, true);
    }
  });

  const submit = submitting(() => {
    const overlay = jsonObject(params.value), bundle = isBundle(area.value);
    return submitForm({ flow_name: bundle ? "" : name.value.trim(), tag: tag.value.trim(), params: overlay && JSON.stringify(overlay) },
      bundle ? "bundle" : "workflow", area.value);
  });

  const byName = submitting(({ target }) => {
    const values = Object.fromEntries(new FormData(target));
    return post("/runs", { flow_name: values.name.trim(), params: jsonObject(values.params) ?? {}, tag: values.tag.trim() || undefined });
  });

  // What the workers would know, to choose from.
  async function suggest() {
    const workers = await get("/workers", { limit: 500 }).catch(() => []);
    const options = (names) => [...new Set(names)].sort().map((value) => h("option", { value }));
    put(flows, options(workers.flatMap((worker) => worker.flows ?? []).map((flow) => flow.name)));
    put(tagList, options(workers.flatMap((worker) => worker.tags)));
  }

  const node = dropZone(h("section.submit-view", { "aria-label": t("title") }, said, flows, tagList, h("div.two",
    h("form.card", { onsubmit: submit }, h("h2", t("title")), h("div.editor", numbers, area), state, faults,
      h("div.inline", field(t("flow_name"), name), field(t("tag"), tag), h("button.primary", t("run"))),
      field(t("params"), params)),
    h("div", h("section.card", preview, defaults),
      h("form.card.inline", { onsubmit: byName }, h("h2", t("by_name")),
        field(t("name"), h("input", { name: "name", required: true, list: "flows" })), field(t("tag"), tagInput()),
        field(t("params"), h("input", { name: "params", class: "code", placeholder: "{}" })), h("button.primary", t("run")))))),
  async (_, text) => {
    area.value = await text() || area.value;
    later();
  });

  drawNumbers();
  check();
  suggest();
  return {
    node, title: t("title"),
    close() {
      closed = true;
      clearTimeout(timer);
      controller?.abort();
    },
  };
}
