// All runs, live: the list keeps itself up to date by the stream of events, and keeps its place while a person reads.
import { get, post, query as search, runPage, runPath } from "../lib/api.js";
import { h, keyed, put } from "../lib/dom.js";
import { away, count, shortId, time } from "../lib/format.js";
import { texts } from "../lib/i18n.js";
import { button, confirm, empty } from "../lib/parts.js";
import { go } from "../lib/router.js";
import { RUN_STATES, isTerminal, stateIcon, stateName } from "../lib/status.js";
import { follow } from "../lib/stream.js";
import { VirtualList } from "../lib/virtual.js";

const t = texts({
  en: {
    title: "Runs", search: "Search id, flow, worker, error", flow: "Flow", tag: "Tag", all: "All", state: "State", select: "Select",
    cancel_n: "Cancel {n}", sure: "Cancel {n} runs?", sure_text: "Their tasks are stopped. Runs that have ended stay as they are.",
    yes: "Cancel them", no: "Leave them", cancelled: "{n} asked to stop.", not_all: "{n} could not be cancelled: {first}",
    newer: "{n} newer: show", none: "No run fits these filters.", clear: "Clear filters", first: "Nothing has run yet.",
    first_text: "Submit a flow here, or from a terminal:", submit: "Submit a flow", lost: "Connection lost; trying again …",
    move: "next / previous run", open: "open the run", mark: "select the run", to_search: "search",
    clear_selection: "Clear selection", select_all: "Select all {n} loaded",
  },
  ja: {
    title: "実行", search: "ID・フロー・ワーカー・エラーを検索", flow: "フロー", tag: "タグ", all: "すべて", state: "状態",
    select: "選択", cancel_n: "{n} 件をキャンセル", sure: "{n} 件をキャンセルしますか?", sure_text: "タスクを止めます。終わった実行はそのままです。",
    yes: "キャンセルする", no: "やめる", cancelled: "{n} 件に停止を求めました。", not_all: "{n} 件はキャンセルできませんでした: {first}",
    newer: "新しい {n} 件を表示", none: "この条件に合う実行はありません。", clear: "条件を消す", first: "まだ何も実行していません。",
    first_text: "ここから、またはターミナルから投入できます:", submit: "フローを投入", lost: "接続が切れました。再接続しています…",
    move: "次 / 前の実行", open: "実行を開く", mark: "実行を選ぶ", to_search: "検索", clear_selection: "選択を消す", select_all: "表示中の {n} 件を選択",
  },
});

const ROW_HEIGHT = 44;
const PAGE = 100;
const COUNTS_MS = 1000;   // counts are read at most so often
const TICK_MS = 5000;     // "3 min ago" goes on
const TYPING_MS = 250;
const DRAW_MS = 60;       // changes that come close together are drawn together
const READING_MS = 20000; // a pointer that lay still for so long belongs to nobody who reads
const ROWS_MAX = 2000;    // more rows than these are forgotten while nobody looks at them
const FRESH_MAX = 1000;   // so many newer ones are kept; beyond that the list is read anew

const FILTERS = ["status", "flow", "tag", "q"];

// What the list shows of a run: newest change first, as the gateway orders it.
const isBefore = (a, b) => a.updated_at > b.updated_at || (a.updated_at === b.updated_at && a.run_id > b.run_id);

class Runs {
  constructor(filters) {
    this.filters = filters;
    this.items = [];        // in the order in which they are shown
    this.byId = new Map();
    this.fresh = new Map(); // have come or moved up while the reader was further down
    this.selected = new Set();
    this.at = -1;           // row of the keyboard
    this.cursor = "";       // "" before the first page, null after the last
  }

  fits(run) { return !this.filters.status || run.status === this.filters.status; }

  // Takes another list. What has changed since it was asked for is newer than the list.
  replace(items) {
    this.items = items;
    this.byId = new Map(items.map((run) => [run.run_id, run]));
    for (const [id, run] of this.fresh) if (this.byId.get(id)?.updated_at >= run.updated_at) this.fresh.delete(id);
  }

  add(items) {
    for (const run of items) {
      if (this.byId.has(run.run_id)) continue;
      this.byId.set(run.run_id, run);
      this.items.push(run);
    }
  }

  // A change from the stream: what is known shows it at once, but moves only when settle() is called.
  change(run) {
    const known = this.byId.get(run.run_id);
    if (known) Object.assign(known, run);
    if (!known && !this.fits(run)) this.fresh.delete(run.run_id);
    else if (this.fresh.size < FRESH_MAX) this.fresh.set(run.run_id, known ?? run);
  }

