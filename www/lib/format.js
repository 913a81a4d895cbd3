// Times, sizes and numbers as a person reads them. All times are unix seconds.
import { language, texts } from "./i18n.js";

const t = texts({});

const UNITS = { en: { d: " d", h: " h", m: " min", s: " s", ms: " ms" }, ja: { d: "日", h: "時間", m: "分", s: "秒", ms: " ms" } };

// 0.0012 -> "1.2 ms", 75 -> "1 min 15 s".
export function duration(sec) {
  if (sec === null || sec === undefined || Number.isNaN(sec)) return "";
  const u = UNITS[language()];
  if (sec < 0.9995) return `${+Math.max(0, sec * 1000).toFixed(sec < 0.00995 ? 1 : 0)}${u.ms}`;
  if (sec < 59.95) return `${+sec.toFixed(sec < 9.995 ? 2 : 1)}${u.s}`;
  const whole = Math.round(sec);
  const [d, hours, min, rest] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60, whole % 60];
  if (d) return `${d}${u.d}${hours ? ` ${hours}${u.h}` : ""}`;
  if (hours) return `${hours}${u.h}${min ? ` ${min}${u.m}` : ""}`;
  return `${min}${u.m}${rest ? ` ${rest}${u.s}` : ""}`;
}

// How far away a time is: "3 min ago", "in 2 h".
export function away(at, now = Date.now() / 1000) {
  if (!at) return "";
  const sec = Math.abs(at - now);
  const [unit, size] = sec < 60 ? ["second", 1] : sec < 3600 ? ["minute", 60] : sec < 86400 ? ["hour", 3600] : ["day", 86400];
  return formats().away.format(Math.sign(at - now) * Math.floor(sec / size), unit);
}

// Made once for each language: that takes longer than a thousand uses.
const made = {};

function formats() {
  const place = language() === "ja" ? "ja" : "en-GB";
  const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit" }, day = { month: "short", day: "numeric" };
  return made[place] ??= {
    clock: new Intl.DateTimeFormat(place, clock), day: new Intl.DateTimeFormat(place, { ...day, ...clock }),
    year: new Intl.DateTimeFormat(place, { year: "numeric", ...day, ...clock }), count: new Intl.NumberFormat(place),
    away: new Intl.RelativeTimeFormat(place, { style: "narrow", numeric: "auto" }),
  };
}

// The time in the reader's zone, with the day when it is not today, with the year when it is not this one.
export function time(at) {
  if (!at) return "";
  const then = new Date(at * 1000), now = new Date();
  const kind = then.toDateString() === now.toDateString() ? "clock" : then.getFullYear() === now.getFullYear() ? "day" : "year";
  return formats()[kind].format(then);
}

export function bytes(n) {
  if (n === null || n === undefined) return "";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let at = 0;
  while (n >= 1000 && at < units.length - 1) { n /= 1000; at++; }
  return `${at && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
}

export const count = (n) => formats().count.format(n);

// The first eight characters tell runs apart for a person.
export const shortId = (id) => (id && id.length > 12 ? id.slice(0, 8) : id);

// The JSON object that a person has typed, undefined for nothing; throws what is wrong with it.
export function jsonObject(text) {
  if (!text.trim()) return undefined;
  let message = text.slice(0, 40);
  try {
    const value = JSON.parse(text);
    if (value && typeof value === "object" && !Array.isArray(value)) return value;
  } catch (error) {
    message = error.message;
  }
  throw new Error(t("bad_json", { message }));
}
