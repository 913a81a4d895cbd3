// Dead letters: jobs that were given up, why, and once more.
import { ago, button, confirm, dialog, empty, get, h, post, pre, runLink, runPage, shortId, table, texts } from "../lib/ui.js";
import { panel } from "../lib/panel.js";

const t = texts({
  none: ["No dead letters.", "デッドレターはありません。"], reason: ["Reason", "理由"], requeue: ["Run again", "再実行"],
  sure: ["Run it again as a new run?", "新しい実行としてやり直しますか?"], yes: ["Run again", "再実行する"], no: ["Leave it", "やめる"],
  older: ["Older", "さらに前"], show: ["Details", "詳細"], invalid_job: ["the job could not be read", "ジョブを読み取れない"],
  flow_not_found: ["no worker knows the flow", "フローを知るワーカーがいない"], execution_error: ["a task failed", "タスクが失敗した"],
  max_attempts: ["delivered too often", "配信回数の上限"], worker_crashed: ["its process died too often", "プロセスが何度も落ちた"],
});

async function requeue(entry) {
  const what = `${entry.flow_name ?? ""} ${shortId(entry.run_id) ?? ""}`;
  if (!await confirm(t("sure"), what, [t("yes"), "primary"], t("no"))) return;
  const { run_id } = await post(`/dlq/${entry.seq}/requeue`);
  location.hash = runPage(run_id);
}

const details = (entry) => dialog(t("dlq"), pre(entry));

export function show(_, query) {
  const view = panel({ title: t("dlq"), read: () => get("/dlq", { limit: 100, before: query.before }),
    draw: (answer) => {
      const items = answer.items ?? answer;
      if (!items.length) return empty("happy", t("none"));
      return [table(t("dlq"), [
        [t("when"), (one) => ago(one.timestamp)],
        [t("reason"), (one) => h("span", { title: one.reason }, t(one.reason))],
        [t("flow"), (one) => one.flow_name ?? ""],
        [t("run"), (one) => runLink(one.run_id)],
        [t("tag"), (one) => one.tag ?? one.subject ?? ""],
        [t("error"), (one) => h("span.bad.wrap", one.error ?? "")],
        ["", (one) => h("span.links", button(t("show"), () => details(one), "quiet"),
          one.reason !== "invalid_job" && button(t("requeue"), () => view.act(() => requeue(one))))],
      ], items, (one) => one.seq), answer.next_before && h("a.button", { href: `#/dlq?before=${answer.next_before}` },
        t("older"))];
    } });
  return view;
}
