// One run, live: graph, timeline, the task that is chosen, parameters, relations, and what can be done.
import { get, query as search, runPath, text as readText } from "../lib/api.js";
import { h, put } from "../lib/dom.js";
import { duration, shortId, time } from "../lib/format.js";
import { texts } from "../lib/i18n.js";
import { empty, fact, runLink } from "../lib/parts.js";
import { href } from "../lib/router.js";
import { badge, isTerminal } from "../lib/status.js";
import { follow } from "../lib/stream.js";
import { actionsView } from "../run/actions.js";
import { graphView } from "../run/graph.js";
import { taskView } from "../run/task.js";
import { timelineView } from "../run/timeline.js";

const t = texts({
  en: {
    graph: "Graph", timeline: "Timeline", params: "Parameters", source: "Source", details: "Relations",
    waiting: "It waits for a free worker with the tag {tag}.",
    no_worker: "No worker with the tag {tag} is here: start one with --tags {tag}.",
    approval: "It waits for someone to approve it: it would start other runs.", tag: "Tag", worker: "Worker", started: "Started",
    took: "Took", id: "Run", parent: "Parent", root: "Root", children: "Children", schedule: "Schedule", bundle: "Bundle",
    attempt: "Delivery", crashes: "Crashes", approved: "Approved", rejected: "Rejected", lost: "Connection lost; trying again …",
    no_graph: "The graph is known once a worker has taken the run.",
    missing: "There is no such run. It may have been removed, or the id is wrong.", back: "All runs", requeued: "Again after",
  },
  ja: {
    graph: "グラフ", timeline: "タイムライン", params: "パラメータ", source: "ソース", details: "関係", waiting: "タグ {tag} の空いているワーカーを待っています。",
    no_worker: "タグ {tag} のワーカーがいません。--tags {tag} で起動してください。", approval: "承認を待っています。この実行は他の実行を始めます。", tag: "タグ", worker: "ワーカー",
    started: "開始", took: "所要時間", id: "実行", parent: "親", root: "ルート", children: "子", schedule: "スケジュール", bundle: "バンドル",
    attempt: "配信", crashes: "クラッシュ", approved: "承認", rejected: "却下", lost: "接続が切れました。再接続しています…",
    no_graph: "ワーカーが実行を受け取るとグラフが分かります。", missing: "その実行はありません。削除されたか、ID が違います。", back: "実行一覧", requeued: "再投入元",
  },
});

const TICK_MS = 250; // bars of running tasks grow
const WORKERS_AFTER_MS = 1500;

const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };

function relationFacts(snapshot) {
  const { parent_run_id: parent, root_run_id: root, run_id: id, child_run_ids: children = [], schedule_id: schedule } = snapshot;
  return h("dl", { class: "facts" }, fact(t("parent"), runLink(parent)),
    fact(t("root"), root && root !== id && root !== parent && runLink(root)),
    fact(t("children"), children?.length ? h("span", { class: "links" }, children.map(runLink)) : null),
    fact(t("schedule"), schedule && h("a", { href: href(["schedules"], { id: schedule }) }, h("code", null, shortId(schedule)))),
    fact(t("bundle"), snapshot.bundle_hash && h("code", { title: snapshot.bundle_hash }, snapshot.bundle_hash.slice(0, 12))),
    fact(t("requeued"), runLink(snapshot.requeued_from)),
    fact(t("attempt"), snapshot.attempt?.delivery > 1 && String(snapshot.attempt.delivery)),
    fact(t("crashes"), snapshot.crash_count > 0 && String(snapshot.crash_count)),
    fact(t("approved"), snapshot.approved_at && [time(snapshot.approved_at), " ", snapshot.approved_by ?? "", " ",
      snapshot.approval_comment ?? ""]),
    fact(t("rejected"), snapshot.rejected_at && [time(snapshot.rejected_at), " ", snapshot.rejected_by ?? "", " ",
      snapshot.rejection_reason ?? ""]));
}

