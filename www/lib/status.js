// States of runs, tasks and workers: a shape, a word and a colour together, so that none has to be told by colour alone.
import { h, s } from "./dom.js";
import { texts } from "./i18n.js";

const t = texts({
  en: {
    PENDING: "Waiting", PENDING_APPROVAL: "Needs approval", RUNNING: "Running", CANCELLING: "Cancelling", COMPLETED: "Completed",
    FAILED: "Failed", CANCELLED: "Cancelled", SUCCEEDED: "Done", IDLE: "Idle", STOPPED_GRACEFUL: "Stopped", DISCONNECTED: "Lost",
    SKIPPED: "Skipped", ACTIVE: "Active",
  },
  ja: {
    PENDING: "待機中", PENDING_APPROVAL: "承認待ち", RUNNING: "実行中", CANCELLING: "キャンセル中", COMPLETED: "完了",
    FAILED: "失敗", CANCELLED: "キャンセル", SUCCEEDED: "完了", IDLE: "空き", STOPPED_GRACEFUL: "停止", DISCONNECTED: "切断",
    SKIPPED: "省略", ACTIVE: "有効",
  },
});

export const RUN_STATES = ["RUNNING", "PENDING", "PENDING_APPROVAL", "CANCELLING", "COMPLETED", "FAILED", "CANCELLED"];
export const isTerminal = (status) => status === "COMPLETED" || status === "FAILED" || status === "CANCELLED";

// Paths in a box of 16.
const SHAPES = {
  tick: "M3.5 8.5l3 3 6-7", cross: "M4 4l8 8M12 4l-8 8", play: "M5.5 3.5v9l7-4.5z", clock: "M8 4v4.5l3 1.5M8 1.8a6.2 6.2 0 1 0 .01 0",
  stop: "M4.5 4.5h7v7h-7z", hand: "M8 2.5v7M8 12.5v1", dash: "M3.5 8h9", moon: "M11.5 10.5A5 5 0 0 1 6 3.5a5 5 0 1 0 5.5 7",
    plug: "M4 12l8-8M4.5 4.5h7v7",
};
const SHAPE_OF = {
  COMPLETED: "tick", SUCCEEDED: "tick", FAILED: "cross", RUNNING: "play", PENDING: "clock", PENDING_APPROVAL: "hand",
  CANCELLING: "stop", CANCELLED: "stop", SKIPPED: "dash", IDLE: "moon", STOPPED_GRACEFUL: "stop", DISCONNECTED: "cross", ACTIVE: "clock",
};

export const stateName = (state) => t(state);

// The shape of a state; it says nothing to a screen reader: the word stands beside it.
export const stateIcon = (state) => s("svg", { class: "icon", viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true",
  "data-state": state },
  s("path", { d: SHAPES[SHAPE_OF[state] ?? "dash"] }));

// Shape and word.
export const badge = (state) => h("span", { class: "badge", data: { state } }, stateIcon(state), h("span", null, stateName(state)));
