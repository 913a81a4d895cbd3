// Dead letters: jobs that were given up, why, and once more.
import { get, post, runPage } from "../lib/api.js";
import { dialog, h } from "../lib/dom.js";
import { away, shortId, time } from "../lib/format.js";
import { frog } from "../lib/frog.js";
import { texts } from "../lib/i18n.js";
import { panel, table } from "../lib/panel.js";

const t = texts({
  en: { title: "Dead letters", none: "No dead letters.", when: "When", reason: "Reason", run: "Run", flow: "Flow", tag: "Tag", error: "Error", requeue: "Run again", sure: "Run it again as a new run?", yes: "Run again", no: "Leave it", older: "Older", show: "Details", close: "Close",
    invalid_job: "the job could not be read", flow_not_found: "no worker knows the flow", execution_error: "a task failed", max_attempts: "delivered too often", worker_crashed: "its process died too often" },
  ja: { title: "デッドレター", none: "デッドレターはありません。", when: "日時", reason: "理由", run: "実行", flow: "フロー", tag: "タグ", error: "エラー", requeue: "再実行", sure: "新しい実行としてやり直しますか?", yes: "再実行する", no: "やめる", older: "さらに前", show: "詳細", close: "閉じる",
    invalid_job: "ジョブを読み取れない", flow_not_found: "フローを知るワーカーがいない", execution_error: "タスクが失敗した", max_attempts: "配信回数の上限", worker_crashed: "プロセスが何度も落ちた" },
});

const EVERY_MS = 5000;
const REASONS = new Set(["invalid_job", "flow_not_found", "execution_error", "max_attempts", "worker_crashed"]);

async function requeue(entry) {
  if (await dialog(t("sure"), h("p", null, `${entry.flow_name ?? ""} ${shortId(entry.run_id) ?? ""}`), [["yes", t("yes"), "primary"], ["", t("no")]]) !== "yes") return;
  const { run_id } = await post(`/dlq/${entry.seq}/requeue`);
  location.hash = runPage(run_id);
}

export function show(_, query) {
  const view = panel({ title: t("title"), every: EVERY_MS, read: () => get("/dlq", { limit: 100, before: query.before }),
    draw: (answer) => {
      const items = answer.items ?? answer;
      if (!items.length) return h("div", { class: "empty" }, frog("happy", 88), h("p", null, t("none")));
      return [table(t("title"), [
        [t("when"), (one) => h("span", { title: time(one.timestamp) }, away(one.timestamp))],
        [t("reason"), (one) => h("span", { title: one.reason }, REASONS.has(one.reason) ? t(one.reason) : one.reason)],
        [t("flow"), (one) => one.flow_name ?? ""],
        [t("run"), (one) => one.run_id && h("a", { href: runPage(one.run_id) }, h("code", null, shortId(one.run_id)))],
        [t("tag"), (one) => one.tag ?? one.subject ?? ""],
        [t("error"), (one) => h("span", { class: "bad wrap" }, one.error ?? "")],
        ["", (one) => h("span", { class: "links" }, h("button", { class: "quiet", type: "button", on: { click: () => dialog(t("title"), h("pre", null, JSON.stringify(one, null, 2)), [["", t("close"), "primary"]]) } }, t("show")),
          one.reason !== "invalid_job" && h("button", { type: "button", on: { click: () => view.act(() => requeue(one)) } }, t("requeue")))],
      ], items, (one) => one.seq), answer.next_before && h("a", { class: "button", href: `#/dlq?before=${answer.next_before}` }, t("older"))];
    } });
  return view;
}
