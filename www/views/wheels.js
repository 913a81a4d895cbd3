// Packages for workers: what is there, a new one by drop or choice, tags, history.
import { ApiError, apiKey, get, headers, send, urlOf } from "../lib/api.js";
import { h, put } from "../lib/dom.js";
import { bytes, time } from "../lib/format.js";
import { texts } from "../lib/i18n.js";
import { panel, table } from "../lib/panel.js";
import { button, confirm, empty } from "../lib/parts.js";

const t = texts({
  en: {
    title: "Packages (wheels)", none: "No packages.", none_text: "Workers with wheel sync on install what is here by their tags.",
    name: "Name", size: "Size", tags: "Tags", uploaded: "Uploaded", all: "all workers", remove: "Delete",
    sure: "Delete this package? Workers remove it at their next sync.", yes: "Delete", no: "Keep it", upload: "Upload",
    choose: "Choose or drop a .whl file", tags_hint: "Tags, separated by commas; none = all workers",
    sending: "{name}: {percent} %", done: "{name} is uploaded.", warn: "Note: {text}", history: "History", when: "When",
    action: "Action", who: "By", from: "From", download: "Download", upload_action: "upload", delete_action: "delete",
    failed: "The connection broke during the upload.",
  },
  ja: {
    title: "パッケージ (wheel)", none: "パッケージはありません。", none_text: "同期が有効なワーカーは、タグに応じてここにあるものをインストールします。", name: "名前", size: "サイズ",
    tags: "タグ", uploaded: "アップロード", all: "すべてのワーカー", remove: "削除", sure: "このパッケージを削除しますか? ワーカーは次の同期で取り除きます。", yes: "削除する", no: "残す",
    upload: "アップロード", choose: ".whl ファイルを選ぶかドロップ", tags_hint: "タグ (カンマ区切り)。空ならすべてのワーカー", sending: "{name}: {percent} %",
    done: "{name} をアップロードしました。", warn: "注意: {text}", history: "履歴", when: "日時", action: "操作", who: "実行者", from: "アクセス元",
    download: "ダウンロード", upload_action: "アップロード", delete_action: "削除", failed: "アップロード中に接続が切れました。",
  },
});

const EVERY_MS = 5000;

// Sends a file with progress, which fetch cannot tell of.
function upload(file, tags, onProgress) {
  return new Promise((resolve, reject) => {
    const body = new FormData();
    body.append("replace", "true");
    if (tags) body.append("tags", tags);
    body.append("wheel", file, file.name);
    const request = new XMLHttpRequest();
    request.open("POST", "/wheels");
    request.responseType = "json"; // null when it is none
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => { if (event.lengthComputable) onProgress(event.loaded / event.total); };
    request.onload = () => {
      if (request.status < 300) resolve(request.response);
      else reject(new ApiError(request.status, request.response));
    };
    request.onerror = () => reject(new Error(t("failed")));
    request.send(body);
  });
}

// A download that needs a key cannot be a plain link.
async function download(name) {
  const blob = await (await send("GET", urlOf("wheels", name))).blob();
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function uploader(done) {
  const bar = h("progress", { max: 1, value: 0, hidden: true });
  const said = h("p", { role: "status" });
  const tags = h("input", { name: "tags", placeholder: t("tags_hint"), "aria-label": t("tags_hint") });
  async function take(file) {
    if (!file) return;
    bar.hidden = false;
    said.className = "";
    try {
      const answer = await upload(file, tags.value.trim(), (part) => {
        bar.value = part;
        said.textContent = t("sending", { name: file.name, percent: Math.round(part * 100) });
      });
      said.textContent = [t("done", { name: answer.name }), ...(answer.warnings ?? []).map((one) =>
        t("warn", { text: one.message ?? one }))].join(" ");
      said.className = "good";
      done();
    } catch (error) {
      said.textContent = error.message;
      said.className = "bad";
    }
    bar.hidden = true;
  }
  const input = h("input", { type: "file", accept: ".whl", class: "hidden",
    on: { change: () => { take(input.files[0]); input.value = ""; } } });
  const zone = h("section", { class: "card drop", on: {
    dragover: (event) => { event.preventDefault(); zone.classList.add("dropping"); },
    dragleave: () => zone.classList.remove("dropping"),
    drop: (event) => { event.preventDefault(); zone.classList.remove("dropping"); take(event.dataTransfer.files[0]); },
  } }, h("h2", null, t("upload")), h("div", { class: "inline" }, tags, h("label", { class: "button primary" }, t("choose"), input)), bar,
    said);
  return zone;
}

async function showHistory(place) {
  const events = await get("/wheels/history", { limit: 100 });
  put(place, table(t("history"), [[t("when"), (one) => time(one.occurred_at)], [t("action"), (one) => t(`${one.action}_action`)],
    [t("name"), (one) => one.wheel_name], [t("tags"), (one) => (one.tags ?? []).join(", ")],
    [t("who"), (one) => one.actor?.api_key_id ?? ""],
    [t("from"), (one) => [one.source?.remote_addr, one.source?.user_agent].filter(Boolean).join(", ")]], events,
    (one) => `${one.occurred_at} ${one.wheel_name}`));
}

export function show() {
  const remove = async (wheel) => {
    if (!await confirm(t("sure"), wheel.name, [t("yes"), "danger"], t("no"))) return;
    await send("DELETE", urlOf("wheels", wheel.name));
  };
  const link = (wheel) => (apiKey() ? button(t("download"), () => view.act(() => download(wheel.name)), "quiet")
    : h("a", { href: urlOf("wheels", wheel.name), download: wheel.name }, t("download")));
  const view = panel({ title: t("title"), every: EVERY_MS, read: () => get("/wheels"),
    draw: (list) => (list.length ? table(t("title"), [
      [t("name"), (one) => h("strong", null, one.name)], [t("size"), (one) => bytes(one.size_bytes)],
      [t("tags"), (one) => one.tags.join(", ") || t("all")], [t("uploaded"), (one) => time(Date.parse(one.mtime) / 1000)],
      ["", (one) => h("span", { class: "links" }, link(one), button(t("remove"), () => view.act(() => remove(one)), "quiet"))],
    ], list, (one) => one.name)
      : empty("asleep", t("none"), t("none_text"))) });
  const history = h("div");
  view.node.prepend(uploader(() => view.refresh()));
  view.node.append(h("details", { class: "card", on: { toggle: (event) => {
    if (event.target.open) view.act(() => showHistory(history));
  } } }, h("summary", null, t("history")), history));
  return view;
}
