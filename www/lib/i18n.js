// Two languages. Each view brings its texts: `const t = texts({ en: {...}, ja: {...} })`, then t("key", { n: 3 }) fills
// {n}. A key that one language lacks is a defect (spec/www).

const LANGUAGES = { en: "English", ja: "日本語" };
const KEY = "pyoco.lang";

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

// The texts of a module as a function of their key.
export const texts = (table) => (key, values) => {
  const text = table[lang][key] ?? table.en[key] ?? key;
  return values ? text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "") : text;
};
