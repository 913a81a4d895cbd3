// All runs, live by the stream of events; the list keeps its place while a person reads.
import {
  RUN_STATES, apiKey, away, button, confirm, count, empty, field, get, go, h, href, isTerminal, keyed, notice, post, put, queryOf,
  runPage, runPath, setText, shortId, stateIcon, stateName, texts, time,
} from "../lib/ui.js";
import { follow } from "../lib/stream.js";
import { VirtualList } from "../lib/virtual.js";
import { attentionView } from "../runs/attention.js";

const t = texts({
  search: ["Search id, flow, worker, error", "ID・フロー・ワーカー・エラーを検索"], all: ["All", "すべて"], select: ["Select", "選択"],
  cancel_n: ["Cancel {n}", "{n} 件をキャンセル"], sure: ["Cancel {n} runs?", "{n} 件をキャンセルしますか?"],
  sure_text: ["Their tasks stop. Runs that have ended stay as they are.", "タスクを止めます。終わった実行はそのままです。"],
  yes: ["Cancel them", "キャンセルする"], no: ["Leave them", "やめる"], asking: ["{n} of {all} asked to stop …", "{all} 件中 {n} 件に停止を求めました…"],
  cancelled: ["{n} asked to stop.", "{n} 件に停止を求めました。"],
  not_all: ["{n} could not be cancelled: {first}", "{n} 件はキャンセルできませんでした: {first}"], newer: ["{n} newer: show", "新しい {n} 件を表示"],
  none: ["No run fits these filters.", "この条件に合う実行はありません。"], clear: ["Clear filters", "条件を消す"],
  first: ["Nothing has run yet.", "まだ何も実行していません。"], submit: ["Submit a flow", "フローを投入"],
  first_text: ["Submit a flow here, or from a terminal:", "ここから、またはターミナルから投入できます:"],
  waits: ["waits for a free worker", "空いているワーカーを待っています"],
  approval: ["waits for someone to approve it", "承認を待っています"],
  next: ["next run", "次の実行"], previous: ["previous run", "前の実行"], open: ["open the run", "実行を開く"], mark: ["select the run", "実行を選ぶ"],
  to_search: ["search", "検索"], clear_selection: ["Clear selection", "選択を消す"], select_all: ["Select all {n} loaded", "表示中の {n} 件を選択"],
});

const PAGE = 100;
const COUNTS_MS = 1000;   // counts are read at most so often
const TICK_MS = 5000;     // "3 min ago" goes on
const TYPING_MS = 250;
const DRAW_MS = 60;       // changes that come close together are drawn together
const READING_MS = 20000; // after so long without a key or a move of the pointer nobody reads
const ROWS_MAX = 2000;    // more rows than these are forgotten while nobody looks at them
const FRESH_MAX = 1000;   // so many newer ones are kept; beyond that the list is read anew

const FIELDS = ["q", "flow", "tag"];

let left; // the list as it was left, for who comes back to it: { key, runs, place, last }

const keyOf = (filters) => JSON.stringify([filters, apiKey()]); // another key may see other runs

// Where the list was left, for the way back to it.
export const listPage = () => (left ? href(["runs"], left.runs.filters) : "#/runs");

// What the list shows of a run: newest change first, as the gateway orders it.
const isBefore = (a, b) => a.updated_at > b.updated_at || (a.updated_at === b.updated_at && a.run_id > b.run_id);

class Runs {
  constructor(filters) {
    this.filters = filters;
    this.items = [];        // in the order in which they are shown
    this.byId = new Map();
    this.fresh = new Map(); // have come or moved up while the reader was further down
    this.selected = new Set();
    this.at = "";           // run of the keyboard, or the one that was opened last
    this.cursor = "";       // "" before the first page, null after the last
  }

  fits(run) { return !this.filters.status || run.status === this.filters.status; }

  // What has changed since this list was asked for is newer than the list.
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

  // What is known shows a change at once, but moves only when settle() is called.
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
    this.items.splice(this.items.indexOf(known), 1);
  }
}