  // Puts what waits into its place.
  settle() {
    if (!this.fresh.size) return;
    const moved = [...this.fresh.values()].filter((run) => this.fits(run)).sort((a, b) => (isBefore(a, b) ? -1 : 1));
    const rest = this.items.filter((run) => !this.fresh.has(run.run_id) && this.fits(run));
    const next = [];
    let at = 0;
    for (const run of moved) {
      while (at < rest.length && isBefore(rest[at], run)) next.push(rest[at++]);
      next.push(run);
    }
    this.fresh.clear();
    this.replace(next.concat(rest.slice(at)));
  }

  remove(id) {
    this.fresh.delete(id);
    this.selected.delete(id);
    const known = this.byId.get(id);
    if (!known) return;
    this.byId.delete(id);
    const index = this.items.indexOf(known);
    this.items.splice(index, 1);
    if (index < this.at) this.at--;
  }
}

function rowOf(onSelect) {
  return (run) => {
    const box = h("input", { type: "checkbox", tabindex: "-1", "aria-label": `${t("select")} ${run.run_id}`,
      on: { change: () => onSelect(run.run_id, box.checked) } });
    const row = h("div", { class: "row run-row", role: "row" });
    row.parts = { box, icon: h("span", { class: "state", role: "cell" }), flow: h("a", { class: "flow" }),
      id: h("code", { class: "id", role: "cell" }), tag: h("span", { class: "tag", role: "cell" }),
      note: h("span", { class: "note", role: "cell" }),
      when: h("time", { class: "when", role: "cell" }) };
    const { flow, ...others } = row.parts;
    row.append(h("span", { role: "cell" }, h("label", null, box)), others.icon, h("span", { role: "cell" }, flow), others.id,
      others.tag, others.note,
      others.when);
    row.addEventListener("click", (event) => { if (!event.target.closest("a, label")) location.hash = runPage(run.run_id); });
    return row;
  };
}

function updateRow(runs) {
  return (row, run, index) => {
    const { box, icon, flow, id, tag, note, when } = row.parts;
    box.checked = runs.selected.has(run.run_id);
    row.classList.toggle("at", index === runs.at);
    if (row.dataset.state !== run.status) {
      row.dataset.state = run.status;
      put(icon, stateIcon(run.status), h("span", null, stateName(run.status)));
    }
    flow.textContent = run.flow_name ?? "";
    flow.href = runPage(run.run_id);
    id.textContent = shortId(run.run_id);
    id.title = run.run_id;
    tag.textContent = run.tag ?? "";
    note.textContent = run.error ?? run.worker_id ?? "";
    note.title = note.textContent;
    note.classList.toggle("bad", Boolean(run.error));
    when.textContent = away(run.updated_at);
    when.title = time(run.updated_at);
  };
}

// One button for each state, with how many runs are in it; pressed: only those. They stay, so that the focus does too.
function drawChips(node, filters, counts) {
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
  const states = RUN_STATES.filter((state) => counts[state] || filters.status === state);
  keyed(node, [["", t("all"), total], ...states.map((state) => [state, stateName(state), counts[state] ?? 0])], ([state]) => state,
    ([state, label]) => h("button", { class: "chip", type: "button", data: { state: state || "ALL" } },
      state && stateIcon(state), h("span", null, label), h("b")),
    (button, [state, , n]) => {
      const pressed = (filters.status ?? "") === state;
      button.setAttribute("aria-pressed", pressed);
      button.onclick = () => go(["runs"], { ...filters, status: pressed ? "" : state });
      button.lastChild.textContent = count(n);
    });
}

function nothingFor(filters) {
  const filtered = FILTERS.some((name) => filters[name]);
  return filtered ? empty("asleep", t("none"), h("a", { href: "#/runs" }, t("clear")))
    : empty("asleep", t("first"), h("a", { class: "button primary", href: "#/submit" }, t("submit")), t("first_text"),
      h("code", null, "pyoco-host client.lua submit --flow-name word-report --param limit=5"));
}

