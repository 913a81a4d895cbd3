// Schedules: when what runs next, what came of it, a new one.
import {
  ago, away, badge, button, confirm, dialog, dropZone, duration, empty, field, formOf, get, h, notice, runLink, send, single, table, texts,
  time, urlOf,
} from "../lib/ui.js";
import { panel } from "../lib/panel.js";

const t = texts({
  none: ["No schedules.", "スケジュールはありません。"], kind: ["When", "いつ"],
  once: ["once, {at}", "一度だけ {at}"], every: ["every {time}", "{time}ごと"], next: ["Next", "次回"], last: ["Last run", "前回の実行"],
  count: ["Runs", "回数"], show_runs: ["Show runs", "実行を見る"],
  sure: ["Delete this schedule? Its runs stay.", "このスケジュールを削除しますか? 実行は残ります。"], new_one: ["New schedule", "新しいスケジュール"],
  document: ["Document (flow.yaml)", "ドキュメント (flow.yaml)"], interval: ["Every (seconds)", "間隔 (秒)"],
  run_at: ["Once at", "一度だけの日時"], start_at: ["First time (optional)", "最初の日時 (任意)"], create: ["Create", "作成"],
  failed: ["The last dispatch failed: {error}", "直近の投入に失敗: {error}"], changed: ["Changed", "更新"],
  one_of: ["Give either an interval or a time.", "間隔か日時のどちらかを指定してください。"], made: ["Created.", "作成しました。"],
  no_runs: ["It has not run yet.", "まだ実行していません。"],
});

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
  const body = items.length ? table(t("show_runs"), [
    [t("run"), (run) => runLink(run.run_id)],
    [t("state"), (run) => badge(run.status)], [t("changed"), (run) => time(run.updated_at)],
  ], items, (run) => run.run_id) : h("p", t("no_runs"));
  await dialog(schedule.flow_name, body);
}

function creator(done) {
  const { node: said, say } = notice();
  const area = h("textarea", { name: "workflow", class: "code", rows: "8", required: true });
  const input = (name, label, more) => field(label, h("input", { name, ...more }));
  const form = h("form", { onsubmit: single(async () => {
    const { workflow, interval, run_at: once, start_at: first, flow_name, tag } = Object.fromEntries(new FormData(form));
    if (Boolean(interval) === Boolean(once)) return say(t("one_of"), true);
    try {
      await send("POST", "/schedules/yaml", { body: formOf({ flow_name, tag, interval_seconds: interval, run_at: withZone(once),
        start_at: withZone(first) }, "workflow", workflow) });
      say(t("made"));
      done();
    } catch (error) {
      say(error.errors?.length ? error.errors.map((one) => `${one.line}:${one.column} ${one.message}`).join("; ") : error.message, true);
    }
  }) }, field(t("document"), area),
  h("div.inline", input("flow_name", t("flow_name"), { required: true }), input("tag", t("tag"), { placeholder: "default" }),
    input("interval", t("interval"), { type: "number", min: "0.2", step: "any" }),
    input("start_at", t("start_at"), { type: "datetime-local" }), input("run_at", t("run_at"), { type: "datetime-local" }),
    h("button.primary", t("create"))), said);
  return dropZone(h("details.card", { open: true }, h("summary", t("new_one")), form), async (_, text) => {
    area.value = await text() || area.value;
  });
}

export function show(_, query) {
  let asked; // whether the form was opened for who has no schedule
  const remove = async (one) => await confirm(t("sure"), one.flow_name) && send("DELETE", urlOf("schedules", one.schedule_id));
  const view = panel({ title: t("schedules"), read: async () => {
    const list = await get("/schedules");
    asked ??= form.open = !list.length;
    return list;
  },
  draw: (list) => (list.length ? table(t("schedules"), [
      [t("flow"), (one) => h("strong", one.flow_name)], [t("tag"), (one) => one.tag],
      [t("kind"), (one) => (one.schedule_type === "once" ? t("once", { at: time(one.run_at) })
        : t("every", { time: duration(one.interval_seconds) }))],
      [t("next"), (one) => one.next_run_at && h("time", { title: nextTimes(one) }, away(one.next_run_at))],
      [t("last"), (one) => (one.last_run_id || one.last_error) && h("span", runLink(one.last_run_id), " ", ago(one.last_submitted_at),
        one.last_error && h("span.bad.wrap", ` ${t("failed", { error: one.last_error })}`))],
      [t("count"), (one) => one.dispatch_count], [t("state"), (one) => badge(one.status)],
      ["", (one) => h("span.links", button(t("show_runs"), () => view.act(() => showRuns(one))),
        button(t("remove"), () => view.act(() => remove(one)), "quiet"))],
    ], list, (one) => one.schedule_id, (one) => one.schedule_id === query.id && "marked") : empty("asleep", t("none"))) });
  const form = creator(() => view.refresh());
  view.node.append(form);
  return view;
}
