// Keyboard: a table of keys, from which the help (?) is made. A view adds its own while it is shown.
import { dialog, h } from "./dom.js";
import { texts } from "./i18n.js";

const t = texts({ title: ["Keyboard", "キーボード"], help: ["this list", "この一覧"], leave: ["leave a field", "入力欄を離れる"] });

// The sections of the page by the letter that follows "g".
export const SECTIONS = { r: "runs", s: "submit", w: "workers", q: "queues", c: "schedules", p: "wheels", d: "dlq" };

let mine = []; // of the view that is shown: { key, text, run(event) }

// Keys of the view that is shown from now on.
export function useKeys(list) { mine = list; }

const all = () => [...mine, { key: "?", text: t("help"), run: help },
  ...Object.entries(SECTIONS).map(([letter, name]) => ({ key: `g ${letter}`, text: t(name), run: () => { location.hash = `#/${name}`; } }))];

function help() {
  const rows = [...all(), { key: "Esc", text: t("leave") }].map((row) => h("tr",
    h("th", { scope: "row" }, row.key.split(" ").map((part) => h("kbd", part))), h("td", row.text)));
  dialog(t("title"), h("table.keys", h("tbody", rows)));
}

const TYPING = "input:not([type=checkbox]), textarea, select";
const PRESSED = "a, button, summary, input, [role=button]"; // what Enter is for already
let before = ""; // "g" of a key of two

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest(TYPING)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "Enter" && event.target.closest(PRESSED)) return;
  if (event.key === "Shift") return; // on the way to "?"
  const pressed = before ? `${before} ${event.key}` : event.key;
  before = "";
  const row = all().find((one) => one.key === pressed);
  if (row) {
    event.preventDefault();
    row.run(event);
  } else if (event.key === "g") before = "g";
});
