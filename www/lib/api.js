// The gateway's API. A key, when the gateway wants one, is kept for the session and sent as a header: never in a URL.
import { texts } from "./i18n.js";

const t = texts({
  en: {
    unreachable: "The gateway does not answer. Is it running?",
    need_key: "This gateway wants an API key. Enter yours with the button “API key” above.",
    bad_key: "The API key is not valid, or was revoked. Enter another one, or ask for a new one.",
    not_ready: "Not ready ({detail}). Wait a moment and try again.",
    too_many: "Too many wrong keys from this address. Wait a moment.", gone: "It is not there (any more).",
    failed: "Failed ({status}).",
  },
  ja: {
    unreachable: "ゲートウェイが応答しません。起動していますか?", need_key: "このゲートウェイには API キーが必要です。上の「API キー」ボタンから入力してください。",
    bad_key: "API キーが無効か、失効しています。別のキーを入力するか、新しいキーを発行してもらってください。",
    not_ready: "準備中です ({detail})。少し待って、もう一度お試しください。", too_many: "このアドレスからの誤ったキーが多すぎます。少し待ってください。",
    gone: "見つかりません(削除された可能性があります)。", failed: "失敗しました ({status})。",
  },
});

const KEY = "pyoco.key";
export const keyHeader = document.documentElement.dataset.keyHeader || "X-API-Key";

export const apiKey = () => sessionStorage.getItem(KEY) ?? "";
export const setApiKey = (key) => (key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY));

// What went wrong, in plain words: ours where a person has to do something, else the gateway's own. `status` 0: no answer;
// `errors`: of a document.
export class ApiError extends Error {
  constructor(status, body) {
    const said = typeof body?.detail === "string" ? body.detail
      : Array.isArray(body?.detail) ? body.detail.map((item) => `${(item.loc ?? []).join(".")}: ${item.msg}`).join("; ") : "";
    super({ 0: t("unreachable"), 401: t("need_key"), 403: t("bad_key"), 404: t("gone"), 429: t("too_many"),
      503: t("not_ready", { detail: said }) }[status] ?? (said || t("failed", { status })));
    this.status = status;
    this.errors = body?.errors ?? [];
  }
}

export const headers = (more) => (apiKey() ? { ...more, [keyHeader]: apiKey() } : { ...more });

// "?a=1&b=2" of what is not empty; lists give a parameter for each item.
export function query(values) {
  const list = Object.entries(values ?? {}).flatMap(([name, value]) => (Array.isArray(value) ? value : [value])
    .filter((one) => one !== undefined && one !== null && one !== "").map((one) => [name, one]));
  return list.length ? `?${new URLSearchParams(list)}` : "";
}

// Sends a request and gives the fetch answer when it is a success; throws ApiError otherwise.
export async function send(method, path, { body, json, signal, accept } = {}) {
  const init = { method, signal, headers: headers(accept ? { accept } : {}) };
  if (json !== undefined) {
    init.body = JSON.stringify(json);
    init.headers["content-type"] = "application/json";
  } else if (body !== undefined) {
    init.body = body;
  }
  const answer = await fetch(path, init).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0);
  });
  if (answer.ok) return answer;
  throw new ApiError(answer.status, await answer.json().catch(() => null));
}

export const get = async (path, values, options) => (await send("GET", path + query(values), options)).json();
export const post = async (path, json, options) => (await send("POST", path, { json: json ?? {}, ...options })).json();
export const text = async (path) => (await send("GET", path)).text();

// "/workers/w1": the URL of something by its name; of a run or of something of it; the page of a run.
export const urlOf = (...parts) => parts.map((part) => `/${encodeURIComponent(part)}`).join("");
export const runPath = (id, ...rest) => urlOf("runs", id, ...rest);
export const runPage = (id) => `#${runPath(id)}`;
