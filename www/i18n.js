// Every text a person sees, in both languages. A key that one of them lacks is a defect (spec/www).
export const texts = {
  en: {
    language: "Language", submit: "Submit a flow", flow_name: "Flow name", tag: "Tag", document: "flow.yaml",
    run: "Run", watch: "Watch a run", run_id: "Run id", show: "Show", cancel: "Cancel", task: "Task",
    state: "State", time: "Time", last: "Last line or result", workers: "Workers", worker: "Worker", tags: "Tags",
    current: "Runs now", no_workers: "No worker is here. Start one: pyoco-host worker.lua --tags default",
    line: "line", lost: "Connection lost; trying again …", nats: "NATS", ready: "Ready.",
    unreachable: "The gateway does not answer. Is it running?", reload_error: "An edit is broken; the last good version serves",
    not_found: "There is no such run.",
  },
  ja: {
    language: "言語", submit: "フローを投入", flow_name: "フロー名", tag: "タグ", document: "flow.yaml",
    run: "実行", watch: "実行を見る", run_id: "実行ID", show: "表示", cancel: "キャンセル", task: "タスク",
    state: "状態", time: "時間", last: "最後の行または結果", workers: "ワーカー", worker: "ワーカー", tags: "タグ",
    current: "実行中", no_workers: "ワーカーがいません。起動するには: pyoco-host worker.lua --tags default",
    line: "行", lost: "接続が切れました。再接続しています…", nats: "NATS", ready: "準備完了。",
    unreachable: "ゲートウェイが応答しません。起動していますか?", reload_error: "編集に誤りがあります。直前の正常な版で動作中",
    not_found: "その実行はありません。",
  },
};