export function show([runId], first) {
  let snapshot, graph, source, relatives, relativesKey, offset = 0, picked = first.task, closed = false, workersTimer;

  const state = h("span", { class: "run-state", role: "status" });
  const title = h("h1");
  const values = {};
  const facts = h("dl", { class: "facts" }, ["id", "tag", "worker", "started", "took"].map((name) =>
    [h("dt", null, t(name)), values[name] = h("dd")]));
  const notice = h("p", { class: "notice", role: "status", hidden: true });
  const hint = h("p", { class: "hint", hidden: true });
  const error = h("pre", { class: "error", tabindex: "0", hidden: true });
  const graphBox = h("section", { class: "card", "aria-label": t("graph") }, h("h2", null, t("graph")),
    h("p", { class: "soft" }, t("no_graph")));
  const params = h("pre", { tabindex: "0" }), related = h("div"), relatedTitle = h("h2", null, t("details")),
    sourceBox = h("pre", { class: "source", tabindex: "0" });
  const actions = actionsView(say);
  const timeline = timelineView(pick);
  const task = taskView(runId);
  const node = h("article", { class: "run-view" },
    h("div", { class: "run-head" }, title, state, actions.node), notice, hint, error, facts,
    h("div", { class: "run-body" },
      h("div", null, graphBox, h("section", { class: "card", "aria-label": t("timeline") }, h("h2", null, t("timeline")), timeline.node)),
      h("div", { class: "run-side" }, task.node,
        h("section", { class: "card" }, relatedTitle, related, h("h2", null, t("params")), params,
          h("details", { on: { toggle: (event) => { if (event.target.open) sourceBox.textContent = source ?? ""; } } },
            h("summary", null, t("source")), sourceBox)))));
  let drawnGraph;

  function say(text, bad) {
    notice.textContent = text;
    notice.hidden = !text;
    notice.classList.toggle("bad", Boolean(bad));
  }

  function setFact(name, text) {
    setText(values[name], text || "");
    values[name].hidden = values[name].previousSibling.hidden = !text;
  }

  function pick(name) {
    picked = name;
    history.replaceState(null, "", href(["runs", runId], { task: name }));
    draw();
  }

  for (const name in values) setFact(name, name === "id" && runId);
  const now = () => Date.now() / 1000 + offset;

  // What the snapshot says. What has not changed is left alone: a selection and the focus stay.
  function draw() {
    if (!snapshot || closed) return;
    const { status } = snapshot;
    if (state.dataset.state !== status) {
      state.dataset.state = status;
      put(state, badge(status));
    }
    title.textContent = snapshot.flow_name;
    document.title = `${snapshot.flow_name} · ${shortId(runId)} · pyoco`;
    setFact("tag", snapshot.tag);
    setFact("worker", snapshot.worker_id);
    setFact("started", time(snapshot.start_time));
    error.hidden = !snapshot.error;
    setText(error, snapshot.error ?? "");
    actions.update(snapshot);
    drawnGraph?.update(snapshot);
    drawnGraph?.pick(picked);
    const failed = Object.entries(snapshot.tasks ?? {}).find(([, one]) => one === "FAILED")?.[0];
    if (picked ?? failed) task.show(picked ?? failed, snapshot, graph, source, relatives);
    setText(params, JSON.stringify(snapshot.params ?? {}, null, 2));
    const relations = relationFacts(snapshot);
    if (!relations.isEqualNode(related.firstChild)) put(related, relations);
    relatedTitle.hidden = related.hidden = !relations.firstChild;
    drawHint();
    drawTime();
  }

  // What time alone changes.
  function drawTime() {
    setFact("took", snapshot.start_time && duration((snapshot.end_time ?? now()) - snapshot.start_time));
    timeline.update(snapshot, graph, now());
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
    put(graphBox, h("h2", null, t("graph")), drawnGraph.node);
    draw();
  }

  // Which task started which child, read again when there are more of them or the run has ended.
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

  const stream = follow(() => runPath(runId, "watch") + search({ include: "records", timeout_sec: 600, until: "terminal" }),
    (event, data) => {
    if (event !== "snapshot") return;
    offset = data.ts - Date.now() / 1000;
    take(data.snapshot);
  }, (kind, failure) => {
    if (failure?.status === 404 && !snapshot) put(node, empty("worried", t("missing"), h("a", { href: "#/runs" }, t("back"))));
    else if (kind === "open") say("");
    else if (!isTerminal(snapshot?.status)) say(failure?.status ? failure.message : t("lost"), true);
  });

  const tick = setInterval(() => { if (snapshot?.status === "RUNNING" || snapshot?.status === "CANCELLING") drawTime(); }, TICK_MS);

  return {
    node,
    title: shortId(runId),
    update(next) {
      picked = next.task;
      draw();
    },
    keys: [{ key: "u", text: () => t("back"), run: () => { location.hash = "#/runs"; } }],
    close() {
      closed = true;
      stream.close();
      clearInterval(tick);
      clearTimeout(workersTimer);
    },
  };
}
