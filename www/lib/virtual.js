// A long list of which only the rows in sight are nodes. All have one height: --row of the style sheet, in rem.
import { h, keyed } from "./dom.js";

const AROUND = 8; // rows kept above and below what is in sight

export class VirtualList {
  // make(item) a row, update(row, item) a known one; onEnd(): the last rows are near.
  constructor({ label, keyOf, make, update, onEnd }) {
    Object.assign(this, { keyOf, make, update, onEnd, items: [], rowHeight: 44 });
    this.rows = h("div.rows", { role: "rowgroup" });
    this.node = h("div.virtual", { role: "table", "aria-label": label, tabindex: "-1", onscroll: () => this.later() },
      this.rows);
    new ResizeObserver(() => this.resize()).observe(this.node);
  }

  get atTop() { return this.node.scrollTop < this.rowHeight; }

  // The row at the upper edge, for keep().
  get place() {
    const index = Math.floor(this.node.scrollTop / this.rowHeight);
    return { key: this.items[index] && this.keyOf(this.items[index]), over: this.node.scrollTop - index * this.rowHeight };
  }

  // Scrolls to where that row is now; it may be gone.
  keep({ key, over }) {
    const index = this.items.findIndex((item) => this.keyOf(item) === key);
    if (index >= 0) this.node.scrollTop = index * this.rowHeight + over;
    this.draw();
  }

  resize() {
    const { place } = this, style = getComputedStyle(this.node);
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const height = Math.round(parseFloat(style.getPropertyValue("--row")) * rem);
    if (height && height !== this.rowHeight) {
      this.rowHeight = height;
      this.set(this.items);
      this.keep(place);
    } else this.later();
  }

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
      this.update(row, item);
      index++;
    });
    if (last >= this.items.length - AROUND) this.onEnd?.();
  }

  // Scrolls so that a row is in sight; gives its node.
  show(index) {
    const top = index * this.rowHeight, bottom = top + this.rowHeight, { scrollTop, clientHeight } = this.node;
    if (top < scrollTop) this.node.scrollTop = top;
    else if (bottom > scrollTop + clientHeight) this.node.scrollTop = bottom - clientHeight;
    this.draw();
    return this.rows.keyed.get(this.keyOf(this.items[index]));
  }
}
