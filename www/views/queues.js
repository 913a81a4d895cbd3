// The queues: how many wait, how long, how fast they go, over the last hour.
import { get } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { count, duration } from "../lib/format.js";
import { href } from "../lib/router.js";
import { texts } from "../lib/i18n.js";
import { panel, table } from "../lib/panel.js";
import { empty } from "../lib/parts.js";
import { plot } from "../lib/plot.js";

const t = texts({
  en: {
    title: "Queues", none: "Nothing waits.", tag: "Tag", waiting: "Waiting", in_hand: "In hand", redelivered: "Redelivered",
    oldest: "Oldest job", workers: "Workers", slots: "Slots", nobody: "no worker has this tag", hour: "The last hour",
    depth: "Waiting and in hand", throughput: "Runs ended per minute", latency: "Waiting time (mean)", long: "Run time (mean)",
    done: "done", failed: "failed", runs: "runs",
  },
  ja: {
    title: "キュー", none: "待っているものはありません。", tag: "タグ", waiting: "待機中", in_hand: "処理中", redelivered: "再配信", oldest: "最も古いジョブ",
    workers: "ワーカー", slots: "スロット", nobody: "このタグのワーカーがいません", hour: "直近 1 時間", depth: "待機中と処理中", throughput: "1 分あたりの終了数",
    latency: "待ち時間 (平均)", long: "実行時間 (平均)", done: "完了", failed: "失敗", runs: "実行",
  },
});

const EVERY_MS = 2000;

function plots({ step_sec: step, points }) {
  const column = (name) => points.map((point) => point[name] ?? null);
  const perMinute = (name) => points.map((point) => (point[name] == null ? null : (point[name] * 60) / step));
  const number = (value) => count(Math.round(value * 10) / 10);
  return h("div", { class: "plots" },
    plot(t("depth"), [{ label: t("waiting"), values: column("waiting"), class: "wait" },
      { label: t("in_hand"), values: column("in_hand"), class: "busy" }], number),
    plot(t("oldest"), [{ label: t("oldest"), values: column("oldest_age_sec"), class: "wait" }], duration),
    plot(t("throughput"), [{ label: t("done"), values: perMinute("completed"), class: "good" },
      { label: t("failed"), values: perMinute("failed"), class: "bad" }], number),
    plot(t("latency"), [{ label: t("latency"), values: column("dispatch_sec"), class: "wait" }], duration),
    plot(t("long"), [{ label: t("long"), values: column("duration_sec"), class: "busy" }], duration));
}

export function show() {
  return panel({ title: t("title"), every: EVERY_MS, read: () => get("/queues"),
    draw: ({ queues, history }) => [
      queues.length ? table(t("title"), [
        [t("tag"), (one) => h("a", { href: href(["runs"], { tag: one.tag }) }, one.tag)],
        [t("waiting"), (one) => count(Math.max(0, one.jobs - (one.in_hand ?? 0)))], [t("in_hand"), (one) => one.in_hand ?? ""],
        [t("redelivered"), (one) => one.redelivered || ""], [t("oldest"), (one) => duration(one.oldest_age_sec)],
        [t("workers"), (one) => (one.workers ? count(one.workers) : h("span", { class: "bad" }, t("nobody")))],
        [t("slots"), (one) => one.slots || ""],
      ], queues, (one) => one.tag) : empty("happy", t("none")),
      h("h2", null, t("hour")), plots(history)] });
}
