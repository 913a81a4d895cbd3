// The task graph as a picture, coloured by the states of a snapshot.
import { h, put, s } from "../lib/dom.js";
import { duration } from "../lib/format.js";
import { texts } from "../lib/i18n.js";
import { stateIcon, stateName } from "../lib/status.js";
import { layout } from "./layout.js";

const t = texts({
  en: {
    graph: "Task graph", task: "{name}: {state}", times: "{n} times", of: "{n} of at most {max}", branch: "branch {label}",
    other: "otherwise", each: "for each {as} of {over}", until: "until {cond}", loop: "{n} ×", choice: "by {on}",
    large: "{n} tasks: too many to draw; they are in the list below.",
  },
  ja: { graph: "タスクグラフ", task: "{name}: {state}", times: "{n} 回", of: "{n} 回 (最大 {max})", branch: "分岐 {label}", other: "それ以外",
    each: "{over} の各 {as}", until: "{cond} になるまで", loop: "{n} ×", choice: "{on} による", large: "タスクが {n} 個あり描けません。下の一覧を見てください。" },
});

const DRAWN_MAX = 600;
const MARGIN = 10;
const SMALLEST = 0.62;
const NAME_EM = 8.2, TITLE_EM = 6.8; // width of a usual letter of a name, of a title

export const stateOf = (record, state) => (record?.skipped ? "SKIPPED" : state ?? "NONE");

function frameTitle(frame) {
  if (frame.kind === "each") return t("each", { as: frame.as, over: frame.over });
  if (frame.kind === "until") return t("until", { cond: frame.cond });
  if (frame.kind === "times") return t("loop", { n: frame.times ?? frame.count ?? "" });
  if (frame.kind === "switch") return t("choice", { on: frame.on });
  return frame.label === "*" ? t("other") : t("branch", { label: frame.label });
}

function path(points) {
  const [first, ...rest] = points;
  let d = `M${first[0]} ${first[1]}`, [x, y] = first;
  for (const [toX, toY] of rest) {
    const bend = (toX - x) / 2;
    d += y === toY ? `H${toX}` : `C${x + bend} ${y} ${toX - bend} ${toY} ${toX} ${toY}`;
    [x, y] = [toX, toY];
  }
  return d;
}

// The beginning of a text that fits into so many pixels: a letter takes `em`, a Chinese or Japanese one about two.
function cut(text, room, em) {
  let width = 0, end = 0, fits = 0;
  for (const letter of text) {
    width += letter > "\u2e80" ? 1.75 * em : em;
    end += letter.length;
    if (width <= room - em) fits = end;
  }
  return width > room ? `${text.slice(0, fits)}…` : text;
}

function nodeShape({ node, x, y, w, h: height }, onPick) {
  const icon = s("g", { transform: "translate(10 13)" });
  const time = s("text", { x: w - 8, y: height - 7, class: "graph-time", "text-anchor": "end" });
  const shape = s("g", { class: "graph-node", transform: `translate(${x} ${y})`, tabindex: "0", role: "button", on: {
    click: () => onPick(node.name),
    keydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); onPick(node.name); } },
  } }, s("title", null, node.name), s("rect", { width: w, height, rx: 9 }), icon,
    s("text", { x: 32, y: 18, class: "graph-name" }, cut(node.name, w - 40, NAME_EM)), time);
  shape.parts = { icon, time };
  return shape;
}

function frameShape({ frame, x, y, w, h: height }) {
  const title = s("text", { x: 12, y: 19, class: "graph-title" });
  const counted = s("text", { x: w - 12, y: 19, class: "graph-title", "text-anchor": "end" });
  const shape = s("g", { class: `graph-frame ${frame.kind}`, transform: `translate(${x} ${y})` }, s("rect", { width: w, height, rx: 12 }),
    title, counted);
  shape.parts = { title, counted, room: w - 24 };
  return shape;
}

// A picture of a graph: { node, update(snapshot), pick(name) }. onPick(name): a task was chosen.
export function graphView(graph, onPick) {
  if (graph.nodes.length > DRAWN_MAX) {
    return { node: h("p", { class: "empty" }, t("large", { n: graph.nodes.length })), update() {}, pick() {} };
  }
  const places = layout(graph);
  const nodes = new Map(places.nodes.map((one) => [one.node.name, nodeShape(one, onPick)]));
  const frames = new Map(places.frames.map((one) => [one.frame.id, [one.frame, frameShape(one)]]));
  const width = places.width + 2 * MARGIN, height = places.height + 2 * MARGIN;
  // It shrinks to the room there is, as long as its texts can be read; beyond that it scrolls.
  const svg = s("svg", { class: "graph", viewBox: `${-MARGIN} ${-MARGIN} ${width} ${height}`, width, height, role: "group",
    "aria-label": t("graph") },
    s("defs", null, s("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
      s("path", { d: "M0 0l8 4-8 4z" }))),
    [...frames.values()].map(([, shape]) => shape),
    places.edges.map((edge) => s("path", { d: path(edge.points), class: edge.any ? "graph-edge any" : "graph-edge",
      "marker-end": "url(#arrow)" })),
    [...nodes.values()]);
  svg.style.minWidth = `${Math.round(width * SMALLEST)}px`;

  function updateNode(name, shape, snapshot) {
    const record = snapshot.task_records?.[name];
    const state = stateOf(record, snapshot.tasks?.[name]);
    const seconds = record?.duration_ms != null ? record.duration_ms / 1000 : null;
    const extra = [record?.iterations != null ? `×${record.iterations}` : "", record?.attempt > 1 ? `↻${record.attempt}` : "",
      duration(seconds)];
    shape.parts.time.textContent = extra.filter(Boolean).join("  ");
    if (shape.dataset.state === state) return;
    shape.dataset.state = state;
    put(shape.parts.icon, state !== "NONE" && stateIcon(state));
    shape.setAttribute("aria-label", state === "NONE" ? name : t("task", { name, state: stateName(state) }));
  }

  function updateFrame(frame, shape, snapshot) {
    const record = snapshot.frame_records?.[frame.id] ?? {};
    const n = record.iterations;
    const counted = n == null ? "" : frame.kind === "until" ? t("of", { n, max: frame.max ?? 100 }) : t("times", { n });
    const title = frameTitle(frame);
    shape.dataset.state = stateOf(record, record.state);
    shape.parts.counted.textContent = counted;
    shape.parts.title.textContent = cut(title, shape.parts.room - (counted.length + 1) * TITLE_EM, TITLE_EM);
    shape.setAttribute("aria-label", [title, counted].filter(Boolean).join(", "));
  }

  return {
    node: h("div", { class: "graph-box scroll" }, svg),
    update(snapshot) {
      for (const [name, shape] of nodes) updateNode(name, shape, snapshot);
      for (const [frame, shape] of frames.values()) updateFrame(frame, shape, snapshot);
    },
    pick(name) { for (const [other, shape] of nodes) shape.classList.toggle("picked", other === name); },
  };
}
