// The shell: header, navigation, what is wrong, and the view that the URL names.
import { apiKey, get, setApiKey } from "./lib/api.js";
import { dialog, h, put } from "./lib/dom.js";
import { frog } from "./lib/frog.js";
import { language, languages, setLanguage, texts } from "./lib/i18n.js";
import { useKeys } from "./lib/keys.js";
import { here } from "./lib/router.js";

const table = {
  en: {
    title: "Control room", nav: "Sections", runs: "Runs", submit: "Submit", workers: "Workers", queues: "Queues",
    schedules: "Schedules", wheels: "Wheels", dlq: "Dead letters", language: "Language", theme: "Colours", auto: "Auto",
    light: "Light", dark: "Dark", key: "API key", key_set: "API key (set)",
    key_text: "Kept until this tab is closed, and sent as a header only.", save: "Use", forget: "Forget", cancel: "Cancel",
    skip: "Skip to content", no_view: "There is no such page.", lost: "No connection; trying again …",
    nats: "NATS is not connected; what you see may be old",
    reload: "An edit of gateway.lua is broken; the last good version serves: {error}",
    flow_errors: "{n} flow file(s) do not load: {first}", warming: "Reading the runs …",
  },
  ja: {
    title: "コントロールルーム", nav: "画面", runs: "実行", submit: "投入", workers: "ワーカー", queues: "キュー", schedules: "スケジュール",
    wheels: "パッケージ", dlq: "デッドレター", language: "言語", theme: "配色", auto: "自動", light: "ライト", dark: "ダーク",
    key: "API キー", key_set: "API キー(設定済み)", key_text: "このタブを閉じるまで保持し、ヘッダーだけで送ります。", save: "使う", forget: "消す",
    cancel: "やめる", skip: "本文へ", no_view: "そのページはありません。", lost: "接続が切れました。再接続しています…",
    nats: "NATS に接続していません。表示は古い可能性があります", reload: "gateway.lua の編集に誤りがあり、直前の正常な版で動作中: {error}",
    flow_errors: "読み込めないフローファイルが {n} 個あります: {first}", warming: "実行を読み込み中…",
  },
};
const t = texts(table);

const VIEWS = ["runs", "submit", "workers", "queues", "schedules", "wheels", "dlq"];
const THEME = "pyoco.theme";
const HEALTH_MS = 3000;
const RELOAD_MS = 1000;
const SILENCE_MS = 6000; // no answer for so long: there is no connection
const TROUBLE_MAX = 240; // characters; an error may carry a whole traceback

let view; // what is shown: { node, title, close?(), keys?, update?(query) }
let shown; // its name and path, to know when only its settings have changed
let health = { nats: "connected" }; // the last answer; null: there was none

function setTheme(value) {
  localStorage.setItem(THEME, value);
  if (value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
}

function select(label, value, options, onChange) {
  return h("label", { class: "pick" }, h("span", { class: "hidden" }, label),
    h("select", { title: label, on: { change: (event) => onChange(event.target.value) } },
      options.map(([key, name]) => h("option", { value: key, selected: key === value }, name))));
}

async function askKey() {
  const input = h("input", { type: "password", autocomplete: "off", value: apiKey(), "aria-label": t("key") });
  const answer = await dialog(t("key"), [h("p", null, t("key_text")), input],
    [["save", t("save"), "primary"], ["forget", t("forget")], ["", t("cancel")]]);
  if (!answer) return;
  setApiKey(answer === "save" ? input.value.trim() : "");
  draw();
}

const trouble = h("div", { class: "trouble", role: "status", hidden: true });
const brand = h("span", { class: "brand-frog" });
const main = h("main", { id: "main", tabindex: "-1" });
const links = {};

function header() {
  for (const name of VIEWS) links[name] = h("a", { href: `#/${name}` }, t(name));
  return [
    h("a", { class: "skip", href: "#main", on: { click: (event) => { event.preventDefault(); main.focus(); } } }, t("skip")),
    h("header", null, h("a", { class: "brand", href: "#/runs" }, brand, h("span", null, "pyoco")),
      h("nav", { "aria-label": t("nav") }, VIEWS.map((name) => links[name])),
      h("div", { class: "tools" },
        h("button", { class: "quiet", on: { click: askKey } }, apiKey() ? t("key_set") : t("key")),
        select(t("theme"), localStorage.getItem(THEME) ?? "auto", ["auto", "light", "dark"].map((one) => [one, t(one)]), setTheme),
        select(t("language"), language(), languages(), (value) => { setLanguage(value); draw(); }))),
    trouble, main,
  ];
}

// Shows what /health tells of; the frog's face too.
function showHealth() {
  const flows = health?.flow_errors ?? [];
  const text = !health ? t("lost") : health.nats !== "connected" ? t("nats") : health.reload_error
    ? t("reload", { error: health.reload_error })
    : health.warming ? t("warming") : flows.length ? t("flow_errors", { n: flows.length, first: `${flows[0].file}: ${flows[0].message}` })
      : "";
  const short = text.length > TROUBLE_MAX ? `${text.slice(0, TROUBLE_MAX)} …` : text;
  trouble.hidden = !text;
  trouble.title = text;
  if (trouble.textContent !== short) trouble.textContent = short;
  const mood = text ? "worried" : "happy";
  if (brand.dataset.mood !== mood) {
    brand.dataset.mood = mood;
    put(brand, frog(mood, 34));
  }
}

async function watchHealth() {
  health = await get("/health", null, { signal: AbortSignal.timeout(SILENCE_MS) }).catch(() => null);
  showHealth();
  setTimeout(watchHealth, document.hidden ? 4 * HEALTH_MS : HEALTH_MS);
}

// The module of a view, loaded when it is first shown. A browser remembers that it could not get one, so the page is loaded
// anew once the gateway answers again.
async function load(name) {
  if (name !== "run" && !VIEWS.includes(name)) return null;
  const wanted = shown;
  try {
    return await import(`./views/${name}.js`);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // no answer is a TypeError; this is a broken edit
    put(main, h("p", { class: "empty" }, t("lost")));
    do await new Promise((done) => setTimeout(done, RELOAD_MS)); while (shown === wanted && !health);
    if (shown === wanted) location.reload();
    return null;
  }
}

async function route() {
  const { path, query } = here();
  if (!path.length) return location.replace("#/runs");
  const name = path[0] === "runs" && path[1] ? "run" : path[0];
  const place = path.join("/");
  if (view?.update && shown === `${name} ${place}`) return view.update(query);
  view?.close?.();
  view = undefined;
  document.querySelectorAll("dialog[open]").forEach((one) => one.close()); // it was about what is left now
  useKeys([]);
  for (const [key, link] of Object.entries(links)) {
    if (key !== path[0]) link.removeAttribute("aria-current");
    else {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" }); // on a phone the sections do not all fit
    }
  }
  shown = `${name} ${place}`;
  const module = await load(name);
  if (shown !== `${name} ${place}`) return; // the user has gone on meanwhile
  if (!module) return put(main, h("p", { class: "empty" }, t("no_view")));
  view = module.show(path.slice(1), query);
  useKeys(view.keys ?? []);
  const hadFocus = main.contains(document.activeElement);
  put(main, view.node);
  if (hadFocus) main.focus({ preventScroll: true });
  document.title = `${view.title ?? t(path[0])} · pyoco`;
  scrollTo(0, 0);
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
