// Server-sent events read with fetch: EventSource can send no key. Comes back after a break, from where it was.
import { ApiError, headers } from "./api.js";

const RETRY_MS = [300, 1000, 2000, 4000];
const SILENCE_MS = 7000; // heartbeats come every 2 s: after so long without one the connection is dead
const HIDDEN_MS = 20000; // a tab that nobody sees gives its connection back: a browser has six for one gateway

// Feeds text; calls on({ event, data, id }) for each event.
function parser(on) {
  let buffer = "";
  return (chunk) => {
    const blocks = (buffer + chunk).replaceAll("\r\n", "\n").split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const of = (name) => block.split("\n").filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trim());
      const [data, [event = "message"], [id]] = [of("data"), of("event"), of("id")];
      if (data.length) on({ event, data: data.join("\n"), id });
    }
  };
}

// Follows path() until close(). on(event, data) gets each event but heartbeats; onState("open" | "lost", error) tells how the
// connection stands. An answer of 4xx ends it (but 429). last: the id of an event that is known already; .last: of the newest.
export function follow(path, on, onState = () => {}, last) {
  let closed = false, asleep = false, tries = 0, turn = 0, controller, timer, hiding;

  // A fault of the page itself is no lost connection: it goes to the console.
  function take({ event, data }) {
    const value = JSON.parse(data);
    try { on(event, value); } catch (error) { reportError(error); }
  }

  async function once() {
    controller = new AbortController();
    let alive = setTimeout(() => controller.abort(), SILENCE_MS);
    try {
      const answer = await fetch(path(), { signal: controller.signal,
        headers: headers({ accept: "text/event-stream", ...(last ? { "last-event-id": last } : {}) }) });
      if (!answer.ok) throw new ApiError(answer.status, await answer.json().catch(() => null));
      tries = 0;
      onState("open");
      const feed = parser((message) => {
        if (message.id) last = message.id;
        if (message.event !== "heartbeat" && !closed) take(message);
      });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done || closed) return;
        clearTimeout(alive);
        alive = setTimeout(() => controller.abort(), SILENCE_MS);
        feed(value);
      }
    } finally {
      clearTimeout(alive);
    }
  }

  async function run() {
    const mine = ++turn;
    let error;
    await once().catch((failure) => { error = failure; });
    if (closed || asleep || mine !== turn) return;
    if (error) {
      onState("lost", error instanceof ApiError ? error : new ApiError(0));
      if (error.status >= 400 && error.status < 500 && error.status !== 429) return;
    }
    timer = setTimeout(run, error ? RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)] : 0);
  }

  function seen() {
    clearTimeout(hiding);
    if (document.hidden) {
      hiding = setTimeout(() => { asleep = true; clearTimeout(timer); controller?.abort(); }, HIDDEN_MS);
    } else if (asleep) {
      asleep = false;
      run();
    }
  }
  document.addEventListener("visibilitychange", seen);

  run();
  return {
    get last() { return last; },
    close() {
      closed = true;
      document.removeEventListener("visibilitychange", seen);
      clearTimeout(hiding);
      clearTimeout(timer);
      controller?.abort();
    },
  };
}
