// One run, live.
import {
  badge, duration, empty, fact, get, h, href, isTerminal, notice, pre, put, queryOf, readText, runLink, runPath, setText, shortId, texts, time,
} from "../lib/ui.js";
import { follow } from "../lib/stream.js";
import { actionsView } from "../run/actions.js";
import { graphView } from "../run/graph.js";
import { taskView } from "../run/task.js";
import { timelineView } from "../run/timeline.js";
import { listPage } from "./runs.js";

const t = texts({
  graph: ["Graph", "グラフ"], source: ["Source", "ソース"], details: ["Relations", "関係"],
  waiting: ["It waits for a free worker with the tag {tag}.", "タグ {tag} の空いているワーカーを待っています。"],
  no_worker: ["No worker with the tag {tag} is here: start one with --tags {tag}.", "タグ {tag} のワーカーがいません。--tags {tag} で起動してください。"],
  approval: ["It waits for someone to approve it: it would start other runs.", "承認を待っています。この実行は他の実行を始めます。"],
  worker: ["Worker", "ワーカー"], waits: ["Waits for", "待ち時間"], parent: ["Parent", "親"], root: ["Root", "ルート"], children: ["Children", "子"],
  schedule: ["Schedule", "スケジュール"], bundle: ["Bundle", "バンドル"], attempt: ["Delivery", "配信"], crashes: ["Crashes", "クラッシュ"],
  approved: ["Approved", "承認"], rejected: ["Rejected", "却下"],
  no_graph: ["The graph is known once a worker has taken the run.", "ワーカーが実行を受け取るとグラフが分かります。"],
  missing: ["There is no such run. It may have been removed, or the id is wrong.", "その実行はありません。削除されたか、ID が違います。"],
  back: ["All runs", "実行一覧"], requeued: ["Again after", "再投入元"],
});

const TICK_MS = 250; // bars of running tasks grow
const WORKERS_AFTER_MS = 1500;

const decision = (at, by, text) => at && [time(at), by, text].filter(Boolean).join(" ");

function relationFacts(run) {
  const { parent_run_id: parent, root_run_id: root, schedule_id: schedule, bundle_hash: bundle } = run;
  const rows = {
    parent: runLink(parent), root: root !== run.run_id && root !== parent && runLink(root),
    children: run.child_run_ids?.length > 0 && h("span.links", run.child_run_ids.map((id) => runLink(id))),
    schedule: schedule && h("a", { href: href(["schedules"], { id: schedule }) }, h("code", shortId(schedule))),
    bundle: bundle && h("code", { title: bundle }, bundle.slice(0, 12)), requeued: runLink(run.requeued_from),
    attempt: run.attempt?.delivery > 1 && run.attempt.delivery, crashes: run.crash_count > 0 && run.crash_count,
    approved: decision(run.approved_at, run.approved_by, run.approval_comment),
    rejected: decision(run.rejected_at, run.rejected_by, run.rejection_reason),
  };
  return h("dl.facts", Object.entries(rows).map(([name, value]) => fact(t(name), value)));
}

