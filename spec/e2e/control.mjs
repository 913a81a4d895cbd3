// Everything beside the runs: submit, workers, queues, schedules, wheels, dead letters; languages, themes, sizes; access.
import assert from "node:assert/strict";

const VIEWS = ["runs", "submit", "workers", "queues", "schedules", "wheels", "dlq"];
const FLOW = 'version: 1\nflow:\n  graph: one >> two\n  defaults: { x: 1 }\ntasks:\n  one: { callable: "zoo_tasks:nap" }\n  two: { callable: "zoo_tasks:nap" }\n';

const BUNDLE = `version: 1
workflows:
  main: { flow: { graph: prep >> run_child }, tasks: { prep: { callable: "zoo_tasks:nap" }, run_child: { spawn: trial } } }
  trial: { flow: { graph: wait }, tasks: { wait: { callable: "zoo_tasks:nap" } } }
submit: { entry_workflow: main, inputs: {} }
`;

// What a view reads is there.
async function filled(page) {
  await page.locator("main > *").first().waitFor();
  await page.waitForFunction(() => !document.querySelector(".panel-body:empty, .rows:empty, h1:empty"));
}

// Faults that axe finds, the serious ones: none may be.
async function check(page, need, where) {
  await page.evaluate(need("axe-core").source);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter((one) => one.impact === "serious" || one.impact === "critical");
  assert.deepEqual(serious.map((one) => `${where}: ${one.id}: ${one.nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`), []);
}

