// A long list of which only the rows in sight are nodes: 10,000 rows scroll as smoothly as ten. All rows have one height.
import { h, keyed } from "./dom.js";

const AROUND = 8; // rows kept above and below what is in sight

export class VirtualList {
  // make(item) a row, update(row, item, index) a known one; keyOf(item); onEnd(): the last rows are near.
  constructor({ label, rowHeight, keyOf, make, update, onEnd }) {
    Object.assign(this, { rowHeight, keyOf, make, update, onEnd, items: [] });
    this.rows = h("div", { class: "rows", role: "rowgroup" });
    this.node = h("div", { class: "virtual", role: "table", "aria-label": label, tabindex: "-1", on: { scroll: () => this.later() } },
      this.rows);
    new ResizeObserver(() => this.later()).observe(this.node);
  }

  get atTop() { return this.node.scrollTop < this.rowHeight; }

  set(items) {
    this.items = items;
    this.node.setAttribute("aria-rowcount", items.length);
    this.rows.style.height = `${items.length * this.rowHeight}px`;
    this.draw();
  }

  later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.draw();
    });
  }

  draw() {
    const { scrollTop, clientHeight } = this.node;
    const first = Math.max(0, Math.floor(scrollTop / this.rowHeight) - AROUND);
    const last = Math.min(this.items.length, Math.ceil((scrollTop + clientHeight) / this.rowHeight) + AROUND);
    let index = first;
    keyed(this.rows, this.items.slice(first, last), this.keyOf, this.make, (row, item) => {
      row.style.transform = `translateY(${index * this.rowHeight}px)`;
      row.setAttribute("aria-rowindex", index + 1);
      this.update(row, item, index++);
    });
    if (last >= this.items.length - AROUND) this.onEnd?.();
  }

  // Scrolls so that a row is in sight.
  show(index) {
    const top = index * this.rowHeight, bottom = top + this.rowHeight, { scrollTop, clientHeight } = this.node;
    if (top < scrollTop) this.node.scrollTop = top;
    else if (bottom > scrollTop + clientHeight) this.node.scrollTop = bottom - clientHeight;
    this.draw();
  }
}
