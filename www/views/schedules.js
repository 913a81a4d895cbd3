// Schedules: when what runs next, what came of it, a new one.
import { get, send, urlOf } from "../lib/api.js";
import { dialog, h, single } from "../lib/dom.js";
import { away, duration, time } from "../lib/format.js";
import { texts } from "../lib/i18n.js";
import { panel, table } from "../lib/panel.js";
import { button, confirm, empty, field, runLink } from "../lib/parts.js";
import { badge } from "../lib/status.js";

const t = texts({
  en: {
    title: "Schedules", none: "No schedules.", none_text: "Make one with the form below.", flow: "Flow", tag: "Tag", kind: "When",
    once: "once, {at}", every: "every {time}", next: "Next", last: "Last run", count: "Runs", state: "State", runs: "Show runs",
    remove: "Delete", sure: "Delete this schedule? Its runs stay.", yes: "Delete", no: "Keep it", new_one: "New schedule",
    document: "Document (flow.yaml)", flow_name: "Flow name", interval: "Every (seconds)", run_at: "Once at",
    start_at: "First time (optional)", create: "Create", failed: "The last dispatch failed: {error}", run: "Run",
    changed: "Changed", one_of: "Give either an interval or a time.", made: "Created.", no_runs: "It has not run yet.",
    close: "Close",
  },
  ja: {
    title: "スケジュール", none: "スケジュールはありません。", none_text: "下のフォームから作れます。", flow: "フロー", tag: "タグ", kind: "いつ", once: "一度だけ {at}",
    every: "{time}ごと", next: "次回", last: "前回の実行", count: "回数", state: "状態", runs: "実行を見る", remove: "削除",
    sure: "このスケジュールを削除しますか? 実行は残ります。", yes: "削除する", no: "残す", new_one: "新しいスケジュール", document: "ドキュメント (flow.yaml)",
    flow_name: "フロー名", interval: "間隔 (秒)", run_at: "一度だけの日時", start_at: "最初の日時 (任意)", create: "作成", failed: "直近の投入に失敗: {error}",
    run: "実行", changed: "更新", one_of: "間隔か日時のどちらかを指定してください。", made: "作成しました。", no_runs: "まだ実行していません。", close: "閉じる",
  },
});

const EVERY_MS = 3000;

// The next three times of a schedule that goes on.
function nextTimes(one) {
  const times = one.schedule_type === "once" ? [0] : [0, 1, 2];
  return times.map((n) => time(one.next_run_at + n * (one.interval_seconds ?? 0))).join("\n");
}

// What a person picks in their own zone, with its offset.
const withZone = (text) => (text ? new Date(text).toISOString() : "");

async function showRuns(schedule) {
  const answer = await get(urlOf("schedules", schedule.schedule_id, "runs"), { limit: 50 });
  const items = answer.items ?? answer;
  const body = items.length ? table(t("runs"), [
    [t("run"), (run) => runLink(run.run_id)],
    [t("state"), (run) => badge(run.status)], [t("changed"), (run) => time(run.updated_at)],
  ], items, (run) => run.run_id) : h("p", null, t("no_runs"));
  await dialog(schedule.flow_name, body, [["", t("close"), "primary"]]);
}

function creator(done) {
  const said = h("p", { role: "status" });
  const form = h("form", { class: "card", on: { submit: single(async () => {
    const values = Object.fromEntries(new FormData(form));
    if (Boolean(values.interval) === Boolean(values.run_at)) {
      said.textContent = t("one_of");
      said.className = "bad";
      return;
    }
    const body = new FormData();
    const fields = { flow_name: values.flow_name, tag: values.tag, interval_seconds: values.interval, run_at: withZone(values.run_at),
      start_at: withZone(values.start_at) };
    for (const [name, value] of Object.entries(fields)) if (value) body.append(name, value);
    body.append("workflow", new Blob([values.workflow], { type: "application/x-yaml" }), "flow.yaml");
    try {
      await send("POST", "/schedules/yaml", { body });
      said.textContent = t("made");
      said.className = "good";
      done();
    } catch (error) {
      said.textContent = error.errors.length ? error.errors.map((one) => `${one.line}:${one.column} ${one.message}`).join("; ")
        : error.message;
      said.className = "bad";
    }
  }) } }, h("h2", null, t("new_one")), field(t("document"),
    h("textarea", { name: "workflow", class: "code", rows: "8", spellcheck: "false", required: true })),
  h("div", { class: "inline" }, field(t("flow_name"), h("input", { name: "flow_name", required: true })),
    field(t("tag"), h("input", { name: "tag", placeholder: "default" })),
    field(t("interval"), h("input", { name: "interval", type: "number", min: "0.2", step: "any" })),
    field(t("start_at"), h("input", { name: "start_at", type: "datetime-local" })),
    field(t("run_at"), h("input", { name: "run_at", type: "datetime-local" })), h("button", { class: "primary" }, t("create"))), said);
  return form;
}

export function show(_, query) {
  const remove = async (schedule) => {
    if (!await confirm(t("sure"), schedule.flow_name, [t("yes"), "danger"], t("no"))) return;
    await send("DELETE", urlOf("schedules", schedule.schedule_id));
  };
  const view = panel({ title: t("title"), every: EVERY_MS, read: () => get("/schedules"),
    draw: (list) => (list.length ? table(t("title"), [
      [t("flow"), (one) => h("strong", null, one.flow_name)], [t("tag"), (one) => one.tag],
      [t("kind"), (one) => (one.schedule_type === "once" ? t("once", { at: time(one.run_at) })
        : t("every", { time: duration(one.interval_seconds) }))],
      [t("next"), (one) => one.next_run_at && h("span", { title: nextTimes(one) }, away(one.next_run_at))],
      [t("last"), (one) => h("span", null, runLink(one.last_run_id), " ", away(one.last_submitted_at),
        one.last_error && h("span", { class: "bad wrap" }, ` ${t("failed", { error: one.last_error })}`))],
      [t("count"), (one) => one.dispatch_count], [t("state"), (one) => badge(one.status)],
      ["", (one) => h("span", { class: "links" }, button(t("runs"), () => view.act(() => showRuns(one))),
        button(t("remove"), () => view.act(() => remove(one)), "quiet"))],
    ], list, (one) => one.schedule_id, (one) => one.schedule_id === query.id && "marked") : empty("asleep", t("none"), t("none_text"))) });
  view.node.append(creator(() => view.refresh()));
  return view;
}
