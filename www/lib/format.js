// Times, sizes and numbers as a person reads them. All times are unix seconds.
import { language } from "./i18n.js";

const WORDS = {
  en: { now: "now", ago: (text) => `${text} ago`, in: (text) => `in ${text}` },
  ja: { now: "今", ago: (text) => `${text}前`, in: (text) => `${text}後` },
};
const UNITS = { en: { d: " d", h: " h", m: " min", s: " s", ms: " ms" }, ja: { d: "日", h: "時間", m: "分", s: "秒", ms: "ミリ秒" } };

// 0.0123 -> "12 ms", 75 -> "1 min 15 s".
export function duration(sec) {
  if (sec === null || sec === undefined || Number.isNaN(sec)) return "";
  const u = UNITS[language()];
  if (sec < 0.9995) return `${Math.max(0, Math.round(sec * 1000))}${u.ms}`;
  if (sec < 59.95) return `${sec.toFixed(sec < 9.995 ? 2 : 1)}${u.s}`;
  const whole = Math.round(sec);
  const [d, hours, min, rest] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60, whole % 60];
  if (d) return `${d}${u.d}${hours ? ` ${hours}${u.h}` : ""}`;
  if (hours) return `${hours}${u.h}${min ? ` ${min}${u.m}` : ""}`;
  return `${min}${u.m}${rest ? ` ${rest}${u.s}` : ""}`;
}

// How far away a time is: "3 min ago", "in 2 h".
export function away(at, now = Date.now() / 1000) {
  if (!at) return "";
  const words = WORDS[language()];
  const sec = now - at;
  if (Math.abs(sec) < 1) return words.now;
  const text = coarse(Math.abs(sec));
  return sec >= 0 ? words.ago(text) : words.in(text);
}

function coarse(sec) {
  const u = UNITS[language()];
  if (sec < 60) return `${Math.round(sec)}${u.s}`;
  if (sec < 3600) return `${Math.floor(sec / 60)}${u.m}`;
  if (sec < 86400) return `${Math.floor(sec / 3600)}${u.h}`;
  return `${Math.floor(sec / 86400)}${u.d}`;
}

// Made once for each language: that takes longer than a thousand uses.
const made = {};
const formats = () => made[language()] ??= {
  time: new Intl.DateTimeFormat(language(), { dateStyle: "short", timeStyle: "medium" }), count: new Intl.NumberFormat(language()),
};

// Date and time in the reader's zone.
export function time(at) {
  if (!at) return "";
  return formats().time.format(new Date(at * 1000));
}

export function bytes(n) {
  if (n === null || n === undefined) return "";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let at = 0;
  while (n >= 1000 && at < units.length - 1) { n /= 1000; at++; }
  return `${at && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
}

export const count = (n) => formats().count.format(n);

// The first eight characters tell runs apart for a person; the whole id is in the title.
export const shortId = (id) => (id && id.length > 12 ? id.slice(0, 8) : id);
