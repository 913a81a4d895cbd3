// The workers.
import {
  away, badge, button, bytes, count, empty, fact, field, get, go, h, keyed, runLink, send, setText, texts, time, urlOf,
} from "../lib/ui.js";
import { panel, renew } from "../lib/panel.js";

const t = texts({
  all: ["Also those that are gone", "いなくなったものも"], hidden: ["Also hidden ones", "隠したものも"],
  search: ["Search name, tag, host", "名前・タグ・ホストを検索"], none: ["No worker is here.", "ワーカーがいません。"], none_text: ["Start one:", "起動するには:"],
  sum: ["{n} workers, {busy} of {slots} slots busy", "ワーカー {n} 個、スロット {slots} 個中 {busy} 個使用中"],
  busy: ["{n} of {all} busy", "{all} 個中 {n} 個使用中"], last: ["Last run", "最後の実行"], hide: ["Hide", "隠す"], show: ["Show again", "再表示"],
  seen: ["seen {when}", "確認 {when}"], flows: ["Flows: {n}", "フロー: {n}"], broken: ["Flow files that do not load", "読み込めないフローファイル"],
  sync_off: ["Packages: not synced", "パッケージ: 同期なし"], sync_ok: ["Packages: {n}", "パッケージ: {n}"],
  sync_error: ["Package sync failed: {error}", "パッケージの同期に失敗: {error}"], skipped: ["Packages skipped: {n}", "対象外のパッケージ: {n}"],
  reason: ["not for this worker ({reason})", "このワーカー向けではない ({reason})"],
});

const EVERY_MS = 3000;
const PADS_MAX = 24; // more slots are told as numbers only

const slotsOf = ({ slots }) => (slots && typeof slots === "object" ? Object.values(slots).reduce((sum, n) => sum + n, 0) : slots ?? 0);
const runsOf = (worker) => (worker.current_run_ids ?? [worker.current_run_id]).filter(Boolean);

const list = (label, items, kind) => items.length > 0 && h("details", { open: kind === "bad" }, h("summary", { class: kind }, label),
  h("ul", items.map((one) => h("li", one))));

// What a card shows, but what changes with each heartbeat.
function content(worker, names, act) {
  const running = runsOf(worker), slots = slotsOf(worker), sync = worker.wheel_sync ?? {};
  const installed = sync.installed_wheels ?? [], skipped = sync.skipped_incompatible ?? [], flows = worker.flows ?? [];
  const hide = () => send("PATCH", urlOf("workers", worker.worker_id), { json: { hidden: !worker.hidden } });
  return [
    h("div.run-head", h("h2", worker.worker_id), badge(worker.state), button(t(worker.hidden ? "show" : "hide"), () => act(hide), "quiet")),
    slots > 0 && h("p.pads", slots <= PADS_MAX && Array.from({ length: slots }, (_, at) =>
      h("span", { class: at < running.length ? "pad busy" : "pad" })), t("busy", { n: running.length, all: slots })),
    running.length > 0 && h("ul.plain", running.map((id) => h("li", runLink(id, names.get(id))))),
    h("p.tags", worker.tags.map((tag) => h("span", tag))),
    h("dl.facts", fact(t("last"), worker.last_run_id && [runLink(worker.last_run_id), " ", badge(worker.last_run_status)])),
    sync.last_result === "error" ? h("p.bad.wrap", { title: sync.last_error }, t("sync_error", { error: sync.last_error ?? "" }))
      : !sync.enabled && h("p.soft", t("sync_off")),
    list(t("broken"), (worker.flow_errors ?? []).map((one) => [h("code", `${one.file}${one.line ? `:${one.line}` : ""}`), ` ${one.message}`]),
      "bad"),
    list(t("flows", { n: flows.length }), flows.map((one) => one.name)),
    list(t("sync_ok", { n: installed.length }), installed.map((one) => `${one.package_name} ${one.package_version}`)),
    list(t("skipped", { n: skipped.length }), skipped.map((one) => `${one.wheel_name}: ${t("reason", { reason: one.reason })}`)),
  ];
}

// Only what has changed is made anew: with hundreds of workers a page must not stutter.
function cardOf(worker) {
  const body = h("div"), foot = h("p.soft.foot");
  return Object.assign(h("article.card.worker", { data: { key: worker.worker_id } }, body, foot), { parts: { body, foot } });
}

function updateCard({ parts }, worker, names, act) {
  const { state, hidden, tags, slots, last_run_id, last_run_status, flows, flow_errors, wheel_sync: sync } = worker;
  const key = JSON.stringify([state, hidden, tags, slots, last_run_id, last_run_status, flows, flow_errors, sync?.last_result,
    sync?.last_error, sync?.installed_wheels, sync?.skipped_incompatible, runsOf(worker).map((id) => [id, names.get(id)])]);
  if (parts.key !== key) {
    parts.key = key;
    renew(parts.body, content(worker, names, act));
  }
  setText(parts.foot, [worker.host && `${worker.host} (${worker.pid})`, worker.version, bytes(worker.memory_bytes),
    t("seen", { when: away(worker.last_seen_at) })].filter(Boolean).join(" · "));
  parts.foot.title = time(worker.last_seen_at);
}

// Who was lost comes first; then by name, so that nobody moves.
const inOrder = (a, b) => (b.state === "DISCONNECTED") - (a.state === "DISCONNECTED")
  || a.worker_id.localeCompare(b.worker_id, undefined, { numeric: true });

export function show(_, query) {
  const set = (name, value) => go(["workers"], { ...query, [name]: value }, name === "q");
  const boxes = ["all", "hidden"].map((name) => h("input", { type: "checkbox", name, checked: query[name] === "1",
    onchange: (event) => set(name, event.target.checked ? "1" : "") }));
  const search = h("input", { type: "search", name: "q", value: query.q ?? "", oninput: () => set("q", search.value) });
  const sum = h("p.soft"), cards = h("div.cards");
  const fits = ({ worker_id: id, tags, host }) => [id, host, ...tags].join(" ").toLowerCase().includes((query.q ?? "").toLowerCase());
  let known = [[], []];

  function draw([workers, runs]) {
    known = [workers, runs];
    const shown = workers.filter(fits).sort(inOrder), names = new Map(runs.map((run) => [run.run_id, run.flow_name]));
    const add = (of) => count(shown.reduce((n, worker) => n + of(worker), 0));
    setText(sum, t("sum", { n: count(shown.length), busy: add((one) => runsOf(one).length), slots: add(slotsOf) }));
    keyed(cards, shown, (one) => one.worker_id, cardOf, (card, worker) => updateCard(card, worker, names, view.act));
    return shown.length ? cards : empty("asleep", t("none"), t("none_text"), h("code", "pyoco-host worker.lua --tags default"));
  }

  const view = panel({ title: t("workers"), every: EVERY_MS, draw,
    before: h("div.inline", field(t("search"), search), boxes.map((box) => h("label", box, " ", t(box.name))), sum),
    read: () => Promise.all([get("/workers", { scope: query.all ? "all" : "active", include_hidden: query.hidden ? "true" : "", limit: 500 }),
      get("/runs", { status: "RUNNING", limit: 200 })]) });
  return Object.assign(view, {
    update(next) {
      const isOther = next.all !== query.all || next.hidden !== query.hidden;
      query = next;
      for (const box of boxes) box.checked = query[box.name] === "1";
      if (isOther) view.refresh();
      else view.redraw(known);
    },
  });
}
