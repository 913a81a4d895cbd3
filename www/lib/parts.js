// Parts of a page that more than one view is made of.
import { runPage } from "./api.js";
import { dialog, h } from "./dom.js";
import { away, shortId, time } from "./format.js";
import { frog } from "./frog.js";
import { texts } from "./i18n.js";

const t = texts({});

export const button = (label, onClick, kind) => h("button", { class: kind, type: "button", onclick: onClick }, label);
export const field = (label, input) => h("label.field", h("span", label), input);
export const pre = (value) => h("pre", { tabindex: "0" }, typeof value === "string" ? value : JSON.stringify(value, null, 2));

// A row of a <dl class="facts">; nothing when there is no value.
export const fact = (label, value) => (value === "" || value == null || value === false ? null
  : [h("dt", label), h("dd", value)]);

export const fold = (summary, ...children) => h("details", h("summary", summary), children);

// A link to a run; nothing when there is none.
export const runLink = (id, name) => id && h("a", { href: runPage(id), title: id }, name && `${name} `, h("code", shortId(id)));

// How long ago, or how soon; the time itself is in the title.
export const ago = (at) => at && h("time", { title: time(at) }, away(at));

// Sets a text if it is another one: a selection in it stays otherwise.
export const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };

// A line that says what came of something: { node, say(text, bad) }; an empty text hides it.
export function notice(role = "status") {
  const node = h("p.notice", { role, hidden: true });
  return { node, say(text, bad) {
    node.hidden = !text;
    setText(node, text);
    node.classList.toggle("bad", Boolean(bad));
  } };
}

// What stands where nothing is: the frog, and lines of text or nodes.
export const empty = (mood, ...lines) => h("div.empty", frog(mood, 6), lines.map((line) => h("p", line)));

// Asks before something is done: yes = [label, kind]. True when it may be.
export const confirm = async (title, text, yes = [t("yes"), "danger"], no = t("no")) => await dialog(title, h("p", text), [["yes", ...yes], ["", no]]) === "yes";

// Makes a node take what is dropped on it: take(file, or undefined, and the text of what was dropped).
export function dropZone(node, take) {
  const over = (event, is) => {
    event.preventDefault();
    node.classList.toggle("dropping", is);
  };
  node.addEventListener("dragover", (event) => over(event, true));
  node.addEventListener("dragleave", (event) => over(event, node.contains(event.relatedTarget)));
  node.addEventListener("drop", (event) => {
    over(event, false);
    const file = event.dataTransfer.files[0];
    take(file, () => (file ? file.text() : event.dataTransfer.getData("text/plain")));
  });
  return node;
}

// A table: columns [[label, cell(item)], ...]; keyOf(item) tells its rows apart. On a phone each row is a card.
export const table = (label, columns, items, keyOf, rowClass) => h("div.scroll",
  h("table", { "aria-label": label, role: "table" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map(([name]) => h("th", { scope: "col", role: "columnheader" }, name)))),
    h("tbody", { role: "rowgroup" }, items.map((item) => h("tr", { data: { key: keyOf(item) }, class: rowClass?.(item), role: "row" },
      columns.map(([name, cell]) => h("td", { role: "cell", data: { label: name } }, cell(item))))))));
