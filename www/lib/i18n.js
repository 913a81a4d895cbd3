// Two languages. A module brings its texts, `const t = texts({ key: ["English", "日本語"] })`; t(key, { n: 3 }) fills {n}.

const LANGUAGES = { en: "English", ja: "日本語" };
const KEY = "pyoco.lang";

// Words of more than one module.
const COMMON = {
  runs: ["Runs", "実行"], submit: ["Submit", "投入"], workers: ["Workers", "ワーカー"], queues: ["Queues", "キュー"],
  schedules: ["Schedules", "スケジュール"], wheels: ["Wheels", "パッケージ"], dlq: ["Dead letters", "デッドレター"],
  run: ["Run", "実行"], flow: ["Flow", "フロー"], flow_name: ["Flow name", "フロー名"], tag: ["Tag", "タグ"], tags: ["Tags", "タグ"],
  name: ["Name", "名前"], state: ["State", "状態"], error: ["Error", "エラー"], when: ["When", "日時"], started: ["Started", "開始"],
  took: ["Took", "所要時間"], slots: ["Slots", "スロット"], timeline: ["Timeline", "タイムライン"], params: ["Parameters", "パラメータ"],
  search: ["Search", "検索"], close: ["Close", "閉じる"], remove: ["Delete", "削除"], yes: ["Delete", "削除する"], no: ["Keep it", "残す"],
  nobody: ["no worker has this tag", "このタグのワーカーがいません"], again: ["Run again", "もう一度実行"],
  lost: ["No connection; trying again …", "接続が切れました。再接続しています…"],
  bad_json: ["This is no JSON object: {message}", "JSON オブジェクトではありません: {message}"],
};

let lang = localStorage.getItem(KEY) || document.documentElement.lang;
if (!LANGUAGES[lang]) lang = "en";
document.documentElement.lang = lang;

export const languages = () => Object.entries(LANGUAGES);
export const language = () => lang;

// Changes the language for this browser; the caller draws anew.
export function setLanguage(next) {
  lang = LANGUAGES[next] ? next : "en";
  localStorage.setItem(KEY, lang);
  document.documentElement.lang = lang;
}

// The texts of a module, and the common ones, as a function of their key.
export const texts = (table) => (key, values) => {
  const text = (table[key] ?? COMMON[key])?.[lang === "ja" ? 1 : 0] ?? key;
  return values ? text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "") : text;
};
