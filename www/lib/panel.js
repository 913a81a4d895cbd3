// A view that reads something now and then and draws it: what workers, queues, wheels and the like have in common.
import { h, put } from "./dom.js";

const FOCUSABLE = "a, button, summary, input";

// Where something is: the row (data-key) and its number there. It is found again among nodes that were made anew.
function addressOf(body, node, selector) {
  const row = node.closest("[data-key]");
  return { key: row?.dataset.key, at: [...(row ?? body).querySelectorAll(selector)].indexOf(node) };
}

function find(body, { key, at }, selector) {
  const row = key === undefined ? body : body.querySelector(`[data-key="${CSS.escape(key)}"]`);
  return row?.querySelectorAll(selector)[at];
}

// Replaces what body holds, and keeps what a person has done there: focus, details that were opened or closed, scrolling.
function renew(body, nodes) {
  const focused = body.contains(document.activeElement) && addressOf(body, document.activeElement, FOCUSABLE);
  const details = [...body.querySelectorAll("details")].map((one) => [addressOf(body, one, "details"), one.open]);
  const scrolled = [...body.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  put(body, nodes);
  for (const [place, open] of details) {
    const one = find(body, place, "details");
    if (one) one.open = open;
  }
  body.querySelectorAll(".scroll").forEach((one, at) => { if (scrolled[at]) one.scrollLeft = scrolled[at]; });
  if (focused) find(body, focused, FOCUSABLE)?.focus({ preventScroll: true });
}

const isSelecting = (body) => {
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(body, true);
};

// panel({ title, every (ms), read() -> data, draw(data) -> nodes, before: nodes that stay }) as a view. What draw gives
// replaces what was there, unless a person selects some of its text just now. refresh() after an action replaces it in any
// case.
export function panel({ title, every, read, draw, before }) {
  let closed = false, acting = false, failed = false, timer, turn = 0;
  const fault = h("p", { class: "notice bad", role: "status", hidden: true });
  const body = h("div", { class: "panel-body" });

  function say(text, bad) {
    fault.hidden = !text;
    fault.textContent = text;
    fault.classList.toggle("bad", Boolean(bad));
  }

  async function readAndDraw(always) {
    clearTimeout(timer);
    const mine = ++turn; // an answer to an earlier question is not wanted any more
    try {
      const data = await read();
      if (closed || mine !== turn) return;
      if (failed) say("");
      failed = false;
      if (always || !isSelecting(body)) renew(body, draw(data));
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
    node: h("section", { class: "panel", "aria-label": title }, before, fault, body),
    title, refresh,
    // Does what a person asks for, one thing at a time; says why it failed, and shows what came of it.
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

// A table: columns [[label, cell(item)], ...]; keyOf(item) tells its rows apart, so that the focus stays in its row.
export function table(label, columns, items, keyOf, rowClass) {
  return h("div", { class: "scroll" }, h("table", { "aria-label": label },
    h("thead", null, h("tr", null, columns.map(([name]) => h("th", { scope: "col" }, name)))),
    h("tbody", null, items.map((item) => h("tr", { data: { key: keyOf(item) }, class: rowClass?.(item) },
      columns.map(([, cell]) => h("td", null, cell(item))))))));
}