export function show(_, first) {
  let filters = first;
  const runs = new Runs(filters);
  const timers = new Set();
  let closed = false, loading = false, readAt = -Infinity, countsAt = 0, countsTimer, drawTimer;
  let asked = 0; // counts the questions: an answer to an earlier one is not wanted any more
  let wanted = 1; // rows of the next answer, at least

  const notice = h("p", { class: "notice", role: "status", hidden: true });
  const bar = h("div", { class: "selection", hidden: true });
  const newer = h("button", { class: "newer", type: "button", hidden: true, on: { click: showNewer } });
  const states = h("div", { class: "chips", role: "group", "aria-label": t("state") });
  const nothing = h("div");
  const list = new VirtualList({ label: t("title"), rowHeight: ROW_HEIGHT, keyOf: (run) => run.run_id, make: rowOf(select),
    update: updateRow(runs), onEnd: () => loadMore() });
  const box = h("div", { class: "list-box", on: {
    pointermove: () => { readAt = Date.now(); },
    pointerleave: () => { readAt = -Infinity; settle(); },
  } }, newer, list.node, nothing);

  function later(fn, ms) {
    const timer = setTimeout(() => { timers.delete(timer); if (!closed) fn(); }, ms);
    timers.add(timer);
    return timer;
  }

  function say(text, bad) {
    notice.textContent = text;
    notice.hidden = !text;
    notice.classList.toggle("bad", Boolean(bad));
  }

  function draw() {
    list.set(runs.items);
    const isEmpty = !runs.items.length && runs.cursor === null;
    list.node.hidden = isEmpty;
    if (isEmpty !== Boolean(nothing.firstChild)) put(nothing, isEmpty && nothingFor(filters));
    const waiting = [...runs.fresh.values()].filter((run) => !runs.byId.has(run.run_id)).length;
    newer.hidden = !waiting;
    newer.textContent = t("newer", { n: count(waiting) + (waiting >= FRESH_MAX ? "+" : "") });
  }

  // While a person reads (further down, with the pointer on the list, or rows selected) nothing moves away.
  const holds = () => !list.atTop || Date.now() - readAt < READING_MS || runs.selected.size > 0 || runs.at >= 0;

  function settle() {
    if (!holds()) {
      if (runs.items.length <= ROWS_MAX && runs.fresh.size < FRESH_MAX) runs.settle();
      else if (!loading) reload();
    }
    draw();
  }

  function showNewer() {
    list.node.scrollTop = 0;
    runs.at = -1;
    if (runs.fresh.size >= FRESH_MAX) reload();
    else runs.settle();
    draw();
  }

  function select(id, on) {
    if (on) runs.selected.add(id);
    else runs.selected.delete(id);
    drawSelection();
  }

  function drawSelection() {
    const ids = [...runs.selected].filter((id) => !isTerminal(runs.byId.get(id)?.status));
    bar.hidden = runs.selected.size === 0;
    put(bar, h("button", { class: "danger", type: "button", disabled: !ids.length, on: { click: () => cancel(ids) } },
      t("cancel_n", { n: ids.length })),
      button(t("select_all", { n: count(runs.items.length) }), selectAll, "quiet"), button(t("clear_selection"), clearSelection, "quiet"));
    list.draw();
  }

  function selectAll() {
    for (const { run_id: id, status } of runs.items) if (!isTerminal(status)) runs.selected.add(id);
    drawSelection();
  }

  function clearSelection() {
    runs.at = -1;
    runs.selected.clear();
    drawSelection();
    settle();
  }

  async function cancel(ids) {
    if (!await confirm(t("sure", { n: ids.length }), t("sure_text"), [t("yes"), "danger"], t("no"))) return;
    const results = await Promise.allSettled(ids.map((id) => post(runPath(id, "cancel"))));
    const failed = results.filter((one) => one.status === "rejected");
    say(failed.length ? t("not_all", { n: failed.length, first: failed[0].reason.message }) : t("cancelled", { n: ids.length }),
      failed.length > 0);
    clearSelection();
  }

  async function readCounts() {
    clearTimeout(countsTimer);
    countsTimer = undefined;
    countsAt = Date.now();
    const mine = filters;
    const answer = await get("/runs/counts", { flow: filters.flow, tag: filters.tag }).catch(() => null);
    if (answer && !closed && mine === filters) drawChips(states, filters, answer.counts);
  }

  function countsSoon() {
    if (!countsTimer) countsTimer = later(readCounts, Math.max(0, countsAt + COUNTS_MS - Date.now()));
  }

  async function loadMore() {
    if (loading || runs.cursor === null || closed) return;
    loading = true;
    const mine = asked;
    try {
      const answer = await fetchRows(filters, runs.cursor, wanted);
      if (closed || mine !== asked) return;
      if (runs.cursor === "") runs.replace(answer.items);
      else runs.add(answer.items);
      runs.cursor = answer.next_cursor;
      wanted = 1;
      say("");
    } catch (error) {
      if (closed || mine !== asked) return;
      say(error.message, true);
      if (error.status !== 401 && error.status !== 403) later(() => { if (mine === asked) { loading = false; loadMore(); } }, 2000);
      return;
    }
    loading = false;
    draw();
  }

  // Reads the list anew; who is further down keeps the rows there.
  function reload() {
    asked++;
    loading = false;
    runs.cursor = "";
    runs.fresh.clear();
    wanted = list.atTop ? 1 : Math.min(ROWS_MAX, runs.items.length);
    loadMore();
    countsSoon();
  }

  function open() {
    const { flow, tag, q } = filters; // all states: a run that leaves the one asked for has to be seen leaving
    return follow(() => `/events${search({ flow, tag, q, timeout_sec: 3600 })}`, (event, data) => {
      if (event === "run") runs.change(data);
      else if (event === "deleted" || event === "left") runs.remove(data.run_id);
      else if (event === "reset") reload(); // also the first one: what comes after it is told from here on
      else return;
      countsSoon();
      drawTimer ??= later(() => { drawTimer = undefined; settle(); }, DRAW_MS);
    }, (state, error) => {
      say(state === "lost" ? error?.message ?? t("lost") : "", state === "lost");
      if (state === "lost" && runs.cursor === "") loadMore(); // no stream: the list at least
    });
  }
  let stream = open();

  function move(step) {
    if (!runs.items.length) return;
    runs.at = Math.max(0, Math.min(runs.items.length - 1, runs.at + step));
    list.show(runs.at);
  }

  function mark() {
    const id = runs.items[runs.at]?.run_id;
    if (id) select(id, !runs.selected.has(id));
  }

  const field = (name, label, kind) => {
    let timer;
    return h("label", { class: "field" }, h("span", null, label),
      h("input", { type: kind ?? "text", value: filters[name] ?? "", name, spellcheck: "false",
      on: { input: (event) => {
        clearTimeout(timer);
        timer = later(() => go(["runs"], { ...filters, [name]: event.target.value.trim() }, true), TYPING_MS);
      } } }));
  };
  const filterBar = h("form", { class: "filters", role: "search", on: { submit: (event) => event.preventDefault() } },
    field("q", t("search"), "search"), field("flow", t("flow")), field("tag", t("tag")));

  const tick = setInterval(settle, TICK_MS);
  readCounts();

  return {
    node: h("section", { class: "runs-view", "aria-label": t("title") }, filterBar, states, bar, notice, box),
    title: t("title"),
    // Other filters: the fields stay as they are, with what is being typed.
    update(next) {
      filters = runs.filters = next;
      for (const name of ["q", "flow", "tag"]) {
        const input = filterBar.elements[name];
        if (input !== document.activeElement) input.value = next[name] ?? "";
      }
      asked++; // what was asked with the old filters is not wanted any more
      loading = false;
      runs.cursor = "";
      runs.fresh.clear();
      clearSelection(); // nobody should cancel what is out of sight
      list.node.scrollTop = 0;
      stream.close();
      stream = open();
      readCounts();
    },
    keys: [
      { key: "j", text: () => t("move"), run: () => move(1) },
      { key: "k", text: () => t("move"), run: () => move(-1) },
      { key: "Enter", text: () => t("open"), run: () => { if (runs.items[runs.at]) location.hash = runPage(runs.items[runs.at].run_id); } },
      { key: "x", text: () => t("mark"), run: mark },
      { key: "/", text: () => t("to_search"), run: () => filterBar.elements.q.focus() },
      { key: "Escape", text: () => t("clear_selection"), run: clearSelection },
    ],
    close() {
      closed = true;
      stream.close();
      clearInterval(tick);
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

// Pages of the list until there are as many rows as wanted; an empty cursor asks for the first one.
async function fetchRows({ status, flow, tag, q }, cursor, wanted) {
  const items = [];
  do {
    const answer = await get(`/runs${search({ status, flow, tag, q, limit: PAGE })}&cursor=${encodeURIComponent(cursor)}`);
    items.push(...answer.items);
    cursor = answer.next_cursor;
  } while (cursor !== null && items.length < wanted);
  return { items, next_cursor: cursor };
}
