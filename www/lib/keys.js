// Keyboard: one table of keys, from which the help (?) is made. A view adds its own while it is shown.
import { dialog, h } from "./dom.js";
import { texts } from "./i18n.js";

const t = texts({
  en: { title: "Keyboard", close: "Close", help: "this list", home: "runs", submit: "submit a flow", workers: "workers", queues: "queues" },
  ja: { title: "キーボード", close: "閉じる", help: "この一覧", home: "実行一覧", submit: "フローを投入", workers: "ワーカー", queues: "キュー" },
});

let mine = []; // of the view that is shown: { key, text, run }

// Keys of the view that is shown from now on.
export function useKeys(list) { mine = list; }

const GENERAL = [
  { key: "?", text: () => t("help"), run: help },
  { key: "g r", text: () => t("home"), run: () => { location.hash = "#/runs"; } },
  { key: "g s", text: () => t("submit"), run: () => { location.hash = "#/submit"; } },
  { key: "g w", text: () => t("workers"), run: () => { location.hash = "#/workers"; } },
  { key: "g q", text: () => t("queues"), run: () => { location.hash = "#/queues"; } },
];

function help() {
  const rows = [...mine, ...GENERAL].map((row) => h("tr", null,
    h("th", { scope: "row" }, row.key.split(" ").map((part) => h("kbd", null, part))), h("td", null, row.text())));
  dialog(t("title"), h("table", { class: "keys" }, h("tbody", null, rows)), [["close", t("close"), "primary"]]);
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
  const row = [...mine, ...GENERAL].find((one) => one.key === pressed);
  if (row) {
    event.preventDefault();
    row.run(event);
  } else if (event.key === "g") before = "g";
});
