// Runs the scenarios of a file in one headless Chromium: node run.mjs FILE URL OUT. Prints a line of JSON for each:
// { name, ok, message }; without URL just their names. A scenario gets { page, url, api, open, shot } and throws when something is not as expected; so
// does any error that the page itself logs.
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";

const [, , file, url, out] = process.argv;
const { scenarios } = await import(pathToFileURL(resolve(file)));
if (!url) {
  for (const { name } of scenarios) console.log(JSON.stringify({ name }));
  process.exit(0);
}
const need = createRequire(resolve("build/node/package.json"));
const { chromium } = need("playwright-core");

const TIMEOUT_MS = 30_000; // for a machine that does ten other things: what comes is not waited for

mkdirSync(out, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage"] });

// Calls the gateway as another program would.
async function api(method, path, body) {
  const isForm = body instanceof FormData;
  const answer = await fetch(url + path, { method, body: body === undefined ? undefined : isForm ? body : JSON.stringify(body),
    headers: body === undefined || isForm ? {} : { "content-type": "application/json" } });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text && answer.headers.get("content-type")?.startsWith("application/json") ? JSON.parse(text) : text;
}

async function run(scenario) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-GB", reducedMotion: "reduce", ...scenario.context });
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  const faults = [];
  page.on("pageerror", (error) => faults.push(`page error: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !/Failed to load resource/.test(message.text())) faults.push(`console: ${message.text()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !/^(data|blob):/.test(request.url())) faults.push(`asks elsewhere: ${request.url()}`);
  });
  const open = async (hash) => page.goto(`${url}/${hash}`);
  const shot = (name) => page.screenshot({ path: `${out}/${name}.png` });
  try {
    await scenario.run({ page, context, url, api, open, shot, need });
    if (faults.length) throw new Error(faults.join("\n"));
    return { ok: true };
  } catch (error) {
    await shot(`failed-${scenario.name.replace(/\W+/g, "-").slice(0, 60)}`).catch(() => {});
    return { ok: false, message: `${error.stack ?? error}\n${faults.join("\n")}` };
  } finally {
    await context.close();
  }
}

for (const scenario of scenarios) {
  const result = await run(scenario);
  process.stdout.write(`${JSON.stringify({ name: scenario.name, ...result })}\n`);
}
await browser.close();
