// What wants a person: jobs that nobody here would take, runs that wait for an approval.
import { count, get, h, href, keyed, runLink, stateIcon, texts } from "../lib/ui.js";

const t = texts({
  title: ["What wants you", "対応が必要なもの"], show: ["{n} waiting", "{n} 件待機中"],
  nobody: [" for the tag {tag}, which no worker here has. Start one:", ": タグ {tag} のワーカーがいません。起動するには:"],
  approval: ["{flow} waits for someone to approve it", "{flow} が承認を待っています"],
});

const EVERY_MS = 5000;
const SHOWN_MAX = 3; // lines of a kind

// { node, take(counts by state), isServed(tag), close() }; onChange(): what isServed says may be another.
export function attentionView(onChange) {
  const node = h("ul.attention", { "aria-label": t("title"), hidden: true });
  let unserved = new Map(), approvals = 0, closed = false, turn = 0, timer;

  function draw(runs) {
    const lines = [
      ...[...unserved].slice(0, SHOWN_MAX).map(([tag, n]) => ({ state: "PENDING", key: `${tag} ${n}`, content: [
        h("a", { href: href(["runs"], { status: "PENDING", tag }) }, t("show", { n: count(n) })), t("nobody", { tag }), " ",
        h("code", `pyoco-host worker.lua --tags ${tag}`)] })),
      ...runs.map((run) => ({ state: "PENDING_APPROVAL", key: run.run_id,
        content: runLink(run.run_id, t("approval", { flow: run.flow_name })) })),
    ];
    node.hidden = !lines.length;
    keyed(node, lines, ({ key }) => key, ({ state, content }) => h("li", { data: { state } }, stateIcon(state), h("span", content)));
  }

  async function read() {
    clearTimeout(timer);
    const mine = ++turn;
    if (!document.hidden) {
      const asked = [get("/queues"), approvals ? get("/runs", { status: "PENDING_APPROVAL", limit: SHOWN_MAX }) : []];
      const answers = await Promise.all(asked).catch(() => null); // why not, the list itself says
      if (closed || mine !== turn) return;
      if (answers) {
        const [{ queues }, runs] = answers;
        unserved = new Map(queues.filter((one) => !one.workers && one.jobs).map((one) => [one.tag, one.jobs]));
        draw(runs);
        onChange();
      }
    }
    timer = setTimeout(read, EVERY_MS);
  }
  read();

  return {
    node,
    isServed: (tag) => !unserved.has(tag),
    take({ PENDING_APPROVAL: n = 0 }) {
      if (n === approvals) return;
      approvals = n;
      read();
    },
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}
