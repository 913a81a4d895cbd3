// The workers: how they are, what they run, what they have installed.
import { get, send, urlOf } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { away, bytes, time } from "../lib/format.js";
import { texts } from "../lib/i18n.js";
import { panel } from "../lib/panel.js";
import { button, empty, fact, runLink } from "../lib/parts.js";
import { go } from "../lib/router.js";
import { badge } from "../lib/status.js";

const t = texts({
  en: {
    title: "Workers", all: "Also those that are gone", hidden: "Also hidden ones", none: "No worker is here.",
    none_text: "Start one:", slots: "Slots", busy: "{n} of {all} busy", now: "Runs now", last: "Last run", tags: "Tags",
    memory: "Memory", seen: "Last seen", host: "Host", version: "Version", flows: "Flows", hide: "Hide", show: "Show again",
    broken: "Flow files that do not load", sync: "Packages", sync_off: "not synced", sync_ok: "{n} installed, synced {when}",
    sync_error: "Sync failed: {error}", skipped: "Skipped", reason: "not for this worker ({reason})", idle: "nothing",
  },
  ja: {
    title: "ワーカー", all: "いなくなったものも", hidden: "隠したものも", none: "ワーカーがいません。", none_text: "起動するには:", slots: "スロット",
    busy: "{all} 個中 {n} 個使用中", now: "実行中", last: "最後の実行", tags: "タグ", memory: "メモリ", seen: "最終確認", host: "ホスト", version: "バージョン",
    flows: "フロー", hide: "隠す", show: "再表示", broken: "読み込めないフローファイル", sync: "パッケージ", sync_off: "同期なし",
    sync_ok: "{n} 個インストール済み({when}に同期)", sync_error: "同期に失敗: {error}", skipped: "対象外", reason: "このワーカー向けではない ({reason})",
    idle: "なし",
  },
});

const EVERY_MS = 2000;

function slotsOf(worker) {
  return typeof worker.slots === "object" && worker.slots ? Object.values(worker.slots).reduce((sum, n) => sum + n, 0) : worker.slots;
}

function wheels(sync) {
  if (!sync?.enabled) return t("sync_off");
  if (sync.last_result === "error") return h("span", { class: "bad" }, t("sync_error", { error: sync.last_error ?? "" }));
  return t("sync_ok", { n: sync.installed_wheels?.length ?? 0, when: away(sync.last_synced_at) });
}

function card(worker, act) {
  const running = (worker.current_run_ids ?? [worker.current_run_id]).filter(Boolean);
  const slots = slotsOf(worker);
  const installed = worker.wheel_sync?.installed_wheels ?? [], skipped = worker.wheel_sync?.skipped_incompatible ?? [];
  const hide = () => send("PATCH", urlOf("workers", worker.worker_id), { json: { hidden: !worker.hidden } });
  return h("article", { class: "card worker", data: { key: worker.worker_id } },
    h("h2", null, worker.worker_id, " ", badge(worker.state), button(worker.hidden ? t("show") : t("hide"), () => act(hide), "quiet")),
    h("dl", { class: "facts" }, fact(t("tags"), worker.tags.join(", ")),
      fact(t("slots"), slots ? t("busy", { n: running.length, all: slots }) : null),
      fact(t("now"), running.length ? h("span", { class: "links" }, running.map(runLink)) : t("idle")),
      fact(t("last"), worker.last_run_id && h("span", null, runLink(worker.last_run_id), " ", badge(worker.last_run_status))),
      fact(t("memory"), bytes(worker.memory_bytes)),
      fact(t("seen"), h("span", { title: time(worker.last_seen_at) }, away(worker.last_seen_at))),
      fact(t("host"), worker.host && `${worker.host} (${worker.pid})`), fact(t("version"), worker.version),
      fact(t("flows"), worker.flows?.map((flow) => flow.name).join(", ")),
      fact(t("sync"), wheels(worker.wheel_sync))),
    installed.length > 0 && h("ul", { class: "plain" }, installed.map((one) =>
      h("li", null, `${one.package_name} ${one.package_version}`))),
    skipped.length > 0 && h("details", null, h("summary", null, `${t("skipped")}: ${skipped.length}`),
      h("ul", null, skipped.map((one) => h("li", null, `${one.wheel_name}: ${t("reason", { reason: one.reason })}`)))),
    worker.flow_errors?.length > 0 && h("details", { open: true }, h("summary", { class: "bad" }, t("broken")),
      h("ul", null, worker.flow_errors.map((one) => h("li", null, h("code", null, `${one.file}${one.line ? `:${one.line}` : ""}`),
      ` ${one.message}`)))));
}

export function show(_, query) {
  const boxes = ["all", "hidden"].map((name) => h("input", { type: "checkbox", name, checked: query[name] === "1",
    on: { change: (event) => go(["workers"], { ...query, [name]: event.target.checked ? "1" : "" }) } }));
  const view = panel({ title: t("title"), every: EVERY_MS,
    before: h("div", { class: "inline" }, boxes.map((box) => h("label", null, box, " ", t(box.name)))),
    read: () => get("/workers", { scope: query.all ? "all" : "active", include_hidden: query.hidden ? "true" : "", limit: 500 }),
    draw: (workers) => (workers.length ? h("div", { class: "cards" }, workers.map((worker) => card(worker, view.act)))
      : empty("asleep", t("none"), t("none_text"), h("code", null, "pyoco-host worker.lua --tags default"))) });
  return Object.assign(view, {
    update(next) {
      query = next;
      for (const box of boxes) box.checked = query[box.name] === "1";
      view.refresh();
    },
  });
}
