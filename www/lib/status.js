// States: a shape, a word and a colour together, so that none has to be told by colour alone.
import { h, s } from "./dom.js";
import { texts } from "./i18n.js";

const t = texts({
  PENDING: ["Waiting", "待機中"], PENDING_APPROVAL: ["Needs approval", "承認待ち"], RUNNING: ["Running", "実行中"],
  CANCELLING: ["Cancelling", "キャンセル中"], COMPLETED: ["Completed", "完了"], FAILED: ["Failed", "失敗"],
  CANCELLED: ["Cancelled", "キャンセル"], SUCCEEDED: ["Done", "完了"], IDLE: ["Idle", "空き"], STOPPED_GRACEFUL: ["Stopped", "停止"],
  DISCONNECTED: ["Lost", "切断"], SKIPPED: ["Skipped", "省略"],
  NOT_RUN: ["Not run", "未実行"], ACTIVE: ["Active", "有効"],
});

export const RUN_STATES = ["RUNNING", "PENDING", "PENDING_APPROVAL", "CANCELLING", "COMPLETED", "FAILED", "CANCELLED"];
export const isTerminal = (status) => status === "COMPLETED" || status === "FAILED" || status === "CANCELLED";

// Paths in a box of 16.
const SHAPES = {
  tick: "M3.5 8.5l3 3 6-7", cross: "M4 4l8 8M12 4l-8 8", play: "M5.5 3.5v9l7-4.5z", clock: "M8 4v4.5l3 1.5M8 1.8a6.2 6.2 0 1 0 .01 0",
  stop: "M4.5 4.5h7v7h-7z", hand: "M8 2.5v7M8 12.5v1", dash: "M3.5 8h9", moon: "M11.5 10.5A5 5 0 0 1 6 3.5a5 5 0 1 0 5.5 7",
};
const SHAPE_OF = {
  COMPLETED: "tick", SUCCEEDED: "tick", FAILED: "cross", RUNNING: "play", PENDING: "clock", PENDING_APPROVAL: "hand",
  CANCELLING: "stop", CANCELLED: "stop", SKIPPED: "dash", IDLE: "moon", STOPPED_GRACEFUL: "stop", DISCONNECTED: "cross", ACTIVE: "clock",
};

export const stateName = (state) => t(state);

// Says nothing to a screen reader: the word stands beside it.
export const stateIcon = (state) => s("svg.icon", { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true",
  "data-state": state },
  s("path", { d: SHAPES[SHAPE_OF[state] ?? "dash"] }));

// Shape and word.
export const badge = (state) => h("span.badge", { data: { state } }, stateIcon(state), h("span", stateName(state)));