function rowOf(onSelect, onOpen) {
  return (run) => {
    const box = h("input", { type: "checkbox", tabindex: "-1", "aria-label": `${t("select")} ${run.run_id}`,
      onchange: () => onSelect(run.run_id, box.checked) });
    const cell = (name, child) => h("span", { class: name, role: "cell" }, child);
    const flow = h("a", { href: runPage(run.run_id) }), when = h("time");
    const row = h("div.row.run-row", { role: "row", onclick: (event) => {
      if (event.target.closest("label")) return;
      onOpen(run.run_id);
      if (!event.target.closest("a")) flow.click();
    } }, cell("box", h("label", box)), cell("state"), cell("flow", flow), cell("id", h("code", { title: run.run_id }, shortId(run.run_id))),
    cell("tag"), cell("note"), cell("when", when));
    const [, state, , , tag, note] = row.children;
    row.parts = { box, flow, when, state, tag, note };
    return row;
  };
}

// What is wrong with a run, for what it waits, or who runs it.
function noteOf(run, isServed) {
  if (run.error) return [run.error, "bad"];
  if (run.status === "PENDING") return isServed(run.tag) ? [t("waits")] : [t("nobody"), "waits"];
  if (run.status === "PENDING_APPROVAL") return [t("approval"), "waits"];
  return [run.worker_id ?? ""];
}

function updateRow(runs, isServed) {
  return (row, run) => {
    const { box, flow, when, state, tag, note } = row.parts;
    box.checked = runs.selected.has(run.run_id);
    row.classList.toggle("at", run.run_id === runs.at);
    if (row.dataset.state !== run.status) {
      row.dataset.state = run.status;
      put(state, stateIcon(run.status), h("span", stateName(run.status)));
    }
    setText(flow, run.flow_name ?? "");
    setText(tag, run.tag ?? "");
    const [text, kind = ""] = noteOf(run, isServed);
    setText(note, text);
    note.title = text;
    note.className = `note ${kind}`;
    setText(when, away(run.updated_at));
    when.title = time(run.updated_at);
  };
}

// One button for each state, with how many runs are in it. They stay, so that the focus does too.
function drawChips(node, filters, counts) {
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
  const states = RUN_STATES.filter((state) => counts[state] || filters.status === state);
  keyed(node, [["", t("all"), total], ...states.map((state) => [state, stateName(state), counts[state] ?? 0])], ([state]) => state,
    ([state, label]) => h("button.chip", { data: { state: state || "ALL" } },
      state && stateIcon(state), h("span", label), h("b")),
    (chip, [state, , n]) => {
      const pressed = (filters.status ?? "") === state;
      chip.setAttribute("aria-pressed", pressed);
      chip.onclick = () => go(["runs"], { ...filters, status: pressed ? "" : state });
      setText(chip.lastChild, count(n));
    });
}

const nothingFor = (filters) => (["status", ...FIELDS].some((name) => filters[name])
  ? empty("asleep", t("none"), h("a", { href: "#/runs" }, t("clear")))
  : empty("asleep", t("first"), h("a.button.primary", { href: "#/submit" }, t("submit")), t("first_text"),
    h("code", "pyoco-host client.lua submit --flow-name word-report --param limit=5")));

