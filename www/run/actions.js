// What a person can do with a run: cancel it, run it again, decide on its approval, take it along as a command.
import { apiKey, keyHeader, post, runPage, runPath, send, text as readText } from "../lib/api.js";
import { dialog, h, single } from "../lib/dom.js";
import { texts } from "../lib/i18n.js";
import { isTerminal } from "../lib/status.js";

const t = texts({
  en: {
    cancel: "Cancel", again: "Run again", edit: "Edit params and run", approve: "Approve", reject: "Reject", curl: "Copy as curl",
    cli: "Copy as command", copied: "Copied.", params: "Parameters (JSON)", run: "Run", close: "Close",
    comment: "Comment (kept with the run)", approve_title: "Approve this run?", reject_title: "Reject this run?",
    bad_json: "This is no JSON object: {message}", no_clipboard: "The browser does not allow copying here. This is the text:",
  },
  ja: {
    cancel: "キャンセル", again: "もう一度実行", edit: "パラメータを変えて実行", approve: "承認", reject: "却下", curl: "curl をコピー", cli: "コマンドをコピー",
    copied: "コピーしました。", params: "パラメータ (JSON)", run: "実行", close: "閉じる", comment: "コメント(実行に記録されます)", approve_title: "この実行を承認しますか?",
    reject_title: "この実行を却下しますか?", bad_json: "JSON オブジェクトではありません: {message}", no_clipboard: "ここではコピーが許可されていません。次の文字列です:",
  },
});

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// Submits the same flow with params: by its name, or with the document that it was submitted with.
async function submit(snapshot, params) {
  if (!snapshot.workflow_yaml_sha256 && !snapshot.bundle_hash) {
    return post("/runs", { flow_name: snapshot.flow_name, params, tag: snapshot.tag, tags: snapshot.tags });
  }
  const form = new FormData();
  if (!snapshot.bundle_hash) form.append("flow_name", snapshot.flow_name);
  form.append("tag", snapshot.tag);
  form.append("params", JSON.stringify(params));
  const document = new Blob([await readText(runPath(snapshot.run_id, "source"))], { type: "application/x-yaml" });
  form.append(snapshot.bundle_hash ? "bundle" : "workflow", document, snapshot.bundle_hash ? "bundle.yaml" : "flow.yaml");
  return (await send("POST", snapshot.bundle_hash ? "/runs/bundle" : "/runs/yaml", { body: form })).json();
}

// The same submit as command lines, for curl or for client.lua. A key stays out of them: the shell fills it in.
function asCommand(snapshot, kind) {
  const { bundle_hash: bundle, flow_name, tag, params } = snapshot;
  const curl = `curl -s${apiKey() ? ` -H "${keyHeader}: $PYOCO_API_KEY"` : ""} ${location.origin}`;
  const client = `pyoco-host client.lua --server ${location.origin}`;
  const [document, file] = bundle ? ["bundle", "bundle.yaml"] : ["workflow", "flow.yaml"];
  const json = quote(JSON.stringify(params ?? {}));
  if (!bundle && !snapshot.workflow_yaml_sha256) {
    return kind === "cli" ? `${client} submit --flow-name ${quote(flow_name)} --tag ${tag} --params ${json}`
      : `${curl}/runs -H 'content-type: application/json' -d ${quote(JSON.stringify({ flow_name, tag, params: params ?? {} }))}`;
  }
  const [name, field] = bundle ? ["", ""] : [` --flow-name ${quote(flow_name)}`, ` -F flow_name=${quote(flow_name)}`];
  const source = `${curl}${runPath(snapshot.run_id, "source")} -o ${file}`;
  return `${source}\n${kind === "cli"
    ? `${client} submit-${bundle ? "bundle" : "yaml"} --${document}-file ${file}${name} --tag ${tag} --params ${json}`
    : `${curl}/runs/${bundle ? "bundle" : "yaml"}${field} -F tag=${tag} -F params=${json} -F ${document}=@${file}`}`;
}

async function copy(text, say) {
  try {
    await navigator.clipboard.writeText(text);
    say(t("copied"));
  } catch {
    await dialog(t("no_clipboard"), h("pre", null, text), [["", t("close"), "primary"]]);
  }
}

async function editParams(snapshot) {
  const area = h("textarea", { class: "code", rows: "12", spellcheck: "false", "aria-label": t("params") });
  area.value = JSON.stringify(snapshot.params ?? {}, null, 2);
  const fault = h("p", { class: "bad", role: "alert" });
  for (;;) {
    if (await dialog(t("params"), [area, fault], [["run", t("run"), "primary"], ["", t("close")]]) !== "run") return null;
    try {
      const params = JSON.parse(area.value);
      if (params && typeof params === "object" && !Array.isArray(params)) return params;
      fault.textContent = t("bad_json", { message: area.value.slice(0, 40) });
    } catch (error) {
      fault.textContent = t("bad_json", { message: error.message });
    }
  }
}

async function decide(snapshot, verb) {
  const input = h("input", { "aria-label": t("comment"), placeholder: t("comment") });
  if (await dialog(t(`${verb}_title`), input, [["yes", t(verb), verb === "approve" ? "primary" : "danger"],
    ["", t("close")]]) !== "yes") return;
  const text = input.value.trim();
  await post(runPath(snapshot.run_id, verb), text ? { [verb === "approve" ? "comment" : "reason"]: text } : {});
}

// { node, update(snapshot) }; say(text, bad) shows what came of it.
export function actionsView(say) {
  let snapshot;
  const attempt = (fn) => single(async () => {
    try { await fn(); } catch (error) { say(error.message, true); }
  });
  const start = async (params) => {
    if (!params) return;
    const { run_id } = await submit(snapshot, params);
    location.hash = runPage(run_id);
  };
  const button = (label, kind, fn) => h("button", { type: "button", class: kind, on: { click: attempt(fn) } }, label);
  const buttons = {
    approve: button(t("approve"), "primary", () => decide(snapshot, "approve")),
    reject: button(t("reject"), "danger", () => decide(snapshot, "reject")),
    cancel: button(t("cancel"), "danger", () => post(runPath(snapshot.run_id, "cancel"))),
    again: button(t("again"), "", () => start(snapshot.params ?? {})),
    edit: button(t("edit"), "", async () => start(await editParams(snapshot))),
    curl: button(t("curl"), "quiet", () => copy(asCommand(snapshot, "curl"), say)),
    cli: button(t("cli"), "quiet", () => copy(asCommand(snapshot, "cli"), say)),
  };
  const node = h("div", { class: "actions", hidden: true }, Object.values(buttons));
  return {
    node,
    update(next) {
      snapshot = next;
      node.hidden = false;
      buttons.approve.hidden = buttons.reject.hidden = next.status !== "PENDING_APPROVAL";
      buttons.cancel.hidden = isTerminal(next.status);
      buttons.cancel.disabled = next.status === "CANCELLING";
      buttons.again.hidden = buttons.edit.hidden = next.spawn_depth > 0; // a child has its parent's document, not its own
    },
  };
}
