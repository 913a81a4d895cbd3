// Making DOM. All text goes in as text nodes, so nothing that a flow is called can become markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, fn] of Object.entries(value)) node.addEventListener(event, fn);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "value" && "value" in node) node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  append(node, children);
  return node;
}

// Adds children: nodes, texts, lists of them; null, undefined and false are left out.
export function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

// An element: h("a", { href, class, on: { click }, data: { state } }, "text", other).
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);

// The same for SVG.
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

// Replaces all children.
export function put(node, ...children) {
  node.replaceChildren();
  return append(node, children);
}

// Keeps one child for each item, by key, in the order of the items: `make(item)` a node, `update(node, item)` a known
// one. What stays in place is not touched, so that focus and selection stay too.
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

// A handler of an event that does nothing while it is still at work for the one before: who clicks twice means it once.
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

// A modal dialog, in the element that <dialog> is: closed by Escape and by its own button. Resolves to the value of the
// button that closed it, "" for none.
export function dialog(title, body, buttons) {
  return new Promise((resolve) => {
    const node = h("dialog", { "aria-labelledby": "dialog-title" },
      h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), body,
        h("menu", null, buttons.map(([value, label, kind]) => h("button", { value, class: kind }, label)))));
    node.addEventListener("close", () => {
      node.remove();
      resolve(node.returnValue);
    });
    document.body.append(node);
    node.showModal();
  });
}
