// The gateway's API. A key is kept for the session and sent as a header: never in a URL.
import { texts } from "./i18n.js";
import { queryOf } from "./router.js";

const t = texts({
  unreachable: ["The gateway does not answer. Is it running?", "ゲートウェイが応答しません。起動していますか?"],
  need_key: ["This gateway wants an API key. Enter yours with the button “API key” above.", "このゲートウェイには API キーが必要です。上の「API キー」ボタンから入力してください。"],
  bad_key: ["The API key is not valid, or was revoked. Enter another one, or ask for a new one.", "API キーが無効か、失効しています。別のキーを入力するか、新しいキーを発行してもらってください。"],
  not_ready: ["Not ready ({detail}). Wait a moment and try again.", "準備中です ({detail})。少し待って、もう一度お試しください。"],
  too_many: ["Too many wrong keys from this address. Wait a moment.", "このアドレスからの誤ったキーが多すぎます。少し待ってください。"],
  gone: ["It is not there (any more).", "見つかりません(削除された可能性があります)。"], failed: ["Failed ({status}).", "失敗しました ({status})。"],
});

const KEY = "pyoco.key";
export const keyHeader = document.documentElement.dataset.keyHeader || "X-API-Key";

export const apiKey = () => sessionStorage.getItem(KEY) ?? "";
export const setApiKey = (key) => (key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY));

// What went wrong: in our words where a person has to do something, else the gateway's own. `status` 0: no answer;
// `errors`: of a document.
export class ApiError extends Error {
  constructor(status, body) {
    const said = typeof body?.detail === "string" ? body.detail
      : Array.isArray(body?.detail) ? body.detail.map((item) => `${(item.loc ?? []).join(".")}: ${item.msg}`).join("; ") : "";
    super({ 0: t("unreachable"), 401: t("need_key"), 403: apiKey() ? t("bad_key") : said, 404: t("gone"), 429: t("too_many"),
      503: t("not_ready", { detail: said }) }[status] ?? (said || t("failed", { status })));
    this.status = status;
    this.errors = body?.errors ?? [];
  }
}

export const headers = (more) => (apiKey() ? { ...more, [keyHeader]: apiKey() } : { ...more });

// Sends a request and gives the fetch answer when it is a success; throws ApiError otherwise.
export async function send(method, path, { json, body = json && JSON.stringify(json), signal } = {}) {
  const answer = await fetch(path, { method, body, signal, headers: headers(json && { "content-type": "application/json" }) })
    .catch((error) => { throw error.name === "AbortError" ? error : new ApiError(0); });
  if (answer.ok) return answer;
  throw new ApiError(answer.status, await answer.json().catch(() => null));
}

export const get = async (path, values, options) => (await send("GET", path + queryOf(values), options)).json();
export const post = async (path, json, options) => (await send("POST", path, { json: json ?? {}, ...options })).json();
export const readText = async (path) => (await send("GET", path)).text();

// A form of the fields that are not empty, and of a document as a file: kind "workflow" or "bundle".
export function formOf(fields, kind, text) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) body.append(name, value);
  body.append(kind, new Blob([text], { type: "application/x-yaml" }), kind === "bundle" ? "bundle.yaml" : "flow.yaml");
  return body;
}

// Submits a document: the answer, { run_id, ... }.
export const submitForm = async (fields, kind, text) =>
  (await send("POST", kind === "bundle" ? "/runs/bundle" : "/runs/yaml", { body: formOf(fields, kind, text) })).json();

// "/workers/w1": the URL of something by its name; of a run or of something of it; the page of a run.
export const urlOf = (...parts) => parts.map((part) => `/${encodeURIComponent(part)}`).join("");
export const runPath = (id, ...rest) => urlOf("runs", id, ...rest);
export const runPage = (id) => `#${runPath(id)}`;
