// Dead letters: jobs that were given up, why, and once more.
import { get, post, runPage } from "../lib/api.js";
import { dialog, h } from "../lib/dom.js";
import { away, shortId, time } from "../lib/format.js";
import { texts } from "../lib/i18n.js";
import { panel, table } from "../lib/panel.js";
import { button, confirm, empty, runLink } from "../lib/parts.js";

const t = texts({
  en: {
    title: "Dead letters", none: "No dead letters.", when: "When", reason: "Reason", run: "Run", flow: "Flow", tag: "Tag",
    error: "Error", requeue: "Run again", sure: "Run it again as a new run?", yes: "Run again", no: "Leave it", older: "Older",
    show: "Details", close: "Close", invalid_job: "the job could not be read", flow_not_found: "no worker knows the flow",
    execution_error: "a task failed", max_attempts: "delivered too often", worker_crashed: "its process died too often",
  },
  ja: {
    title: "デッドレター", none: "デッドレターはありません。", when: "日時", reason: "理由", run: "実行", flow: "フロー", tag: "タグ", error: "エラー",
    requeue: "再実行", sure: "新しい実行としてやり直しますか?", yes: "再実行する", no: "やめる", older: "さらに前", show: "詳細", close: "閉じる",
    invalid_job: "ジョブを読み取れない", flow_not_found: "フローを知るワーカーがいない", execution_error: "タスクが失敗した", max_attempts: "配信回数の上限",
    worker_crashed: "プロセスが何度も落ちた",
  },
});

const EVERY_MS = 5000;
const REASONS = new Set(["invalid_job", "flow_not_found", "execution_error", "max_attempts", "worker_crashed"]);

async function requeue(entry) {
  const what = `${entry.flow_name ?? ""} ${shortId(entry.run_id) ?? ""}`;
  if (!await confirm(t("sure"), what, [t("yes"), "primary"], t("no"))) return;
  const { run_id } = await post(`/dlq/${entry.seq}/requeue`);
  location.hash = runPage(run_id);
}

const details = (entry) => dialog(t("title"), h("pre", null, JSON.stringify(entry, null, 2)), [["", t("close"), "primary"]]);

export function show(_, query) {
  const view = panel({ title: t("title"), every: EVERY_MS, read: () => get("/dlq", { limit: 100, before: query.before }),
    draw: (answer) => {
      const items = answer.items ?? answer;
      if (!items.length) return empty("happy", t("none"));
      return [table(t("title"), [
        [t("when"), (one) => h("span", { title: time(one.timestamp) }, away(one.timestamp))],
        [t("reason"), (one) => h("span", { title: one.reason }, REASONS.has(one.reason) ? t(one.reason) : one.reason)],
        [t("flow"), (one) => one.flow_name ?? ""],
        [t("run"), (one) => runLink(one.run_id)],
        [t("tag"), (one) => one.tag ?? one.subject ?? ""],
        [t("error"), (one) => h("span", { class: "bad wrap" }, one.error ?? "")],
        ["", (one) => h("span", { class: "links" }, button(t("show"), () => details(one), "quiet"),
          one.reason !== "invalid_job" && button(t("requeue"), () => view.act(() => requeue(one))))],
      ], items, (one) => one.seq), answer.next_before && h("a", { class: "button", href: `#/dlq?before=${answer.next_before}` },
        t("older"))];
    } });
  return view;
}
