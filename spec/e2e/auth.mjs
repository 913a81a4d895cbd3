// The dashboard of a gateway that wants API keys. E2E_KEY: one that is valid.
import assert from "node:assert/strict";
import { execSync } from "node:child_process";

const KEY = process.env.E2E_KEY;

async function enter(page, key) {
  await page.getByRole("button", { name: /^API key/ }).click();
  await page.getByRole("dialog").getByLabel("API key").fill(key);
  await page.getByRole("dialog").getByRole("button", { name: "Use" }).click();
}

export const scenarios = [
  { name: "says that a key is needed, and which key is wrong, in plain words", async run({ page, open, shot }) {
    await open("#/runs");
    await page.getByText("This gateway wants an API key.").first().waitFor();
    await shot("auth");
    await enter(page, "pyoco_0123456789abcdef.0123456789abcdef0123");
    await page.getByText("The API key is not valid").first().waitFor();
    await open("#/workers");
    await page.getByText("The API key is not valid").first().waitFor();
  } },

  { name: "says so of what a person does, too", async run({ page, open }) {
    await open("#/submit");
    const form = page.locator("form", { hasText: "by its name" });
    await form.getByLabel("Name").fill("nap");
    await form.getByRole("button", { name: "Run" }).click();
    await page.getByRole("alert").getByText("This gateway wants an API key.").waitFor();
  } },

  { name: "keeps the key out of a copied command, which takes it from the environment",
    context: { permissions: ["clipboard-read", "clipboard-write"] }, async run({ page, open }) {
      await open("#/submit");
      await enter(page, KEY);
      const form = page.locator("form", { hasText: "by its name" });
      await form.getByLabel("Name").fill("nap");
      await form.getByLabel("Parameters").fill('{"sec": 0}');
      await form.getByRole("button", { name: "Run" }).click();
      await page.getByRole("button", { name: "Copy as curl" }).click();
      await page.getByText("Copied.").waitFor();
      const command = await page.evaluate(() => navigator.clipboard.readText());
      assert.ok(!command.includes(KEY), command);
      const answer = JSON.parse(execSync(command, { shell: "/bin/bash", env: { ...process.env, PYOCO_API_KEY: KEY } }));
      assert.ok(answer.run_id);
    } },

  { name: "keeps the key for the session, never in a URL, and follows runs with it", async run({ page, open, url }) {
    const urls = [];
    page.on("request", (request) => urls.push(request.url()));
    await open("#/submit");
    await enter(page, KEY);
    await page.getByText("It is fine: 4 tasks.").waitFor();
    const form = page.locator("form", { hasText: "by its name" });
    await form.getByLabel("Name").fill("nap");
    await form.getByLabel("Parameters").fill('{"sec": 0.2}');
    await form.getByRole("button", { name: "Run" }).click();
    await page.waitForURL(/#\/runs\//);
    await page.locator(".run-state").getByText("Completed").waitFor();
    await page.reload();
    await page.locator(".run-state").getByText("Completed").waitFor();
    for (const view of ["runs", "workers", "queues", "schedules", "wheels", "dlq"]) {
      await open(`#/${view}`);
      await page.locator(".run-row, .panel-body > *").first().waitFor();
      assert.equal(await page.getByText("wants an API key").count(), 0, view);
    }
    const secret = KEY.split(".")[1];
    assert.ok(urls.length > 5);
    assert.deepEqual(urls.filter((one) => one.includes(secret)), []);
    assert.equal(await page.evaluate((text) => JSON.stringify({ ...localStorage }).includes(text), secret), false);
    assert.ok(url);
  } },

  // The last one: the address has to wait a minute from here on.
  { name: "says that too many wrong keys were sent", async run({ page, open, url }) {
    for (let i = 0; i < 25; i++) await fetch(`${url}/runs`, { headers: { "x-api-key": `pyoco_0123456789abcdef.${String(i).padStart(20, "0")}` } });
    await open("#/workers");
    await enter(page, "pyoco_0123456789abcdef.0123456789abcdef0000");
    await page.getByText("Too many wrong keys from this address.").first().waitFor();
  } },
];
