// A view that reads something now and then and draws it.
import { h, notice, put } from "./ui.js";

const FOCUSABLE = "a, button, summary, input";

// Where something is, to find it again among nodes that were made anew: the row (data-key) and its number there.
function addressOf(body, node, selector) {
  const around = node.closest("[data-key]"), row = body.contains(around) ? around : undefined;
  return { key: row?.dataset.key, at: [...(row ?? body).querySelectorAll(selector)].indexOf(node) };
}

function find(body, { key, at }, selector) {
  const row = key === undefined ? body : body.querySelector(`[data-key="${CSS.escape(key)}"]`);
  return row?.querySelectorAll(selector)[at];
}

// Replaces what body holds, and keeps the focus and what details are open.
export function renew(body, nodes) {
  const focused = body.contains(document.activeElement) && addressOf(body, document.activeElement, FOCUSABLE);
  const details = [...body.querySelectorAll("details")].map((one) => [addressOf(body, one, "details"), one.open]);
  put(body, nodes);
  for (const [place, open] of details) {
    const one = find(body, place, "details");
    if (one) one.open = open;
  }
  if (focused) find(body, focused, FOCUSABLE)?.focus({ preventScroll: true });
}

export const isSelecting = (body) => {
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(body, true);
};

// panel({ title, every (ms), read() -> data, draw(data) -> nodes, before: nodes that stay }) as a view. What draw gives
// replaces what was there, unless a person selects some of its text just now; refresh() does so in any case, redraw(data)
// shows what is known.
export function panel({ title, every = 5000, read, draw, before }) {
  let closed = false, acting = false, failed = false, timer, turn = 0;
  const { node: fault, say } = notice();
  const body = h("div.panel-body");

  function redraw(data) {
    const nodes = draw(data);
    if (nodes !== body.firstChild) renew(body, nodes);
  }

  async function readAndDraw(always) {
    clearTimeout(timer);
    const mine = ++turn; // an answer to an earlier question is not wanted any more
    try {
      const data = await read();
      if (closed || mine !== turn) return;
      if (failed) say("");
      failed = false;
      if (always || !isSelecting(body)) redraw(data);
    } catch (error) {
      if (closed || mine !== turn) return;
      failed = true;
      say(error.message, true);
      if (error.status === 401 || error.status === 403) return;
    }
    timer = setTimeout(readAndDraw, document.hidden ? 5 * every : every);
  }
  const refresh = () => readAndDraw(true);

  readAndDraw();
  return {
    node: h("section.panel", { "aria-label": title }, before, fault, body),
    title, refresh, redraw,
    // Does what a person asks for, one thing at a time, and shows what came of it.
    async act(fn) {
      if (acting) return;
      acting = true;
      say("");
      await fn().catch((error) => say(error.message, true));
      acting = false;
      if (!closed) refresh();
    },
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}