export const scenarios = [
  { name: "checks a document as it is typed, shows the error at its line, draws it, and runs it", async run({ page, open, shot }) {
    await open("#/submit");
    const editor = page.getByRole("textbox", { name: /Document/ });
    await page.getByText("It is fine: 4 tasks.").waitFor();
    await editor.fill(FLOW.replace("one >> two", "one >> three"));
    await page.getByText("1 error(s)").waitFor();
    await page.locator(".faults").getByText("three").first().waitFor();
    await page.locator(".numbers .bad", { hasText: "3" }).waitFor();
    await shot("submit-error");
    await page.locator(".faults button").first().click();
    assert.equal(await editor.evaluate((node) => node.value.slice(0, node.selectionStart).split("\n").length), 3);
    await editor.fill(FLOW);
    await page.getByText("It is fine: 2 tasks.").waitFor();
    assert.equal(await page.locator(".graph-node").count(), 2);
    await page.getByLabel("Flow name").fill("typed");
    await page.getByLabel("Parameters over the defaults (JSON)").first().fill('{"x": 5}');
    await page.getByRole("button", { name: "Run" }).first().click();
    await page.waitForURL(/#\/runs\//);
    await page.locator(".run-state").getByText("Completed").waitFor();
    await page.locator("pre", { hasText: '"x": 5' }).waitFor();
  } },

  { name: "reads a document that is dropped", async run({ page, open }) {
    await open("#/submit");
    await page.getByText("It is fine: 4 tasks.").waitFor();
    const data = await page.evaluateHandle((text) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([text], "flow.yaml"));
      return transfer;
    }, FLOW);
    await page.dispatchEvent(".submit-view", "drop", { dataTransfer: data });
    await page.getByText("It is fine: 2 tasks.").waitFor();
  } },

  { name: "runs a flow of the workers by its name", async run({ page, open }) {
    await open("#/submit");
    const form = page.locator("form", { hasText: "by its name" });
    await page.locator('#flows option[value="nap"]').waitFor({ state: "attached" });
    await form.getByLabel("Name").fill("nap");
    await form.getByLabel("Parameters").fill('{"sec": 0}');
    await form.getByRole("button", { name: "Run" }).click();
    await page.waitForURL(/#\/runs\//);
    await page.locator(".run-state").getByText("Completed").waitFor();
  } },

  { name: "shows workers and what they run, hides one and shows it again", async run({ page, open, api, shot }) {
    const { run_id: id } = await api("POST", "/runs", { flow_name: "nap", params: { sec: 1000 } });
    await open("#/workers");
    const card = page.locator(".worker", { hasText: "w1" });
    await card.getByText("1 of 2 busy").waitFor();
    await card.getByRole("link", { name: id.slice(0, 8) }).waitFor();
    assert.deepEqual(await card.locator(".tags span").allTextContents(), ["default", "gpu"]);
    await shot("workers");
    await card.getByRole("button", { name: "Hide" }).click();
    await page.getByText("No worker is here.").waitFor();
    await page.getByLabel("Also hidden ones").check();
    await page.waitForURL(/hidden=1/);
    await page.getByRole("button", { name: "Show again" }).click();
    await page.getByRole("button", { name: "Hide" }).waitFor();
    await api("POST", `/runs/${id}/cancel`);
  } },

  { name: "shows what waits, and for whom nobody is there", async run({ page, open, api, shot }) {
    await api("POST", "/runs", { flow_name: "nap", tag: "lonely", params: { sec: 0 } });
    await open("#/queues");
    const line = page.locator("tr", { hasText: "lonely" });
    await line.getByText("no worker has this tag").waitFor();
    assert.equal(await page.locator(".plot").count(), 4);
    await page.locator(".plot", { hasText: "Oldest job" }).getByText(/\d/).first().waitFor();
    await page.locator(".plot", { hasText: "Jobs" }).getByText(/ago$/).waitFor(); // from when on
    const ends = await page.locator(".plot", { hasText: "Jobs" }).locator("path").evaluateAll((paths) => paths.map((one) => one.getPointAtLength(one.getTotalLength()).x));
    assert.ok(ends.every((x) => Math.round(x) === 300), `the present is at the right: ${ends}`);
    await shot("queues");
    await line.getByRole("link", { name: "lonely" }).click();
    await page.waitForURL(/#\/runs\?tag=lonely/);
    await page.locator(".run-row").waitFor();
  } },

  { name: "makes a schedule, shows its runs, deletes it", async run({ page, open, shot }) {
    await open("#/schedules");
    await page.getByText("No schedules.").waitFor();
    await page.getByLabel("Document (flow.yaml)").fill(FLOW);
    await page.getByLabel("Flow name").fill("often");
    await page.getByRole("button", { name: "Create" }).click();
    await page.getByText("Give either an interval or a time.").waitFor();
    await page.getByLabel("Every (seconds)").fill("0.5");
    await page.getByRole("button", { name: "Create" }).click();
    const line = page.locator("tr", { hasText: "often" });
    await line.getByText("every 500 ms").waitFor();
    await line.getByRole("link").first().waitFor();
    await shot("schedules");
    await line.getByRole("button", { name: "Show runs" }).click();
    await page.getByRole("dialog").getByText("Completed").first().waitFor();
    await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
    await line.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await page.getByText("No schedules.").waitFor();
  } },

  { name: "uploads a wheel, lists it with its tags and history, deletes it", async run({ page, open, shot }) {
    await open("#/wheels");
    await page.getByText("No packages.").waitFor();
    await page.getByLabel(/Tags, separated/).fill("gpu");
    await page.locator("input[type=file]").setInputFiles({ name: "demo-1.0-lua54-none-any.whl", mimeType: "application/octet-stream", buffer: Buffer.from("no zip") });
    await page.getByText("demo-1.0-lua54-none-any.whl is uploaded.").waitFor();
    const line = page.locator("tr", { hasText: "demo-1.0" }).first();
    await line.getByText("gpu").waitFor();
    await page.locator("input[type=file]").setInputFiles({ name: "demo-1.0-lua54-none-any.whl", mimeType: "application/octet-stream", buffer: Buffer.from("no zip") });
    await page.getByText("wheel version already exists; bump version").waitFor();
    await page.locator("summary", { hasText: "History" }).click();
    await page.locator("details").getByText("upload", { exact: true }).waitFor();
    await shot("wheels");
    await line.getByRole("button", { name: "Delete" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await page.getByText("No packages.").waitFor();
  } },

  { name: "shows dead letters with their reason, and runs one again", async run({ page, open, api, shot }) {
    await api("POST", "/runs", { flow_name: "broken" });
    await open("#/dlq");
    const line = page.locator("tr", { hasText: "a task failed" }).first();
    await line.getByText("went wrong on purpose").waitFor();
    await shot("dlq");
    await line.getByRole("button", { name: "Run again" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Run again" }).click();
    await page.waitForURL(/#\/runs\//);
    await page.locator(".run-state").getByText("Failed").waitFor();
    await page.getByText("Again after").waitFor();
  } },

  { name: "takes a bundle, waits for an approval with a comment, and links parent and child", async run({ page, open, shot }) {
    await open("#/submit");
    const editor = page.getByRole("textbox", { name: /Document/ });
    await editor.fill(BUNDLE);
    await page.getByText("someone will have to approve it").waitFor();
    await page.getByLabel("Flow name").waitFor({ state: "hidden" });
    await page.getByRole("button", { name: "Run" }).first().click();
    await page.waitForURL(/#\/runs\//);
    await page.locator(".run-state").getByText("Needs approval").waitFor();
    await page.getByText("It waits for someone to approve it").waitFor();
    await page.getByRole("button", { name: "Approve" }).click();
    await page.getByRole("dialog").getByRole("textbox").fill("looks good");
    await page.getByRole("dialog").getByRole("button", { name: "Approve" }).click();
    await page.locator(".run-state").getByText("Completed").waitFor();
    await page.getByText("looks good").waitFor();
    await page.locator(".graph-node", { hasText: "run_child" }).click();
    await shot("bundle");
    await page.locator(".task li").getByRole("link").click();
    await page.getByRole("heading", { name: "trial" }).waitFor();
    await page.getByText("Parent").waitFor();
    assert.equal(await page.getByRole("button", { name: "Run again" }).count(), 0);
  } },

  { name: "rejects a run that waits for approval, with the reason", async run({ page, open, api }) {
    const body = new FormData();
    body.append("bundle", new Blob([BUNDLE]), "bundle.yaml");
    const { run_id: id } = await api("POST", "/runs/bundle", body);
    await open("#/runs");
    await page.locator(".attention").getByRole("link", { name: `waits for someone to approve it ${id.slice(0, 8)}` }).click();
    await page.getByRole("button", { name: "Reject" }).click();
    await page.getByRole("dialog").getByRole("textbox").fill("too dear");
    await page.getByRole("dialog").getByRole("button", { name: "Reject" }).click();
    await page.locator(".run-state").getByText("Cancelled").waitFor();
    await page.getByText("too dear").waitFor();
  } },

  { name: "says when the connection is lost, and heals", async run({ page, context, open, api, shot }) {
    await open("#/runs");
    await page.locator(".run-row").first().waitFor();
    const icon = () => page.locator("link[rel=icon]").getAttribute("href");
    const happy = await icon();
    assert.match(happy, /^data:image\/svg\+xml,/);
    await context.setOffline(true);
    await page.getByRole("status").getByText("No connection; trying again").first().waitFor();
    await page.waitForFunction((one) => document.querySelector("link[rel=icon]").href !== one, happy);
    await shot("offline");
    await context.setOffline(false);
    await page.waitForFunction((one) => document.querySelector("link[rel=icon]").href === one, happy);
    const { run_id: id } = await api("POST", "/runs", { flow_name: "nap", params: { sec: 0 } });
    await page.locator(".run-row", { hasText: id.slice(0, 8) }).waitFor();
  } },

  { name: "speaks Japanese, and remembers it", async run({ page, open, shot }) {
    await open("#/runs");
    await page.getByTitle("Language").selectOption("ja");
    await page.getByRole("link", { name: "スケジュール" }).waitFor();
    assert.equal(await page.locator("html").getAttribute("lang"), "ja");
    await page.reload();
    for (const view of VIEWS) {
      await open(`#/${view}`);
      await page.locator("main > *").first().waitFor();
      const text = await page.locator("header").innerText();
      assert.ok(text.includes("ワーカー"), text);
    }
    await open("#/runs");
    await page.locator(".run-row").first().waitFor();
    await shot("runs-ja");
  } },

  { name: "fits a phone: nothing is cut off sideways", context: { viewport: { width: 390, height: 844 } }, async run({ page, open, api, shot }) {
    for (const view of VIEWS) {
      await open(`#/${view}`);
      await page.locator("main > *").first().waitFor();
      const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(inner <= outer, `${view} is ${inner} wide on ${outer}`);
      await shot(`phone-${view}`);
    }
    await page.evaluate(() => localStorage.setItem("pyoco.lang", "ja"));
    await open("#/dlq");
    await page.reload();
    await page.locator("tbody tr").first().waitFor();
    const label = await page.locator("tbody td").first().evaluate((cell) => getComputedStyle(cell, "::before").content);
    assert.equal(label, '"日時"', "each cell says what it is");
    assert.ok(await page.locator(".panel-body > .scroll").evaluate((box) => box.scrollWidth <= box.clientWidth), "nothing to scroll sideways for");
    const link = await page.getByRole("link", { name: "デッドレター" }).boundingBox();
    assert.ok(link.x + link.width <= 390, "the section's own link is out of sight");
    const { run_id: id } = await api("POST", "/runs", { flow_name: "nap", params: { sec: 0.02 } });
    await open(`#/runs/${id}`);
    await page.locator(".run-state").getByText("完了").waitFor();
    await page.locator(".time-axis span").first().waitFor();
    const times = await page.evaluate(() => [...document.querySelectorAll(".time-axis span")].map((one) => one.getBoundingClientRect())
      .filter(({ width }) => width > 0).map(({ left, right }) => [left, right])); // in one go: the axis is drawn anew now and then
    assert.ok(times.length > 1 && times.every(([left], at) => at === 0 || left > times[at - 1][1]), `times over each other: ${times}`);
  } },

  { name: "follows the system's colours, or the person's choice", context: { colorScheme: "dark" }, async run({ page, open, shot }) {
    await open("#/workers");
    const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await paper();
    await page.getByTitle("Colours").selectOption("light");
    assert.notEqual(await paper(), dark);
    await page.reload();
    assert.notEqual(await paper(), dark);
    await page.getByTitle("Colours").selectOption("dark");
    assert.equal(await paper(), dark);
    await shot("dark");
  } },

  ...["light", "dark"].map((colorScheme) => ({ name: `is accessible (${colorScheme})`, context: { colorScheme }, async run({ page, open, api, need }) {
    for (const view of VIEWS) {
      await open(`#/${view}`);
      await filled(page);
      await check(page, need, view);
    }
    const { run_id: id } = await api("POST", "/runs", { flow_name: "broken" });
    await open(`#/runs/${id}`);
    await page.locator(".run-state").getByText("Failed").waitFor();
    await page.locator(".task .source .marked").waitFor();
    await check(page, need, "run");
  } })),

  { name: "can be reached with the keyboard alone", async run({ page, open }) {
    await open("#/runs");
    await page.locator(".run-row").first().waitFor();
    await page.keyboard.press("Tab");
    await page.getByText("Skip to content").waitFor();
    const seen = new Set();
    for (let i = 0; i < 25; i++) {
      await page.keyboard.press("Tab");
      seen.add(await page.evaluate(() => document.activeElement.textContent?.trim().slice(0, 20)));
    }
    for (const text of ["Workers", "Submit", "API key"]) assert.ok([...seen].some((one) => one?.startsWith(text)), `${text} in ${[...seen]}`);
  } },
];
