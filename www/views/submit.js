// Submit a document: checked while it is typed, errors at their lines, the graph as a preview, then run.
import { ApiError, post, runPage, send } from "../lib/api.js";
import { h, put, single } from "../lib/dom.js";
import { texts } from "../lib/i18n.js";
import { button, field } from "../lib/parts.js";
import { graphView } from "../run/graph.js";

const t = texts({
  en: {
    title: "Submit a flow", document: "Document (YAML): type, paste, or drop a file", flow_name: "Flow name", tag: "Tag",
    params: "Parameters over the defaults (JSON)", run: "Run", by_name: "Run a flow of the workers by its name", name: "Name",
    checking: "Checking …", fine: "It is fine: {n} tasks.", faults: "{n} error(s)", warnings: "Warnings",
    place: "line {line}:{column}", empty: "The graph appears here as you type.", defaults: "Defaults",
    bundle: "This is a bundle: it starts with {entry}.", approval: "It starts other runs, so someone will have to approve it.",
    bad_params: "Parameters are no JSON object: {message}",
  },
  ja: {
    title: "フローを投入", document: "ドキュメント (YAML): 入力、貼り付け、またはファイルをドロップ", flow_name: "フロー名", tag: "タグ", params: "既定値に重ねるパラメータ (JSON)",
    run: "実行", by_name: "ワーカーにあるフローを名前で実行", name: "名前", checking: "確認中…", fine: "問題ありません: タスク {n} 個。", faults: "エラー {n} 件",
    warnings: "警告", place: "{line} 行 {column} 列", empty: "入力するとここにグラフが表示されます。", defaults: "既定値", bundle: "バンドルです。{entry} から始まります。",
    approval: "他の実行を始めるため、承認が必要です。", bad_params: "パラメータが JSON オブジェクトではありません: {message}",
  },
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
  try { sessionStorage.setItem(DRAFT, text); } catch { /* there is no room: it lasts as long as this page */ }
}

// Params of a text field, or undefined when it is empty; throws what is wrong with it.
function readParams(text) {
  if (!text.trim()) return undefined;
  try {
    const value = JSON.parse(text);
    if (value && typeof value === "object" && !Array.isArray(value)) return value;
    throw new Error(text.slice(0, 30));
  } catch (error) {
    throw new Error(t("bad_params", { message: error.message }));
  }
}

function form(text, fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) body.append(name, value);
  const kind = isBundle(text) ? "bundle" : "workflow";
  body.append(kind, new Blob([text], { type: "application/x-yaml" }), kind === "bundle" ? "bundle.yaml" : "flow.yaml");
  return body;
}

export function show() {
  let timer, controller, closed = false;

  const numbers = h("div", { class: "numbers", "aria-hidden": "true" });
  const area = h("textarea", { class: "code", rows: "18", spellcheck: "false", wrap: "off", "aria-label": t("document"),
    "aria-describedby": "check-state",
    on: { input: later, scroll: () => { numbers.scrollTop = area.scrollTop; } } });
  area.value = sessionStorage.getItem(DRAFT) ?? EXAMPLE;
  const name = h("input", { name: "flow_name", value: "hello", required: true });
  const tag = h("input", { name: "tag", placeholder: "default", pattern: "[A-Za-z0-9_\\-]+" });
  const params = h("textarea", { class: "code", rows: "3", spellcheck: "false", placeholder: "{}" });
  const state = h("p", { id: "check-state", role: "status" });
  const faults = h("ul", { class: "faults" });
  const preview = h("div", null, h("p", { class: "empty" }, t("empty")));
  const defaults = h("div");
  const said = h("p", { class: "bad", role: "alert", hidden: true });
  const runButton = h("button", { class: "primary" }, t("run"));

  const say = (text) => {
    said.hidden = !text;
    said.textContent = text;
  };

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
    " ", one.message, one.hint ? h("span", { class: "soft" }, ` ${one.hint}`) : null);

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
    state.textContent = t("checking");
    const body = new FormData();
    body.append("workflow", new Blob([area.value], { type: "application/x-yaml" }), "flow.yaml");
    try {
      const answer = await (await send("POST", "/check", { body, signal: controller.signal })).json();
      if (closed) return;
      const graph = answer.graph;
      drawFaults([], answer.warnings ?? []);
      state.textContent = [t("fine", { n: graph?.nodes?.length ?? "?" }),
        answer.entry_workflow ? t("bundle", { entry: answer.entry_workflow }) : "",
        answer.requires_approval ? t("approval") : ""].join(" ");
      state.className = "good";
      if (graph) {
        const view = graphView(graph, () => {});
        view.update({});
        put(preview, view.node);
      }
      put(defaults, Object.keys(answer.defaults ?? {}).length ? [h("h3", null, t("defaults")),
        h("pre", null, JSON.stringify(answer.defaults, null, 2))] : null);
    } catch (error) {
      if (closed || error.name === "AbortError") return;
      state.textContent = error.errors?.length ? t("faults", { n: error.errors.length }) : error.message;
      state.className = "bad";
      drawFaults(error.errors ?? [], []);
    }
  }

  function later() {
    drawNumbers();
    clearTimeout(timer);
    timer = setTimeout(check, CHECK_MS);
  }

  const submit = single(async () => {
    say("");
    try {
      const overlay = readParams(params.value);
      const bundle = isBundle(area.value);
      const body = form(area.value, { flow_name: bundle ? "" : name.value.trim(), tag: tag.value.trim(),
        params: overlay && JSON.stringify(overlay) });
      const answer = await (await send("POST", bundle ? "/runs/bundle" : "/runs/yaml", { body })).json();
      location.hash = runPage(answer.run_id);
    } catch (error) {
      if (error instanceof ApiError && error.errors.length) drawFaults(error.errors, []);
      say(error.message);
    }
  });

  const named = h("form", { class: "card inline", on: { submit: single(async ({ target }) => {
    say("");
    try {
      const values = Object.fromEntries(new FormData(target));
      const answer = await post("/runs", { flow_name: values.name.trim(), params: readParams(values.params) ?? {},
        tag: values.tag.trim() || undefined });
      location.hash = runPage(answer.run_id);
    } catch (error) {
      say(error.message);
    }
  }) } }, h("h2", null, t("by_name")), field(t("name"), h("input", { name: "name", required: true })),
    field(t("tag"), h("input", { name: "tag", placeholder: "default", pattern: "[A-Za-z0-9_\\-]+" })),
  field(t("params"), h("input", { name: "params", class: "code", placeholder: "{}" })), h("button", { class: "primary" }, t("run")));

  const node = h("section", { class: "submit-view", "aria-label": t("title"), on: {
    dragover: (event) => { event.preventDefault(); node.classList.add("dropping"); },
    dragleave: (event) => { if (!node.contains(event.relatedTarget)) node.classList.remove("dropping"); },
    drop: async (event) => {
      event.preventDefault();
      node.classList.remove("dropping");
      const file = event.dataTransfer.files[0];
      const text = file ? await file.text() : event.dataTransfer.getData("text/plain");
      if (text) {
        area.value = text;
        later();
      }
    } } },
  said, h("div", { class: "two" },
    h("form", { class: "card", on: { submit } }, h("h2", null, t("title")), h("div", { class: "editor" }, numbers, area), state, faults,
      h("div", { class: "inline" }, field(t("flow_name"), name), field(t("tag"), tag), runButton), field(t("params"), params)),
    h("div", null, h("section", { class: "card" }, preview, defaults), named)));

  drawNumbers();
  check();
  return {
    node, title: t("title"),
    close() {
      closed = true;
      clearTimeout(timer);
      controller?.abort();
    },
  };
}
