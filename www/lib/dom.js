// Making DOM. All text goes in as text nodes, so nothing that a flow is called can become markup.

import { texts } from "./i18n.js";

const t = texts({});
const SVG = "http://www.w3.org/2000/svg";

function make(namespace, what, props, children) {
  const [tag, ...classes] = what.split(".");
  const node = namespace ? document.createElementNS(namespace, tag) : document.createElement(tag);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  if (!props || typeof props !== "object" || props instanceof Node || Array.isArray(props)) return append(node, [props, children]);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "value" && "value" in node) node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  return append(node, children);
}

// Adds children: nodes, texts, lists of them; null, undefined and false are left out.
export function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

// An element: h("a.quiet", { href, onclick, data: { state } }, "text", other); who has no properties leaves them out.
export const h = (what, props, ...children) => make("", what, props, children);

// The same for SVG.
export const s = (what, props, ...children) => make(SVG, what, props, children);

// Replaces all children.
export function put(node, ...children) {
  node.replaceChildren();
  return append(node, children);
}

// Keeps one child for each item, by key, in their order: make(item) a node, update(node, item) a known one. What stays in
// place is not touched, so that focus and selection stay too.
export function keyed(parent, items, keyOf, make, update) {
  const known = parent.keyed ??= new Map();
  const wanted = new Set(items.map(keyOf));
  for (const [key, node] of known) {
    if (!wanted.has(key)) {
      node.remove();
      known.delete(key);
    }
  }
  let at = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    let node = known.get(key);
    if (!node) known.set(key, node = make(item));
    update?.(node, item);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
}

// A handler that does nothing while it is still at work: who clicks twice means it once.
export function single(fn) {
  let busy = false;
  return async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    try {
      await fn(event);
    } finally {
      busy = false;
    }
  };
}

// A modal dialog. Resolves to the value of the button that closed it, "" for none.
export function dialog(title, body, buttons = [["", t("close"), "primary"]]) {
  return new Promise((resolve) => {
    const node = h("dialog", { "aria-labelledby": "dialog-title" },
      h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), body,
        h("menu", buttons.map(([value, label, kind]) => h("button", { value, class: kind }, label)))));
    node.addEventListener("close", () => {
      node.remove();
      resolve(node.returnValue);
    });
    document.body.append(node);
    node.showModal();
  });
}
