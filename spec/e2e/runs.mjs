// The list of runs, and one run, as a person uses them.
import assert from "node:assert/strict";
import { execSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";

const zoo = (api, tag = "default", params = {}) => {
  const body = new FormData();
  body.append("params", JSON.stringify(params));
  body.append("flow_name", "zoo");
  body.append("tag", tag);
  body.append("workflow", new Blob([ZOO]), "flow.yaml");
  return api("POST", "/runs/yaml", body);
};

const ZOO = `version: 1
flow:
  graph: prep >> (each1["$ctx.items as item"] & (fast | slow)) >> switch("$ctx.mode")["A" >> a1, "*" >> b1] >> done
  defaults: { items: [1, 2, 3], mode: A }
tasks:
  prep: { callable: "zoo_tasks:nap" }
  each1: { callable: "zoo_tasks:nap" }
  fast: { callable: "zoo_tasks:nap" }
  slow: { callable: "zoo_tasks:nap" }
  a1: { callable: "zoo_tasks:flaky", retries: 2, retry_delay_sec: 0.01 }
  b1: { callable: "zoo_tasks:nap" }
  done: { callable: "zoo_tasks:nap" }
`;

const submit = (api, fields) => api("POST", "/runs", { flow_name: "nap", params: { sec: 0 }, ...fields });
const row = (page, id) => page.locator(".run-row", { hasText: id.slice(0, 8) });

export const scenarios = [
  { name: "shows a run as it comes and as it ends, without a reload", async run({ page, open, api, shot }) {
    await open("#/runs");
    await page.getByText("Runs", { exact: true }).first().waitFor();
    const folder = mkdtempSync(`${tmpdir()}/pyoco-e2e-`);
    const { run_id: id } = await submit(api, { flow_name: "gate", params: { file: `${folder}/open` } });
    await row(page, id).getByText("Running").waitFor();
    writeFileSync(`${folder}/open`, "");
    await row(page, id).getByText("Completed").waitFor();
    rmSync(folder, { recursive: true });
    await shot("runs");
  } },

  { name: "keeps its place while a person reads, and offers what is newer", async run({ page, open, api }) {
    const ids = [];
    for (let i = 0; i < 60; i++) ids.push((await submit(api, { tag: "nobody", flow_name: "still" })).run_id);
    await open("#/runs?flow=still");
    await row(page, ids[59]).waitFor();
    const list = page.locator(".virtual");
    await list.evaluate((node) => { node.scrollTop = 800; });
    await page.locator('.run-row[aria-rowindex="30"]').waitFor({ state: "attached" }); // drawn for where it stands now
    await page.locator('.run-row[aria-rowindex="5"]').waitFor({ state: "detached" });
    const before = await page.locator(".run-row .id").allTextContents();
    const { run_id: id } = await submit(api, { tag: "nobody", flow_name: "still" });
    const newer = page.getByRole("button", { name: /1 newer/ });
    await newer.waitFor();
    assert.deepEqual(await page.locator(".run-row .id").allTextContents(), before);
    await newer.click();
    await row(page, id).waitFor();
    assert.equal(await list.evaluate((node) => node.scrollTop), 0);
  } },

  { name: "has its filters and its search in the URL", async run({ page, open, api }) {
    const { run_id: failed } = await submit(api, { flow_name: "nosuch-flow" });
    await open("#/runs");
    await row(page, failed).getByText("Failed").waitFor();
    await page.getByRole("button", { name: /^Failed/ }).click();
    await page.waitForURL(/status=FAILED/);
    await page.locator(".run-row", { hasText: "Completed" }).first().waitFor({ state: "detached" });
    await page.keyboard.press("/");
    await page.keyboard.type("nosuch-flow");
    await page.waitForURL(/q=nosuch-flow/);
    await row(page, failed).waitFor();
    const url = page.url();
    await page.reload();
    assert.equal(page.url(), url);
    await row(page, failed).waitFor();
    assert.equal(await page.getByRole("searchbox").inputValue(), "nosuch-flow");
    await row(page, failed).getByRole("link").click();
    await page.locator("pre.error", { hasText: "flow_not_found" }).waitFor();
    for (const name of ["Graph", "Timeline"]) assert.equal(await page.getByRole("region", { name }).count(), 0, `nothing was there to draw: ${name}`);
  } },

  { name: "goes by keyboard: j, k, Enter, u, ?", async run({ page, open, api }) {
    const { run_id: first } = await submit(api, { tag: "nobody", flow_name: "keys" });
    const { run_id: second } = await submit(api, { tag: "nobody", flow_name: "keys" });
    await open("#/runs?flow=keys");
    await row(page, first).waitFor();
    await page.keyboard.press("j");
    await page.locator(".run-row.at", { hasText: second.slice(0, 8) }).waitFor();
    await page.keyboard.press("j");
    await page.locator(".run-row.at", { hasText: first.slice(0, 8) }).waitFor();
    await page.keyboard.press("k");
    await page.keyboard.press("Enter");
    await page.waitForURL(new RegExp(`/runs/${second}`));
    await page.getByText("No worker with the tag nobody is here").waitFor();
    await page.keyboard.press("u");
    await page.waitForURL(/#\/runs\?flow=keys$/);
    await page.locator(".run-row.at", { hasText: second.slice(0, 8) }).waitFor();
    await page.keyboard.press("?");
    await page.getByRole("dialog").getByText("next run").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
  } },

  { name: "gives the list back as it was left: its filters, place, selection and focus", async run({ page, open, api }) {
    await api("POST", "/runs/batch", { runs: Array.from({ length: 60 }, () => ({ flow_name: "back", tag: "nobody", params: {} })) });
    await open("#/runs?flow=back");
    await page.locator('.run-row[aria-rowindex="1"]').getByRole("checkbox").check();
    const list = page.locator(".virtual");
    await list.evaluate((node) => { node.scrollTop = 1300; });
    const link = page.locator('.run-row[aria-rowindex="33"]').getByRole("link");
    const href = await link.getAttribute("href");
    const isBack = async () => {
      await page.waitForURL(/#\/runs\?flow=back$/);
      await page.waitForFunction((one) => document.activeElement.getAttribute("href") === one, href);
      assert.equal(await list.evaluate((node) => node.scrollTop), 1300);
      await page.locator(".run-row.at").waitFor();
      await page.getByRole("button", { name: "Cancel 1" }).waitFor();
    };
    await link.click();
    await page.locator(".run-state").getByText("Waiting").waitFor();
    await page.goBack();
    await isBack();
    const { run_id: id } = await submit(api, { tag: "nobody", flow_name: "back" });
    await page.getByRole("button", { name: /1 newer/ }).waitFor(); // and it is live again
    await page.keyboard.press("Enter");
    await page.locator(".run-state").getByText("Waiting").waitFor();
    await page.keyboard.press("u");
    await isBack();
    await page.getByRole("button", { name: /1 newer/ }).click();
    await row(page, id).waitFor();
  } },

  { name: "says of what waits for whom it waits, above the list and in its row", async run({ page, open, api, shot }) {
    const { run_id: id } = await submit(api, { tag: "nobody", flow_name: "unserved" });
    await open("#/runs?flow=unserved");
    await row(page, id).getByText("no worker has this tag").waitFor();
    const line = page.locator(".attention li", { hasText: "for the tag nobody, which no worker here has" });
    await line.getByText("pyoco-host worker.lua --tags nobody").waitFor();
    await shot("attention");
    await line.getByRole("link").click();
    await page.waitForURL(/status=PENDING&tag=nobody/);
    await row(page, id).waitFor();
  } },

  { name: "goes to each section by two keys, which the help names", async run({ page, open }) {
    await open("#/workers");
    await page.locator(".worker").waitFor();
    await page.keyboard.press("?");
    const help = page.getByRole("dialog");
    const sections = { r: "Runs", s: "Submit", w: "Workers", q: "Queues", c: "Schedules", p: "Wheels", d: "Dead letters" };
    for (const [letter, name] of Object.entries(sections)) await help.getByRole("row", { name: `g ${letter} ${name}` }).or(help.getByRole("row", { name: `g${letter} ${name}` })).waitFor();
    await page.keyboard.press("Escape");
    for (const [letter, name] of Object.entries(sections)) {
      await page.keyboard.press("g");
      await page.keyboard.press(letter);
      await page.locator("nav a[aria-current]", { hasText: name }).waitFor();
    }
  } },

  { name: "cancels several at once", async run({ page, open, api }) {
    const ids = [];
    for (let i = 0; i < 3; i++) ids.push((await submit(api, { tag: "nobody", flow_name: "many" })).run_id);
    await open("#/runs?flow=many");
    for (const id of ids.slice(0, 2)) await row(page, id).getByRole("checkbox").check();
    await page.getByRole("button", { name: "Cancel 2" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Cancel them" }).click();
    for (const id of ids.slice(0, 2)) await row(page, id).getByText("Cancelled").waitFor();
    await row(page, ids[2]).getByText("Waiting").waitFor();
    await row(page, ids[2]).getByRole("checkbox").check();
    await page.getByRole("button", { name: "Select all 3 loaded" }).click();
    await page.getByRole("button", { name: "Cancel 1" }).waitFor(); // those that have ended need no cancelling
    await page.getByRole("button", { name: "Clear selection" }).click();
    await page.getByRole("button", { name: "Cancel 1" }).waitFor({ state: "hidden" });
  } },

  { name: "scrolls through 1,000 runs with few rows in the page", async run({ page, open, api }) {
    for (let i = 0; i < 2; i++) await api("POST", "/runs/batch", { runs: Array.from({ length: 500 }, () => ({ flow_name: "crowd", tag: "nobody", params: {} })) });
    await open("#/runs?flow=crowd");
    await page.locator(".run-row").first().waitFor();
    await page.waitForFunction(() => {
      const list = document.querySelector(".virtual");
      list.scrollTop = list.scrollHeight;
      return Number(list.getAttribute("aria-rowcount")) >= 1000;
    });
    assert.ok(await page.locator(".run-row").count() < 60);
  } },

  { name: "says what to do first when there is nothing", async run({ page, open }) {
    await open("#/runs?flow=never-heard-of");
    await page.getByText("No run fits these filters.").waitFor();
    await page.getByRole("link", { name: "Clear filters" }).click();
    await page.locator(".run-row").first().waitFor();
  } },

  { name: "draws a run as a graph, with loops and switches as frames, live, and its timeline", async run({ page, open, api, shot }) {
    const { run_id: id } = await zoo(api);
    await open(`#/runs/${id}`);
    await page.locator(".run-state").getByText("Completed").waitFor();
    await page.waitForFunction(() => document.querySelectorAll(".graph-node").length === 7);
    await page.getByLabel("for each item of $ctx.items, 3 times").getByText("3 times").waitFor();
    await page.locator('.graph-node[data-state="SKIPPED"]', { hasText: "b1" }).waitFor();
    assert.equal(await page.locator(".time-row").count(), 7);
    await page.locator(".time-row", { hasText: "a1" }).locator(".bar.retry").waitFor();
    await page.locator(".graph-node", { hasText: "a1" }).click();
    await page.waitForURL(/task=a1/);
    await page.locator(".task").getByText("not yet").waitFor();
    await page.locator(".task summary", { hasText: "Source" }).click();
    await page.locator(".task .source .marked", { hasText: "zoo_tasks:flaky" }).waitFor();
    await shot("run");
  } },

  { name: "shows an error with its traceback and the line of the source", async run({ page, open, api, shot }) {
    const { run_id: id } = await submit(api, { flow_name: "broken" });
    await open(`#/runs/${id}`);
    await page.locator(".run-state").getByText("Failed").waitFor();
    await page.locator(".task pre.error").getByText("went wrong on purpose").waitFor();
    await page.locator(".task .source .marked", { hasText: "went wrong on purpose" }).waitFor();
    await page.locator(".task summary", { hasText: "Traceback" }).click();
    await shot("failed-run");
  } },

  { name: "shows the line where a helper of the flow broke, and what did not run because of it", async run({ page, open, api }) {
    const { run_id: id } = await submit(api, { flow_name: "deep" });
    await open(`#/runs/${id}`);
    await page.locator("pre.error", { hasText: "compute:" }).waitFor();
    await page.locator(".task .source .marked", { hasText: "#list.values" }).waitFor();
    await page.locator(".task summary", { hasText: "Traceback: deep.lua:3" }).waitFor();
    await page.getByRole("button", { name: "send: Not run" }).waitFor();
  } },

  { name: "follows what a task says while it runs, and leaves open what a person has opened", async run({ page, open, api }) {
    const folder = mkdtempSync(`${tmpdir()}/pyoco-e2e-`);
    const { run_id: id } = await submit(api, { flow_name: "talk", params: { file: `${folder}/end` } });
    await open(`#/runs/${id}`);
    await page.locator(".task summary", { hasText: "Source" }).click();
    await page.waitForFunction(() => {
      const log = document.querySelector(".task .log");
      return log?.scrollTop > 0 && log.scrollTop + log.clientHeight > log.scrollHeight - 20;
    });
    await page.locator(".task details[open] .source").waitFor();
    writeFileSync(`${folder}/end`, "");
    await page.locator(".run-state").getByText("Completed").waitFor();
    rmSync(folder, { recursive: true });
  } },

  { name: "cancels, runs again, and runs with other params", async run({ page, open, api }) {
    const { run_id: id } = await submit(api, { params: { sec: 1000 } });
    await open(`#/runs/${id}`);
    await page.getByRole("button", { name: "Cancel", exact: true }).click();
    await page.locator(".run-state").getByText("Cancelled").waitFor();
    await page.getByRole("button", { name: "Edit params and run" }).click();
    const area = page.getByRole("dialog").getByRole("textbox");
    await area.fill("{ sec: ");
    await page.getByRole("dialog").getByRole("button", { name: "Run" }).click();
    await page.getByRole("dialog").getByText("This is no JSON object").waitFor();
    await area.fill('{ "sec": 0.01 }');
    await page.getByRole("dialog").getByRole("button", { name: "Run" }).click();
    await page.waitForURL((url) => url.hash.startsWith("#/runs/") && !url.hash.includes(id));
    await page.locator(".run-state").getByText("Completed").waitFor();
    const second = page.url();
    await page.getByRole("button", { name: "Run again" }).click();
    await page.waitForURL((url) => url.href !== second);
    await page.locator(".run-state").getByText("Completed").waitFor();
    await page.locator("pre", { hasText: '"sec": 0.01' }).first().waitFor();
  } },

  { name: "copies a run as curl and as a command", context: { permissions: ["clipboard-read", "clipboard-write"] }, async run({ page, open, api, url }) {
    const { run_id: id } = await submit(api, { params: { sec: 0, note: "it's" } });
    await open(`#/runs/${id}`);
    await page.locator(".run-state").getByText("Completed").waitFor();
    await page.getByRole("button", { name: "Copy as curl" }).click();
    await page.getByText("Copied.").waitFor();
    const text = await page.evaluate(() => navigator.clipboard.readText());
    assert.ok(text.startsWith(`curl -s ${url}/runs -H`), text);
    const answer = JSON.parse(execSync(text, { shell: "/bin/bash" }));
    assert.equal((await api("GET", `/runs/${answer.run_id}`)).params.note, "it's");

    const { run_id: documented } = await zoo(api, "default", { note: "a;type=b, it's" });
    await open(`#/runs/${documented}`);
    await page.locator(".run-state").getByText("Completed").waitFor();
    await page.getByRole("button", { name: "Copy as command" }).click();
    await page.getByText("Copied.").waitFor();
    const command = (await page.evaluate(() => navigator.clipboard.readText())).replace("pyoco-host client.lua", `${process.env.E2E_HOST} client.lua`);
    const folder = mkdtempSync(`${tmpdir()}/pyoco-e2e-`);
    const submitted = JSON.parse(execSync(command, { shell: "/bin/bash", cwd: folder }).toString());
    const [first, second] = await Promise.all([documented, submitted.run_id].map((one) => api("GET", `/runs/${one}`)));
    assert.equal(second.workflow_yaml_sha256, first.workflow_yaml_sha256);
    await page.getByRole("button", { name: "Copy as curl" }).click();
    await page.waitForFunction(async () => (await navigator.clipboard.readText()).startsWith("curl"));
    const curl = await page.evaluate(() => navigator.clipboard.readText());
    const again = JSON.parse(execSync(curl, { shell: "/bin/bash", cwd: folder }).toString());
    rmSync(folder, { recursive: true });
    assert.deepEqual((await api("GET", `/runs/${again.run_id}`)).params.note, "a;type=b, it's");
  } },

  { name: "keeps markup in names as text", async run({ page, open, api }) {
    const evil = "<img src=x onerror=document.title='owned'>";
    const { run_id: id } = await submit(api, { flow_name: evil, tag: "nobody", params: { "<b>": evil } });
    await open(`#/runs?flow=${encodeURIComponent(evil)}`);
    await row(page, id).getByText(evil).waitFor();
    await row(page, id).getByText(evil).click();
    await page.getByRole("heading", { name: evil }).waitFor();
    assert.ok(!(await page.title()).startsWith("owned"));
    assert.equal(await page.locator("main img").count(), 0);
  } },

  { name: "says plainly that a run is not there", async run({ page, open }) {
    await open("#/runs/00000000-0000-4000-8000-000000000000");
    await page.getByText("There is no such run.").waitFor();
  } },
];