export function show([runId], first) {
  let snapshot, graph, source, relatives, relativesKey, offset = 0, picked = first.task, closed = false, workersTimer;

  const state = h("span.run-state", { role: "status" });
  const title = h("h1");
  const values = {};
  const facts = h("dl.facts", ["run", "tag", "worker", "started", "took", "waits"].map((name) =>
    h("div", h("dt", t(name)), values[name] = h("dd"))));
  const { node: said, say } = notice();
  const hint = h("p.hint", { hidden: true });
  const error = h("pre.error", { tabindex: "0", hidden: true });
  const card = (label, child) => h("section.card", { "aria-label": label }, h("h2", label), child);
  const graphBox = card(t("graph"), empty("asleep", t("no_graph")));
  const params = pre(""), related = h("div"), relatedTitle = h("h2", t("details")), sourceBox = pre("");
  const actions = actionsView(say);
  const timeline = timelineView(pick), timelineBox = card(t("timeline"), timeline.node);
  const task = taskView(runId);
  const body = h("div.run-body", graphBox, timelineBox,
    h("div.run-side", task.node,
      h("section.card", relatedTitle, related, h("h2", t("params")), params,
        h("details", { ontoggle: (event) => { if (event.target.open) sourceBox.textContent = source ?? ""; } },
          h("summary", t("source")), sourceBox))));
  const node = h("article.run-view",
    h("div.run-head", h("a.up", { href: listPage(), title: t("back"), "aria-label": t("back") }, "‹"), title, state,
      actions.node), said, hint, error, facts, body);
  let drawnGraph, followed;

  function setFact(name, text) {
    setText(values[name], text || "");
    values[name].parentNode.hidden = !text;
  }

  function pick(name) {
    picked = name;
    history.replaceState(null, "", href(["runs", runId], { task: name }));
    draw();
  }

  for (const name in values) setFact(name, name === "run" && runId);
  const now = () => snapshot.end_time ?? (isTerminal(snapshot.status) ? snapshot.updated_at : Date.now() / 1000 + offset);

  // The task to look at while nobody has chosen one. It stays while a person is at it.
  function worthALook(tasks, failed) {
    if (followed && task.node.matches(":hover, :focus-within")) return followed;
    const names = Object.keys(tasks), since = (name) => snapshot.task_records?.[name]?.started_at ?? 0;
    return followed = failed ?? names.find((name) => tasks[name] === "RUNNING") ?? names.sort((a, b) => since(b) - since(a))[0];
  }

  // What has not changed is left alone: a selection and the focus stay.
  function draw() {
    if (!snapshot || closed) return;
    const { status, flow_name: flow, tasks = {} } = snapshot;
    if (state.dataset.state !== status) {
      state.dataset.state = status;
      put(state, badge(status));
    }
    setText(title, flow);
    document.title = `${flow} · ${shortId(runId)} · pyoco`;
    setFact("tag", snapshot.tag);
    setFact("worker", snapshot.worker_id);
    setFact("started", time(snapshot.start_time));
    const failed = Object.keys(tasks).find((one) => tasks[one] === "FAILED");
    const name = picked ?? worthALook(tasks, failed);
    error.hidden = !snapshot.error;
    graphBox.hidden = !drawnGraph && isTerminal(status);
    timelineBox.hidden = !name;
    setText(error, [failed, snapshot.error].filter(Boolean).join(": "));
    actions.update(snapshot);
    drawnGraph?.pick(name);
    if (name) task.show(name, snapshot, graph, source, relatives);
    setText(params, JSON.stringify(snapshot.params ?? {}, null, 2));
    const relations = relationFacts(snapshot);
    if (!relations.isEqualNode(related.firstChild)) put(related, relations);
    relatedTitle.hidden = related.hidden = !relations.firstChild;
    drawHint();
    drawTime();
  }

  // What time alone changes.
  function drawTime() {
    setFact("took", snapshot.start_time && duration(now() - snapshot.start_time));
    setFact("waits", snapshot.status === "PENDING" && duration(Math.round(now() - snapshot.updated_at)));
    timeline.update(snapshot, graph, now());
    drawnGraph?.update(snapshot, now());
  }

  // Why nothing happens: said after a moment, so that it does not flicker.
  function drawHint() {
    const { status } = snapshot;
    clearTimeout(workersTimer);
    hint.hidden = status !== "PENDING_APPROVAL" && (status !== "PENDING" || hint.dataset.for !== "PENDING");
    if (status === "PENDING_APPROVAL") hint.textContent = t("approval");
    hint.dataset.for = status;
    if (status === "PENDING") workersTimer = setTimeout(async () => {
      const workers = await get("/workers", { limit: 500 }).catch(() => null);
      if (closed || !workers || snapshot.status !== "PENDING") return;
      const some = workers.some((worker) => worker.tags.includes(snapshot.tag));
      hint.textContent = t(some ? "waiting" : "no_worker", { tag: snapshot.tag });
      hint.hidden = false;
    }, WORKERS_AFTER_MS);
  }

  // The graph and the source are known once somebody has compiled the flow.
  async function loadGraph() {
    const hash = snapshot.graph_sha256;
    if (!hash || graph?.sha256 === hash) return;
    graph = { sha256: hash, nodes: [] };
    const [gotGraph, gotSource] = await Promise.all([get(runPath(runId, "graph")).catch(() => null),
      readText(runPath(runId, "source")).catch(() => "")]);
    if (closed) return;
    if (!gotGraph) {
      graph = undefined;
      return;
    }
    graph = Object.assign(gotGraph, { sha256: hash });
    source = gotSource;
    drawnGraph = graphView(graph, pick);
    put(graphBox, h("h2", t("graph")), drawnGraph.node);
    body.classList.toggle("wide", Boolean(drawnGraph.isWide));
    draw();
  }

  // Which task started which child.
  async function loadRelatives() {
    const key = `${snapshot.child_run_ids?.length ?? 0} ${isTerminal(snapshot.status)}`;
    if (!snapshot.child_run_ids?.length || key === relativesKey) return;
    relativesKey = key;
    relatives = await get(runPath(runId, "relations")).catch(() => undefined);
    draw();
  }

  function take(next) {
    snapshot = next;
    draw();
    loadGraph();
    loadRelatives();
    if (isTerminal(next.status)) stream.close();
  }

  const stream = follow(() => runPath(runId, "watch") + queryOf({ include: "records", timeout_sec: 600, until: "terminal" }),
    (event, data) => {
    if (event !== "snapshot") return;
    offset = data.ts - Date.now() / 1000;
    take(data.snapshot);
  }, (kind, failure) => {
    if (failure?.status === 404 && !snapshot) put(node, empty("worried", t("missing"), h("a", { href: listPage() }, t("back"))));
    else if (kind === "open") say("");
    else if (!isTerminal(snapshot?.status)) say(failure?.status ? failure.message : t("lost"), true);
  });

  const tick = setInterval(() => { if (snapshot && !isTerminal(snapshot.status) && !document.hidden) drawTime(); }, TICK_MS);

  return {
    node,
    title: shortId(runId),
    update(next) {
      picked = next.task;
      draw();
    },
    keys: [{ key: "u", text: t("back"), run: () => { location.hash = listPage(); } }],
    close() {
      closed = true;
      stream.close();
      clearInterval(tick);
      clearTimeout(workersTimer);
    },
  };
}
