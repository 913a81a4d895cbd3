// Places a compiled graph: layers from left to right, frames as boxes around what they hold. Pure: from GET /runs/{id}/graph
// to places in pixels.

const NODE = { w: 156, h: 42 };
const GAP = { x: 46, y: 18 };
const PAD = { x: 14, top: 30, bottom: 14 };
const SWEEPS = 6;

const keyOf = (end) => (typeof end === "string" ? `n:${end}` : `f:${end.frame}`);

// The items of each container ("" is the flow itself), and the container of each item.
function tree(graph) {
  const items = new Map(), inside = new Map([["", []]]);
  for (const frame of graph.frames ?? []) {
    items.set(`f:${frame.id}`, { key: `f:${frame.id}`, frame, parent: frame.frame ?? "" });
    inside.set(frame.id, []);
  }
  for (const node of graph.nodes) items.set(`n:${node.name}`, { key: `n:${node.name}`, node, parent: node.frame ?? "" });
  for (const item of items.values()) inside.get(item.parent).push(item);
  return { items, inside };
}

// The containers around an item, the item itself first.
function* outward(items, item) {
  for (; item; item = items.get(`f:${item.parent}`)) yield item;
}

// An edge as one between two items of the same container.
function lift(items, from, to) {
  for (const a of outward(items, from)) for (const b of outward(items, to)) if (a.parent === b.parent) return a === b ? null : [a, b];
  return null;
}

// The layer of each item: one behind the last of those that it needs.
function layers(list, edges) {
  const before = new Map(list.map((item) => [item, []]));
  for (const [a, b] of edges) before.get(b).push(a);
  const depth = new Map();
  const depthOf = (item) => {
    if (!depth.has(item)) {
      depth.set(item, 0); // a cycle is not possible; this ends it nevertheless
      depth.set(item, Math.max(-1, ...before.get(item).map(depthOf)) + 1);
    }
    return depth.get(item);
  };
  const rows = [];
  for (const item of list) (rows[depthOf(item)] ??= []).push(item);
  return { rows, depth };
}

// Long edges get a place in each layer that they cross, so that they go around what stands there.
function withWaypoints(rows, edges, depth) {
  const steps = [];
  for (const edge of edges) {
    const [a, b] = edge;
    let last = a;
    edge.via = [];
    for (let at = depth.get(a) + 1; at < depth.get(b); at++) {
      const point = { w: 0, h: 8 };
      rows[at].push(point);
      edge.via.push(point);
      steps.push([last, point]);
      last = point;
    }
    steps.push([last, b]);
  }
  return steps;
}

// Puts each item near the middle of its neighbours, to and fro, so that few edges cross.
function untangle(rows, steps) {
  const neighbours = new Map(rows.flat().map((item) => [item, { before: [], after: [] }]));
  for (const [a, b] of steps) {
    neighbours.get(a).after.push(b);
    neighbours.get(b).before.push(a);
  }
  const sort = (row, side) => {
    const place = new Map();
    rows.forEach((one) => one.forEach((item, index) => place.set(item, index)));
    const middle = (item) => {
      const list = neighbours.get(item)[side];
      return list.length ? list.reduce((sum, other) => sum + place.get(other), 0) / list.length : place.get(item);
    };
    const keys = new Map(row.map((item) => [item, middle(item)]));
    row.sort((a, b) => keys.get(a) - keys.get(b));
  };
  for (let i = 0; i < SWEEPS; i++) {
    if (i % 2 === 0) for (let at = 1; at < rows.length; at++) sort(rows[at], "before");
    else for (let at = rows.length - 2; at >= 0; at--) sort(rows[at], "after");
  }
}

// Places the items of one container, sized already, from (0, 0) on. Gives the size of all.
function place(list, edges) {
  if (!list.length) return { w: NODE.w, h: 0 };
  const { rows, depth } = layers(list, edges);
  untangle(rows, withWaypoints(rows, edges, depth));
  const heights = rows.map((row) => row.reduce((sum, item) => sum + item.h + GAP.y, -GAP.y));
  const h = Math.max(...heights);
  let x = 0;
  rows.forEach((row, at) => {
    const w = Math.max(...row.map((item) => item.w));
    let y = (h - heights[at]) / 2;
    for (const item of row) {
      Object.assign(item, { x: x + (w - item.w) / 2, y, left: x, right: x + w });
      y += item.h + GAP.y;
    }
    x += w + GAP.x;
  });
  return { w: x - GAP.x, h };
}

// { width, height, nodes: [{ node, x, y, w, h }], frames: [{ frame, ... }], edges: [{ points: [[x, y], ...], any }] };
// widthOf(frame): pixels that its title wants.
export function layout(graph, widthOf) {
  const { items, inside } = tree(graph);
  const any = new Set((graph.any_of ?? []).flat(2).map(String));
  const edges = new Map([...inside.keys()].map((id) => [id, []])), known = new Set();
  for (const [from, to] of graph.edges ?? []) {
    const ends = lift(items, items.get(keyOf(from)), items.get(keyOf(to)));
    if (!ends) continue;
    const list = edges.get(ends[0].parent);
    const pair = `${ends[0].key}>${ends[1].key}`;
    if (known.has(pair)) continue;
    known.add(pair);
    ends.any = any.has(from) && Boolean(items.get(keyOf(to)).node?.needs?.any);
    list.push(ends);
  }
  const result = { nodes: [], frames: [], edges: [] };

  function size(id) {
    for (const item of inside.get(id)) {
      if (item.node) Object.assign(item, NODE);
      else {
        const inner = size(item.frame.id);
        const w = Math.max(inner.w + 2 * PAD.x, widthOf(item.frame));
        Object.assign(item, { w, h: inner.h + PAD.top + PAD.bottom, inset: (w - inner.w) / 2 });
      }
    }
    return place(inside.get(id), edges.get(id));
  }

  function emit(id, dx, dy) {
    for (const item of inside.get(id)) {
      const box = { x: item.x + dx, y: item.y + dy, w: item.w, h: item.h };
      if (item.node) result.nodes.push({ node: item.node, ...box });
      else {
        result.frames.push({ frame: item.frame, ...box });
        emit(item.frame.id, box.x + item.inset, box.y + PAD.top);
      }
    }
    for (const edge of edges.get(id)) {
      // Up and down only between the layers: within one it would meet what stands there.
      const [a, b] = edge;
      const middle = (item) => item.y + item.h / 2;
      const points = [[a.x + a.w, middle(a)], [a.right, middle(a)],
        ...edge.via.flatMap((point) => [[point.left, middle(point)], [point.right, middle(point)]]), [b.left, middle(b)], [b.x, middle(b)]];
      result.edges.push({ any: edge.any, points: points.map(([x, y]) => [x + dx, y + dy]) });
    }
  }

  const { w, h } = size("");
  emit("", 0, 0);
  return { ...result, width: w, height: h };
}
