// A view that reads something now and then and draws it: what workers, queues, wheels and the like have in common.
import { h, put } from "./dom.js";

// show({ title, every (ms), read() -> data, draw(data) -> nodes, before: nodes that stay }) as a view. What draw gives
// replaces what was there, unless a person is at it (something of it has the focus). refresh() after an action replaces it
// in any case.
export function panel({ title, every, read, draw, before, className }) {
  let closed = false, timer, failed;
  const fault = h("p", { class: "notice bad", role: "status", hidden: true });
  const body = h("div", { class: "panel-body" });

  async function readAndDraw(always) {
    clearTimeout(timer);
    try {
      const data = await read();
      if (closed) return;
      failed = false;
      fault.hidden = true;
      body.stale = !always && body.contains(document.activeElement);
      if (!body.stale) put(body, draw(data, refresh));
    } catch (error) {
      if (closed) return;
      failed = true;
      fault.hidden = false;
      fault.textContent = error.message;
      if (error.status === 401 || error.status === 403) return;
    }
    timer = setTimeout(readAndDraw, document.hidden ? 5 * every : every);
  }
  const refresh = () => readAndDraw(true);

  body.addEventListener("focusout", () => { if (body.stale) { body.stale = false; setTimeout(readAndDraw, 50); } });
  readAndDraw();
  return {
    node: h("section", { class: `panel ${className ?? ""}`, "aria-label": title }, before, fault, body),
    title, refresh, say(text, bad) {
      if (failed && !bad) return;
      fault.hidden = !text;
      fault.textContent = text;
      fault.classList.toggle("bad", Boolean(bad));
    },
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}

// A table: columns [[label, cell(item)], ...].
export function table(label, columns, items, rowProps) {
  return h("div", { class: "scroll" }, h("table", { "aria-label": label }, h("thead", null, h("tr", null, columns.map(([name]) => h("th", { scope: "col" }, name)))),
    h("tbody", null, items.map((item) => h("tr", rowProps?.(item), columns.map(([, cell]) => h("td", null, cell(item))))))));
}
