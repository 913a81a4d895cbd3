// When each task waited and ran: a bar for each attempt, on the time of the run.
import { duration, h, keyed, setText, stateIcon, stateName, texts, time } from "../lib/ui.js";
import { stateOf } from "./graph.js";

const t = texts({
  waited: ["waited {time}", "待機 {time}"], attempt: ["attempt {n}, {time}", "{n} 回目、{time}"],
  failed: ["attempt {n} failed after {time}: {error}", "{n} 回目は {time} で失敗: {error}"],
});

// Tasks that a need names, however it is built; of a frame, all that it holds.
function* tasksOf(need, graph) {
  if (typeof need === "string") yield need;
  else if (Array.isArray(need)) for (const one of need) yield* tasksOf(one, graph);
  else if (need?.frame) for (const node of graph.nodes) { if (isWithin(node, need.frame, graph)) yield node.name; }
  else if (need) for (const key of ["all", "any"]) if (need[key]) yield* tasksOf(need[key], graph);
}

const frameOf = (item, graph) => graph.frames?.find((frame) => frame.id === item.frame);

function isWithin(item, id, graph) {
  for (let at = item; at; at = frameOf(at, graph)) if (at.frame === id) return true;
  return false;
}

// When a task could have started: when all that it, or a frame around it, needs had ended; else when the run started.
function readyAt(node, snapshot, graph) {
  const ends = [];
  for (let at = node; at; at = frameOf(at, graph)) {
    for (const name of tasksOf(at.needs, graph)) ends.push(snapshot.task_records?.[name]?.ended_at ?? 0);
  }
  return ends.length ? Math.max(...ends) : snapshot.start_time;
}

// The bars of a task: { kind, from, to, text }.
function bars(record, node, snapshot, graph, now) {
  if (!record.started_at) return [];
  const list = [];
  const first = record.attempts?.[0]?.started_at ?? record.started_at;
  const ready = node ? readyAt(node, snapshot, graph) : snapshot.start_time;
  if (ready && first - ready > 0.02) list.push({ kind: "wait", from: ready, to: first,
    text: t("waited", { time: duration(first - ready) }) });
  (record.attempts ?? []).forEach((one, index) => {
    if (!one.ended_at || one.started_at === record.started_at) return;
    list.push({ kind: "retry", from: one.started_at, to: one.ended_at,
      text: t("failed", { n: index + 1, time: duration(one.ended_at - one.started_at), error: one.error ?? "" }) });
  });
  const to = record.ended_at ?? now;
  list.push({ kind: "run", from: record.started_at, to,
    text: t("attempt", { n: record.attempt ?? 1, time: duration(to - record.started_at) }) });
  return list;
}

// { node, update(snapshot, graph, now by the gateway's clock) }; onPick(name): a task was chosen.
export function timelineView(onPick) {
  const rows = h("div.time-rows");
  const axis = h("div.time-axis", { "aria-hidden": "true" });
  const node = h("div.timeline", { role: "group", "aria-label": t("timeline") }, axis, rows);

  function update(snapshot, graph, now) {
    const start = snapshot.start_time ?? now;
    const nodeOf = new Map((graph?.nodes ?? []).map((one) => [one.name, one]));
    const records = snapshot.task_records ?? {};
    const items = Object.keys(snapshot.tasks ?? {}).map((name) => {
      const record = records[name] ?? {};
      return { name, record, state: stateOf(record, snapshot.tasks[name], snapshot.status), bars: bars(record, nodeOf.get(name), snapshot, graph, now),
        at: record.attempts?.[0]?.started_at ?? record.started_at ?? Infinity };
    }).sort((a, b) => (a.at === b.at ? (a.name < b.name ? -1 : 1) : a.at - b.at));
    const span = Math.max(0.001, Math.max(now, ...items.flatMap((item) => item.bars.map((bar) => bar.to))) - start);
    axis.hidden = !snapshot.start_time;
    axis.replaceChildren(...[0, 0.25, 0.5, 0.75, 1].map((part) => {
      const label = h("span", part ? duration(span * part) : "0");
      label.style.left = `${part * 100}%`;
      return label;
    }));
    keyed(rows, items, (item) => item.name, (item) => {
      const row = h("button.time-row", { type: "button", onclick: () => onPick(item.name) },
        h("span.time-name"), h("span.time-track"), h("span.time-long"));
      return row;
    }, (row, item) => {
      const [label, track, long] = row.children;
      if (row.dataset.state !== item.state) {
        row.dataset.state = item.state;
        label.replaceChildren(stateIcon(item.state), h("span.hidden", stateName(item.state)),
          h("span.cut", item.name));
        label.title = item.name;
      }
      track.replaceChildren(...item.bars.map((bar) => {
        const part = h("span", { class: `bar ${bar.kind}`, title: `${bar.text} (${time(bar.from)})` });
        part.style.left = `${Math.max(0, (bar.from - start) / span) * 100}%`;
        part.style.width = `${Math.max(0.3, ((bar.to - bar.from) / span) * 100)}%`;
        return part;
      }));
      const last = item.bars[item.bars.length - 1];
      setText(long, last ? duration(last.to - last.from) : "");
    });
  }

  return { node, update };
}
