// The task graph as a picture, coloured by the states of a snapshot.
import { duration, h, isTerminal, put, s, setText, stateIcon, stateName, texts } from "../lib/ui.js";
import { layout } from "./layout.js";

const t = texts({
  graph: ["Task graph", "タスクグラフ"], times: ["{n} times", "{n} 回"],
  of: ["{n} of at most {max}", "{n} 回 (最大 {max})"], branch: ["branch {label}", "分岐 {label}"], other: ["otherwise", "それ以外"],
  each: ["for each {as} of {over}", "{over} の各 {as}"], until: ["until {cond}", "{cond} になるまで"],
  choice: ["by {on}", "{on} による"],
  large: ["{n} tasks: too many to draw; they are in the list below.", "タスクが {n} 個あり描けません。下の一覧を見てください。"],
});

const DRAWN_MAX = 600;
const MARGIN = 10;
const PX = 1 / 16;     // of a rem: on a wall screen the picture grows with the letters
const SMALLEST = 0.75; // it shrinks no further: it scrolls
const TITLE_MAX = 300;
const WIDE = 760;      // wider ones get a row of their own
const NAME_EM = 8.2, TITLE_EM = 6.8; // width of a usual letter of a name, of a title

// What a task's state is to a person; status: the run's.
export const stateOf = (record, state, status) => (record?.skipped ? "SKIPPED"
  : state === "PENDING" && isTerminal(status) ? "NOT_RUN" : state ?? "NONE");

function frameTitle(frame) {
  if (frame.kind === "each") return t("each", { as: frame.as, over: frame.over });
  if (frame.kind === "until") return t("until", { cond: frame.cond });
  if (frame.kind === "times") return `${frame.times ?? frame.count ?? ""} ×`;
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

// Width of a text in pixels: a letter takes `em`, a Chinese or Japanese one about two.
const widthOf = (text, em) => [...text].reduce((sum, letter) => sum + (letter > "\u2e80" ? 1.75 * em : em), 0);

// The beginning of a text that fits into so many pixels.
function cut(text, room, em) {
  if (widthOf(text, em) <= room) return text;
  const letters = [...text];
  while (letters.length && widthOf(letters, em) > room - em) letters.pop();
  return `${letters.join("")}…`;
}

function nodeShape({ node, x, y, w, h: height }, onPick) {
  const icon = s("g", { transform: "translate(10 13)" });
  const time = s("text", { x: w - 8, y: height - 7, class: "graph-time", "text-anchor": "end" });
  const name = s("text.graph-name", cut(node.name, w - 40, NAME_EM));
  const shape = s("g.graph-node", { transform: `translate(${x} ${y})`, tabindex: "0", role: "button",
    onclick: () => onPick(node.name),
    onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); onPick(node.name); } },
  }, s("title", node.name), s("rect", { width: w, height, rx: 9 }), icon, name, time);
  shape.parts = { icon, name, time };
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

// A picture of a graph: { node, isWide, update(snapshot, now), pick(name) }. onPick(name): a task was chosen.
export function graphView(graph, onPick) {
  if (graph.nodes.length > DRAWN_MAX) {
    return { node: h("p.empty", t("large", { n: graph.nodes.length })), update() {}, pick() {} };
  }
  const places = layout(graph, (frame) => Math.min(TITLE_MAX, widthOf(frameTitle(frame), TITLE_EM) + (frame.kind === "until" ? 150 : 80)));
  const nodes = new Map(places.nodes.map((one) => [one.node.name, nodeShape(one, onPick)]));
  const frames = new Map(places.frames.map((one) => [one.frame.id, [one.frame, frameShape(one)]]));
  const width = places.width + 2 * MARGIN, height = places.height + 2 * MARGIN;
  // It shrinks to the room there is, as long as its texts can be read; beyond that it scrolls.
  const svg = s("svg.graph", { viewBox: `${-MARGIN} ${-MARGIN} ${width} ${height}`, role: "group",
    "aria-label": t("graph") },
    s("defs", s("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
      s("path", { d: "M0 0l8 4-8 4z" }))),
    [...frames.values()].map(([, shape]) => shape),
    places.edges.map((edge) => s("path", { d: path(edge.points), class: edge.any ? "graph-edge any" : "graph-edge",
      "marker-end": "url(#arrow)" })),
    [...nodes.values()]);
  svg.style.width = `${width * PX}rem`;
  svg.style.minWidth = `${width * SMALLEST * PX}rem`;

  function updateNode(name, shape, snapshot, now) {
    const record = snapshot.task_records?.[name];
    const state = stateOf(record, snapshot.tasks?.[name], snapshot.status);
    const seconds = record?.duration_ms != null ? record.duration_ms / 1000
      : state === "RUNNING" && record?.started_at ? Math.round(now - record.started_at) : null;
    const text = [record?.iterations != null ? `×${record.iterations}` : "", record?.attempt > 1 ? `↻${record.attempt}` : "",
      duration(seconds)].filter(Boolean).join("  ");
    const { icon, name: label, time } = shape.parts;
    setText(time, text);
    label.setAttribute("y", text ? 18 : 26);
    if (shape.dataset.state === state) return;
    shape.dataset.state = state;
    label.setAttribute("x", state === "NONE" ? 14 : 32);
    put(icon, state !== "NONE" && stateIcon(state));
    shape.setAttribute("aria-label", state === "NONE" ? name : `${name}: ${stateName(state)}`);
  }

  function updateFrame(frame, shape, snapshot) {
    const record = snapshot.frame_records?.[frame.id] ?? {};
    const n = record.iterations;
    const counted = n == null ? "" : frame.kind === "until" ? t("of", { n, max: frame.max ?? 100 }) : t("times", { n });
    const title = frameTitle(frame);
    shape.dataset.state = stateOf(record, record.state, snapshot.status);
    shape.parts.counted.textContent = counted;
    shape.parts.title.textContent = cut(title, shape.parts.room - widthOf(`${counted}M`, TITLE_EM), TITLE_EM);
    shape.setAttribute("aria-label", [title, counted].filter(Boolean).join(", "));
  }

  return {
    node: h("div.graph-box.scroll", svg), isWide: width > WIDE,
    // now: unix seconds by the gateway's clock.
    update(snapshot, now) {
      for (const [name, shape] of nodes) updateNode(name, shape, snapshot, now);
      for (const [frame, shape] of frames.values()) updateFrame(frame, shape, snapshot);
    },
    pick(name) { for (const [other, shape] of nodes) shape.setAttribute("aria-pressed", other === name); },
  };
}
