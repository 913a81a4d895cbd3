// The shell: header, navigation, what is wrong, and the view that the URL names.
import { frog, frogIcon } from "./lib/frog.js";
import { SECTIONS, useKeys } from "./lib/keys.js";
import { apiKey, button, dialog, get, h, here, language, languages, put, setApiKey, setLanguage, setText, texts } from "./lib/ui.js";

const t = texts({
  nav: ["Sections", "画面"], language: ["Language", "言語"], theme: ["Colours", "配色"], auto: ["Auto", "自動"], light: ["Light", "ライト"], dark: ["Dark", "ダーク"],
  key: ["API key", "API キー"], key_set: ["API key (set)", "API キー(設定済み)"],
  key_text: ["Kept until this tab is closed, and sent as a header only.", "このタブを閉じるまで保持し、ヘッダーだけで送ります。"], save: ["Use", "使う"],
  forget: ["Forget", "消す"], cancel: ["Cancel", "やめる"], skip: ["Skip to content", "本文へ"],
  no_view: ["There is no such page.", "そのページはありません。"],
  nats: ["NATS is not connected; what you see may be old", "NATS に接続していません。表示は古い可能性があります"],
  reload: ["An edit of gateway.lua is broken; the last good version serves: {error}", "gateway.lua の編集に誤りがあり、直前の正常な版で動作中: {error}"],
  flow_errors: ["{n} flow file(s) do not load: {first}", "読み込めないフローファイルが {n} 個あります: {first}"],
  warming: ["Reading the runs …", "実行を読み込み中…"],
});

const VIEWS = Object.values(SECTIONS);
const THEME = "pyoco.theme";
const HEALTH_MS = 3000;
const RELOAD_MS = 1000;
const SILENCE_MS = 6000; // no answer for so long: there is no connection

let view; // what is shown: { node, title, close?(), keys?, update?(query) }
let shown; // its path, to know when only its settings have changed
let health = { nats: "connected" }; // the last answer; null: there was none

function setTheme(value) {
  localStorage.setItem(THEME, value);
  if (value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
}

function select(label, value, options, onChange) {
  return h("select.quiet", { title: label, "aria-label": label, onchange: (event) => onChange(event.target.value) },
    options.map(([key, name]) => h("option", { value: key, selected: key === value }, name)));
}

async function askKey() {
  const input = h("input", { type: "password", autocomplete: "off", value: apiKey(), "aria-label": t("key") });
  const answer = await dialog(t("key"), [h("p", t("key_text")), input],
    [["save", t("save"), "primary"], ["forget", t("forget")], ["", t("cancel")]]);
  if (!answer) return;
  setApiKey(answer === "save" ? input.value.trim() : "");
  draw();
}

const trouble = h("div.trouble", { role: "status", hidden: true });
const brand = h("span");
const main = h("main", { id: "main", tabindex: "-1" });
const links = {};

function header() {
  for (const name of VIEWS) links[name] = h("a", { href: `#/${name}` }, t(name));
  return [
    h("a.skip", { href: "#main", onclick: (event) => { event.preventDefault(); main.focus(); } }, t("skip")),
    h("header", h("a.brand", { href: "#/runs" }, brand, "pyoco"),
      h("nav", { "aria-label": t("nav") }, VIEWS.map((name) => links[name])),
      h("div.tools",
        button(t(apiKey() ? "key_set" : "key"), askKey, "quiet"),
        select(t("theme"), localStorage.getItem(THEME) ?? "auto", ["auto", "light", "dark"].map((one) => [one, t(one)]), setTheme),
        select(t("language"), language(), languages(), (value) => { setLanguage(value); draw(); }))),
    trouble, main,
  ];
}

// Shows what /health tells of; the frog's face too.
function showHealth() {
  const flows = health?.flow_errors ?? [];
  const text = !health ? t("lost") : health.nats !== "connected" ? t("nats")
    : health.reload_error ? t("reload", { error: health.reload_error }) : health.warming ? t("warming")
      : flows.length ? t("flow_errors", { n: flows.length, first: `${flows[0].file}: ${flows[0].message}` }) : "";
  trouble.hidden = !text;
  setText(trouble, text);
  const mood = text ? "worried" : "happy";
  if (brand.dataset.mood !== mood) {
    brand.dataset.mood = mood;
    put(brand, frog(mood, 2.1));
    document.querySelector("link[rel=icon]").href = frogIcon(mood);
  }
}

async function watchHealth() {
  health = await get("/health", null, { signal: AbortSignal.timeout(SILENCE_MS) }).catch(() => null);
  showHealth();
  setTimeout(watchHealth, document.hidden ? 4 * HEALTH_MS : HEALTH_MS);
}

// The module of a view. A browser remembers that it could not get one: the page is loaded anew once the gateway answers.
async function load(name) {
  if (name !== "run" && !VIEWS.includes(name)) return null;
  const wanted = shown;
  try {
    return await import(`./views/${name}.js`);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // no answer is a TypeError; this is a broken edit
    put(main, h("p.empty", t("lost")));
    do await new Promise((done) => setTimeout(done, RELOAD_MS)); while (shown === wanted && !await get("/health").catch(() => null));
    if (shown === wanted) location.reload();
    return null;
  }
}

async function route() {
  const { path, query } = here();
  if (!path.length) return location.replace("#/runs");
  const name = path[0] === "runs" && path[1] ? "run" : path[0];
  const place = path.join("/");
  if (view?.update && shown === place) return view.update(query);
  view?.close?.();
  view = undefined;
  document.querySelectorAll("dialog[open]").forEach((one) => one.close()); // it was about what is left now
  useKeys([]);
  for (const link of Object.values(links)) link.removeAttribute("aria-current");
  links[path[0]]?.setAttribute("aria-current", "page");
  links[path[0]]?.scrollIntoView({ block: "nearest", inline: "nearest" }); // on a phone the sections do not all fit
  shown = place;
  const module = await load(name);
  if (shown !== place) return; // the user has gone on meanwhile
  if (!module) return put(main, h("p.empty", t("no_view")));
  view = module.show(path.slice(1), query);
  useKeys(view.keys ?? []);
  const hadFocus = main.contains(document.activeElement);
  put(main, view.node);
  if (hadFocus) main.focus({ preventScroll: true });
  document.title = `${view.title ?? t(path[0])} · pyoco`;
  scrollTo(0, 0);
  view.shown?.();
}

function draw() {
  shown = undefined;
  brand.dataset.mood = "";
  put(document.body, header());
  showHealth();
  route();
}

setTheme(localStorage.getItem(THEME) ?? "auto");
addEventListener("hashchange", route);
draw();
watchHealth();
