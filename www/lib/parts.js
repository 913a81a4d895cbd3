// Parts of a page that more than one view is made of.
import { runPage } from "./api.js";
import { dialog, h } from "./dom.js";
import { shortId } from "./format.js";
import { frog } from "./frog.js";

export const button = (label, onClick, kind) => h("button", { class: kind, type: "button", on: { click: onClick } }, label);
export const field = (label, input) => h("label", { class: "field" }, h("span", null, label), input);

// A row of a <dl class="facts">; nothing when there is no value.
export const fact = (label, value) => (value === "" || value == null || value === false ? null
  : [h("dt", null, label), h("dd", null, value)]);

// A link to a run; nothing when there is none.
export const runLink = (id) => id && h("a", { href: runPage(id) }, h("code", null, shortId(id)));

// What stands where nothing is: the frog, and lines of text or nodes.
export const empty = (mood, ...lines) => h("div", { class: "empty" }, frog(mood, 88), lines.map((line) => h("p", null, line)));

// Asks before something is done: yes = [label, kind]. True when it may be.
export const confirm = async (title, text, yes, no) => await dialog(title, h("p", null, text), [["yes", ...yes], ["", no]]) === "yes";