export function show(_, first) {
  let filters = first;
  const before = left?.key === keyOf(filters) ? left : undefined;
  const runs = before?.runs ?? new Runs(filters);
  const timers = new Set();
  let closed = false, loading = false, readAt = -Infinity, countsAt = 0, countsTimer, drawTimer;
  let asked = 0; // counts the questions: an answer to an earlier one is not wanted any more
  let wanted = 1; // rows of the next answer, at least

  const { node: said, say } = notice();
  const bar = h("div.selection", { hidden: true });
  const newer = h("button.newer.primary", { hidden: true, onclick: showNewer });
  const states = h("div.chips", { role: "group", "aria-label": t("state") });
  const nothing = h("div");
  const attention = attentionView(() => list.draw());
  const list = new VirtualList({ label: t("runs"), keyOf: (run) => run.run_id,
    make: rowOf(select, (id) => { runs.at = id; }), update: updateRow(runs, attention.isServed), onEnd: () => loadMore() });
  const reads = () => { readAt = Date.now(); };
  const box = h("div.list-box", {
    onpointermove: reads, onfocusin: reads,
    onpointerleave: () => { readAt = -Infinity; settle(); },
    onkeydown: (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      move(step);
    },
  }, newer, list.node, nothing);

  function later(fn, ms) {
    const timer = setTimeout(() => { timers.delete(timer); if (!closed) fn(); }, ms);
    timers.add(timer);
    return timer;
  }

  function draw() {
    list.set(runs.items);
    const isEmpty = !runs.items.length && runs.cursor === null;
    list.node.hidden = isEmpty;
    if (isEmpty !== Boolean(nothing.firstChild)) put(nothing, isEmpty && nothingFor(filters));
    let waiting = 0;
    for (const id of runs.fresh.keys()) if (!runs.byId.has(id)) waiting++;
    newer.hidden = !waiting;
    setText(newer, t("newer", { n: count(waiting) + (waiting >= FRESH_MAX ? "+" : "") }));
  }

  // While a person reads nothing moves away.
  const holds = () => !list.atTop || Date.now() - readAt < READING_MS || runs.selected.size > 0;

  function settle() {
    if (!holds()) {
      if (runs.items.length <= ROWS_MAX && runs.fresh.size < FRESH_MAX) runs.settle();
      else if (!loading) reload();
    }
    draw();
  }

  function showNewer() {
    list.node.scrollTop = 0;
    if (runs.fresh.size >= FRESH_MAX) reload();
    else runs.settle();
    draw();
  }

  function select(id, on) {
    runs.selected[on ? "add" : "delete"](id);
    drawSelection();
  }

  function drawSelection() {
    const ids = [...runs.selected].filter((id) => !isTerminal(runs.byId.get(id)?.status));
    bar.hidden = runs.selected.size === 0;
    const cancelling = button(t("cancel_n", { n: ids.length }), () => cancel(ids), "danger");
    cancelling.disabled = !ids.length;
    put(bar, cancelling,
    button(t("select_all", { n: count(runs.items.length) }), selectAll, "quiet"), button(t("clear_selection"), clearSelection, "quiet"));
    list.draw();
  }

  function selectAll() {
    for (const { run_id: id, status } of runs.items) if (!isTerminal(status)) runs.selected.add(id);
    drawSelection();
  }

  function clearSelection() {
    runs.at = "";
    readAt = -Infinity;
    runs.selected.clear();
    drawSelection();
    settle();
  }

  async function cancel(ids) {
    if (!await confirm(t("sure", { n: ids.length }), t("sure_text"), [t("yes"), "danger"], t("no"))) return;
    let n = 0;
    const ask = async (id) => {
      await post(runPath(id, "cancel"));
      say(t("asking", { n: ++n, all: ids.length }));
    };
    const failed = (await Promise.allSettled(ids.map(ask))).filter((one) => one.status === "rejected");
    say(failed.length ? t("not_all", { n: failed.length, first: failed[0].reason.message }) : t("cancelled", { n }), failed.length > 0);
    clearSelection();
  }

  async function readCounts() {
    clearTimeout(countsTimer);
    countsTimer = undefined;
    countsAt = Date.now();
    const mine = filters;
    const answer = await get("/runs/counts", { flow: filters.flow, tag: filters.tag }).catch(() => null);
    if (!answer || closed || mine !== filters) return;
    drawChips(states, filters, answer.counts);
    attention.take(answer.counts);
    document.title = `${answer.counts.RUNNING ? `(${answer.counts.RUNNING}) ` : ""}${t("runs")} · pyoco`;
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
      const place = runs.cursor === "" && !list.atTop && list.place;
      if (runs.cursor === "") runs.replace(answer.items);
      else runs.add(answer.items);
      runs.cursor = answer.next_cursor;
      wanted = 1;
      say("");
      loading = false;
      draw();
      if (place) list.keep(place);
    } catch (error) {
      if (closed || mine !== asked) return;
      say(error.message, true);
      if (error.status !== 401 && error.status !== 403) later(() => { if (mine === asked) { loading = false; loadMore(); } }, 2000);
    }
  }

  // What was asked is not wanted any more.
  function forget() {
    asked++;
    loading = false;
    runs.cursor = "";
    runs.fresh.clear();
  }

  // Reads the list anew; who is further down keeps the rows there.
  function reload() {
    forget();
    wanted = list.atTop ? 1 : Math.min(ROWS_MAX, runs.items.length);
    loadMore();
    countsSoon();
  }

  function open(last) {
    const { flow, tag, q } = filters; // all states: a run that leaves the one asked for has to be seen leaving
    return follow(() => `/events${queryOf({ flow, tag, q, timeout_sec: 3600 })}`, (event, data) => {
      if (event === "run") runs.change(data);
      else if (event === "deleted" || event === "left") runs.remove(data.run_id);
      else if (event === "reset") reload(); // also the first one: what comes after it is told from here on
      else return;
      countsSoon();
      drawTimer ??= later(() => { drawTimer = undefined; settle(); }, DRAW_MS);
    }, (state, error) => {
      say(state === "lost" ? error?.message ?? t("lost") : "", state === "lost");
      if (state === "lost" && runs.cursor === "") loadMore(); // no stream: the list at least
    }, last);
  }

  // The focus goes along: who hears the page hears the run.
  function move(step) {
    if (!runs.items.length) return;
    const at = runs.items.indexOf(runs.byId.get(runs.at));
    const next = Math.max(0, Math.min(runs.items.length - 1, at + step));
    runs.at = runs.items[next].run_id;
    list.show(next).parts.flow.focus({ preventScroll: true });
  }

  const known = () => runs.byId.get(runs.at);
  const input = (name, label, type = "text") => {
    let timer;
    return field(label, h("input", { type, value: filters[name] ?? "", name, oninput: ({ target }) => {
      clearTimeout(timer);
      timer = later(() => go(["runs"], { ...filters, [name]: target.value.trim() }, true), TYPING_MS);
    } }));
  };
  const filterBar = h("form.filters", { role: "search", onsubmit: (event) => event.preventDefault() },
    input("q", t("search"), "search"), input("flow", t("flow")), input("tag", t("tag")));

  let stream = open(before?.last);
  const tick = setInterval(settle, TICK_MS);
  readCounts();

  return {
    node: h("section.runs-view", { "aria-label": t("runs") }, filterBar, states, attention.node, bar, said, box),
    title: t("runs"),
    // It is in the page now. Who comes back finds the list as it was left.
    shown() {
      if (!before) return;
      draw();
      list.keep(before.place);
      if (runs.selected.size) drawSelection();
      list.rows.keyed.get(runs.at)?.parts.flow.focus({ preventScroll: true });
    },
    // Other filters: what is being typed stays.
    update(next) {
      filters = runs.filters = next;
      for (const name of FIELDS) {
        const { [name]: one } = filterBar.elements;
        if (one !== document.activeElement) one.value = next[name] ?? "";
      }
      forget();
      clearSelection(); // nobody should cancel what is out of sight
      list.node.scrollTop = 0;
      stream.close();
      stream = open();
      readCounts();
    },
    keys: [
      { key: "j", text: t("next"), run: () => move(1) },
      { key: "k", text: t("previous"), run: () => move(-1) },
      { key: "Enter", text: t("open"), run: () => { if (known()) location.hash = runPage(runs.at); } },
      { key: "x", text: t("mark"), run: () => { if (known()) select(runs.at, !runs.selected.has(runs.at)); } },
      { key: "/", text: t("to_search"), run: () => filterBar.elements.q.focus() },
      { key: "Escape", text: t("clear_selection"), run: clearSelection },
    ],
    close() {
      closed = true;
      left = { key: keyOf(filters), runs, place: list.place, last: stream.last };
      stream.close();
      attention.close();
      clearInterval(tick);
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

// Pages of the list until there are as many rows as wanted.
async function fetchRows({ status, flow, tag, q }, cursor, wanted) {
  const items = [];
  do {
    const answer = await get(`/runs${queryOf({ status, flow, tag, q, limit: PAGE })}&cursor=${encodeURIComponent(cursor)}`);
    items.push(...answer.items);
    cursor = answer.next_cursor;
  } while (cursor !== null && items.length < wanted);
  return { items, next_cursor: cursor };
}
