// What a person can do with a run.
import {
  apiKey, button, dialog, h, isTerminal, jsonObject, keyHeader, post, pre, readText, runPage, runPath, single, submitForm, texts,
} from "../lib/ui.js";

const t = texts({
  cancel: ["Cancel", "キャンセル"], edit: ["Edit params and run", "パラメータを変えて実行"],
  approve: ["Approve", "承認"], reject: ["Reject", "却下"], curl: ["Copy as curl", "curl をコピー"],
  cli: ["Copy as command", "コマンドをコピー"], copied: ["Copied.", "コピーしました。"], params: ["Parameters (JSON)", "パラメータ (JSON)"],
  comment: ["Comment (kept with the run)", "コメント(実行に記録されます)"], approve_title: ["Approve this run?", "この実行を承認しますか?"],
  reject_title: ["Reject this run?", "この実行を却下しますか?"],
  no_clipboard: ["The browser does not allow copying here. This is the text:", "ここではコピーが許可されていません。次の文字列です:"],
});

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// Submits the same flow with params: by its name, or with its document.
async function submit({ run_id: id, flow_name, tag, tags, bundle_hash: bundle, workflow_yaml_sha256: document }, params) {
  if (!document && !bundle) return post("/runs", { flow_name, params, tag, tags });
  return submitForm({ flow_name: bundle ? "" : flow_name, tag, params: JSON.stringify(params) }, bundle ? "bundle" : "workflow",
    await readText(runPath(id, "source")));
}

// The same submit as command lines, for curl or client.lua. The shell fills in the key.
function asCommand(snapshot, kind) {
  const { bundle_hash: bundle, flow_name, tag, params } = snapshot;
  const curl = `curl -s${apiKey() ? ` -H "${keyHeader}: $PYOCO_API_KEY"` : ""} ${location.origin}`;
  const client = `pyoco-host client.lua --server ${location.origin}`;
  const [document, file, route] = bundle ? ["bundle", "bundle.yaml", "bundle"] : ["workflow", "flow.yaml", "yaml"];
  const json = quote(JSON.stringify(params ?? {}));
  if (!bundle && !snapshot.workflow_yaml_sha256) {
    return kind === "cli" ? `${client} submit --flow-name ${quote(flow_name)} --tag ${tag} --params ${json}`
      : `${curl}/runs -H 'content-type: application/json' -d ${quote(JSON.stringify({ flow_name, tag, params: params ?? {} }))}`;
  }
  const [name, field] = bundle ? ["", ""] : [` --flow-name ${quote(flow_name)}`, ` --form-string flow_name=${quote(flow_name)}`];
  const source = `${curl}${runPath(snapshot.run_id, "source")} -o ${file}`;
  return `${source}\n${kind === "cli"
    ? `${client} submit-${route} --${document}-file ${file}${name} --tag ${tag} --params ${json}`
    : `${curl}/runs/${route}${field} -F tag=${tag} --form-string params=${json} -F ${document}=@${file}`}`;
}

async function copy(text, say) {
  try {
    await navigator.clipboard.writeText(text);
    say(t("copied"));
  } catch {
    await dialog(t("no_clipboard"), pre(text));
  }
}

async function editParams(snapshot) {
  const area = h("textarea.code", { rows: "12", "aria-label": t("params") });
  area.value = JSON.stringify(snapshot.params ?? {}, null, 2);
  const fault = h("p.bad", { role: "alert" });
  for (;;) {
    if (await dialog(t("params"), [area, fault], [["run", t("run"), "primary"], ["", t("close")]]) !== "run") return null;
    try {
      return jsonObject(area.value) ?? {};
    } catch (error) {
      fault.textContent = error.message;
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
  const start = async (params) => {
    if (!params) return;
    const { run_id } = await submit(snapshot, params);
    location.hash = runPage(run_id);
  };
  const action = (label, kind, fn) => button(label, single(() => fn().catch((error) => say(error.message, true))), kind);
  const buttons = {
    approve: action(t("approve"), "primary", () => decide(snapshot, "approve")),
    reject: action(t("reject"), "danger", () => decide(snapshot, "reject")),
    cancel: action(t("cancel"), "danger", () => post(runPath(snapshot.run_id, "cancel"))),
    again: action(t("again"), "", async () => start(snapshot.params ?? {})),
    edit: action(t("edit"), "", async () => start(await editParams(snapshot))),
    curl: action(t("curl"), "quiet", () => copy(asCommand(snapshot, "curl"), say)),
    cli: action(t("cli"), "quiet", () => copy(asCommand(snapshot, "cli"), say)),
  };
  const node = h("div.actions", { hidden: true }, Object.values(buttons));
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
