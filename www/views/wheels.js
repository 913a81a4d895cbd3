// Packages for workers.
import { ApiError, apiKey, button, bytes, confirm, dropZone, empty, get, h, headers, notice, put, send, table, texts, time, urlOf } from "../lib/ui.js";
import { panel } from "../lib/panel.js";

const t = texts({
  title: ["Packages (wheels)", "パッケージ (wheel)"], none: ["No packages.", "パッケージはありません。"],
  none_text: ["Workers with wheel sync on install what is here by their tags.", "同期が有効なワーカーは、タグに応じてここにあるものをインストールします。"],
  size: ["Size", "サイズ"], uploaded: ["Uploaded", "アップロード"], all: ["all workers", "すべてのワーカー"],
  sure: ["Delete this package? Workers remove it at their next sync.", "このパッケージを削除しますか? ワーカーは次の同期で取り除きます。"],
  upload: ["Upload", "アップロード"], choose: ["Choose or drop a .whl file", ".whl ファイルを選ぶかドロップ"],
  tags_hint: ["Tags, separated by commas; none = all workers", "タグ (カンマ区切り)。空ならすべてのワーカー"],
  done: ["{name} is uploaded.", "{name} をアップロードしました。"],
  warn: ["Note: {text}", "注意: {text}"], history: ["History", "履歴"], action: ["Action", "操作"], who: ["By", "実行者"],
  from: ["From", "アクセス元"], download: ["Download", "ダウンロード"], upload_action: ["upload", "アップロード"],
  delete_action: ["delete", "削除"],
});

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
    request.onerror = () => reject(new ApiError(0));
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
  const bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": t("upload") });
  const { node: said, say } = notice();
  const tags = h("input", { name: "tags", placeholder: t("tags_hint"), "aria-label": t("tags_hint") });
  async function take(file) {
    if (!file) return;
    bar.hidden = false;
    try {
      const answer = await upload(file, tags.value.trim(), (part) => {
        bar.value = part;
        say(`${file.name}: ${Math.round(part * 100)} %`);
      });
      say([t("done", { name: answer.name }), ...(answer.warnings ?? []).map((one) => t("warn", { text: one.message ?? one }))].join(" "));
      done();
    } catch (error) {
      say(error.message, true);
    }
    bar.hidden = true;
  }
  const input = h("input", { type: "file", accept: ".whl", class: "hidden",
    onchange: () => { take(input.files[0]); input.value = ""; } });
  return dropZone(h("section.card.drop", h("div.inline", tags,
    h("label.button.primary", t("choose"), input)), bar, said), take);
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
  const remove = async ({ name }) => await confirm(t("sure"), name) && send("DELETE", urlOf("wheels", name));
  const link = (wheel) => (apiKey() ? button(t("download"), () => view.act(() => download(wheel.name)), "quiet")
    : h("a", { href: urlOf("wheels", wheel.name), download: wheel.name }, t("download")));
  const view = panel({ title: t("title"), read: () => get("/wheels"),
    draw: (list) => (list.length ? table(t("title"), [
      [t("name"), (one) => h("strong", one.name)], [t("size"), (one) => bytes(one.size_bytes)],
      [t("tags"), (one) => one.tags.join(", ") || t("all")], [t("uploaded"), (one) => time(Date.parse(one.mtime) / 1000)],
      ["", (one) => h("span.links", link(one), button(t("remove"), () => view.act(() => remove(one)), "quiet"))],
    ], list, (one) => one.name)
      : empty("asleep", t("none"), t("none_text"))) });
  const history = h("div");
  view.node.prepend(uploader(() => view.refresh()));
  view.node.append(h("details.card", { ontoggle: (event) => {
    if (event.target.open) view.act(() => showHistory(history));
  } }, h("summary", t("history")), history));
  return view;
}
