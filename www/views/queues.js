// The queues, now and over the last hour.
import { count, duration, empty, get, h, href, table, texts } from "../lib/ui.js";
import { panel } from "../lib/panel.js";
import { plot } from "../lib/plot.js";

const t = texts({
  none: ["Nothing waits.", "待っているものはありません。"], waiting: ["Waiting", "待機中"], in_hand: ["In hand", "処理中"],
  redelivered: ["Redelivered", "再配信"], oldest: ["Oldest job", "最も古いジョブ"],
  hour: ["The last hour", "直近 1 時間"], depth: ["Jobs", "ジョブ"], throughput: ["Runs ended per minute", "1 分あたりの終了数"],
  times: ["Times (mean)", "時間 (平均)"], waited: ["waited", "待ち"], ran: ["ran", "実行"], done: ["done", "完了"], failed: ["failed", "失敗"],
});

const EVERY_MS = 2000;

function plots({ step_sec: step, points }) {
  const line = (label, kind, name, of = (value) => value) => ({ label: t(label), class: kind,
    values: points.map((point) => (point[name] == null ? null : of(point[name]))) });
  const number = (value) => count(Math.round(value * 10) / 10), perMinute = (n) => (n * 60) / step;
  const times = points.map((point) => point.at);
  return h("div.plots",
    plot(t("depth"), times, [line("waiting", "wait", "waiting"), line("in_hand", "busy", "in_hand")], number),
    plot(t("oldest"), times, [{ ...line("oldest", "wait", "oldest_age_sec"), values: points.map((point) => point.oldest_age_sec ?? 0) }], duration),
    plot(t("throughput"), times, [line("done", "good", "completed", perMinute), line("failed", "bad", "failed", perMinute)], number),
    plot(t("times"), times, [line("waited", "wait", "dispatch_sec"), line("ran", "busy", "duration_sec")], duration));
}

export function show() {
  return panel({ title: t("queues"), every: EVERY_MS, read: () => get("/queues"),
    draw: ({ queues, history }) => [
      queues.length ? table(t("queues"), [
        [t("tag"), (one) => h("a", { href: href(["runs"], { tag: one.tag }) }, one.tag)],
        [t("waiting"), (one) => count(Math.max(0, one.jobs - (one.in_hand ?? 0)))], [t("in_hand"), (one) => one.in_hand ?? ""],
        [t("redelivered"), (one) => one.redelivered || ""], [t("oldest"), (one) => duration(one.oldest_age_sec)],
        [t("workers"), (one) => (one.workers ? count(one.workers) : h("span.bad", t("nobody")))],
        [t("slots"), (one) => one.slots || ""],
      ], queues, (one) => one.tag) : empty("happy", t("none")),
      h("h2", t("hour")), plots(history)] });
}
