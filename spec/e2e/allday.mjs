// A page that is kept open all day, and hands that are quicker than it.
import assert from "node:assert/strict";

const submit = (api, fields) => api("POST", "/runs", { flow_name: "nap", params: { sec: 0 }, ...fields });
const row = (page, id) => page.locator(".run-row", { hasText: id.slice(0, 8) });
const focused = (page) => page.evaluate(() => document.activeElement.textContent);

// A loop that is wider than what stands above and below it, and edges that pass both.
const WIDE = `version: 1
flow:
  graph: (side & other & (begin >> (w1 >> w2 >> w3)["$ctx.items as item"] >> mid) & (p1 >> p2 >> p3) & (q1 >> the_longest_name_of_them_all)) >> last
tasks:
${["side", "other", "begin", "w1", "w2", "w3", "mid", "p1", "p2", "p3", "q1", "the_longest_name_of_them_all", "last"]
    .map((name) => `  ${name}: { callable: "zoo_tasks:nap" }`).join("\n")}
`;

export const scenarios = [
  { name: "presses with Enter what has the focus", async run({ page, open, api }) {
    await submit(api, { flow_name: "entered", tag: "nobody" });
    await open("#/runs?flow=entered");
    await page.getByRole("button", { name: /^Waiting/ }).focus();
    await page.keyboard.press("Enter");
    await page.waitForURL(/status=PENDING/);
    await page.getByRole("link", { name: "Workers" }).focus();
    await page.keyboard.press("Enter");
    await page.locator(".worker").waitFor();
  } },

  { name: "keeps the focus on a count that changes", async run({ page, open, api }) {
    await submit(api, { flow_name: "counted", tag: "nobody" });
    await open("#/runs?flow=counted");
    await page.getByRole("button", { name: "Waiting 1" }).focus();
    await submit(api, { flow_name: "counted", tag: "nobody" });
    await page.getByRole("button", { name: "Waiting 2" }).waitFor();
    assert.equal(await focused(page), "Waiting2");
  } },

  { name: "does not come back to a search that was left while typing", async run({ page, open }) {
    await page.clock.install();
    await open("#/runs");
    await page.getByRole("searchbox").fill("half a wo");
    await page.getByRole("link", { name: "Workers" }).click();
    await page.locator(".worker").waitFor();
    await page.clock.runFor(1000);
    assert.match(page.url(), /#\/workers$/);
  } },

  { name: "forgets a selection when other runs are shown", async run({ page, open, api }) {
    const { run_id: id } = await submit(api, { flow_name: "picked", tag: "nobody" });
    await open("#/runs?flow=picked");
    await row(page, id).getByRole("checkbox").check();
    await page.getByRole("button", { name: "Cancel 1" }).waitFor();
    await page.getByRole("searchbox").fill("nothing like it");
    await page.getByRole("button", { name: "Cancel 1" }).waitFor({ state: "hidden" });
    await page.getByRole("searchbox").fill("");
    await row(page, id).waitFor();
    assert.equal(await row(page, id).getByRole("checkbox").isChecked(), false);
  } },

  { name: "does not wait for a pointer that lies on the list", async run({ page, open, api }) {
    await page.clock.install();
    const { run_id: first } = await submit(api, { flow_name: "pointed", tag: "nobody" });
    await open("#/runs?flow=pointed");
    await row(page, first).hover();
    const { run_id: second } = await submit(api, { flow_name: "pointed", tag: "nobody" });
    await page.getByRole("button", { name: "1 newer" }).waitFor();
    await page.clock.setSystemTime(Date.now() + 30000);
    const { run_id: third } = await submit(api, { flow_name: "pointed", tag: "nobody" });
    await row(page, third).waitFor();
    await row(page, second).waitFor();
  } },

  { name: "does not gather runs without end", async run({ page, open, api }) {
    await open("#/runs?flow=flood");
    await page.getByText("No run fits these filters.").waitFor();
    for (let i = 0; i < 5; i++) {
      await api("POST", "/runs/batch", { runs: Array.from({ length: 500 }, () => ({ flow_name: "flood", tag: "nobody", params: {} })) });
    }
    await page.getByRole("button", { name: "Waiting 2,500" }).waitFor();
    const { run_id: last } = await submit(api, { flow_name: "flood", tag: "nobody" });
    await row(page, last).waitFor();
    await page.waitForFunction(() => Number(document.querySelector(".virtual").getAttribute("aria-rowcount")) <= 2000);
  } },

  { name: "stays live while something of a view has the focus, which stays where it is", async run({ page, open, api }) {
    await open("#/workers");
    await page.getByRole("button", { name: "Hide" }).focus();
    await page.locator(".worker h2").evaluate((node) => { node.dataset.old = "1"; });
    const seen = await page.locator(".worker .foot").textContent();
    await page.waitForFunction((text) => document.querySelector(".worker .foot").textContent !== text, seen);
    assert.equal(await page.locator("[data-old]").count(), 1, "a heartbeat alone makes nothing anew");
    const { run_id: id } = await submit(api, { params: { sec: 1000 } });
    await page.locator(".worker").getByRole("link", { name: `nap ${id.slice(0, 8)}` }).waitFor();
    assert.equal(await focused(page), "Hide");
    await api("POST", `/runs/${id}/cancel`);
    await page.getByLabel("Also hidden ones").focus();
    await page.keyboard.press("Space");
    await page.waitForURL(/hidden=1/);
    assert.equal(await page.evaluate(() => document.activeElement.name), "hidden");
    await page.goBack();
    assert.equal(await page.getByLabel("Also hidden ones").isChecked(), false);
  } },

  { name: "leaves alone what a person reads of a run while it runs", async run({ page, open, api }) {
    const { run_id: id } = await submit(api, { params: { sec: 1000 } });
    await open(`#/runs/${id}`);
    await page.locator(".run-state").getByText("Running").waitFor();
    await page.getByText(id).selectText();
    const took = page.locator("dd", { hasText: /\d m?s$/ });
    const before = await took.textContent();
    await page.waitForFunction(([text]) => [...document.querySelectorAll("dd")].every((one) => one.textContent !== text), [before]);
    assert.equal(await page.evaluate(() => getSelection().toString()), id);
    await api("POST", `/runs/${id}/cancel`);
  } },

  { name: "runs once what is clicked twice", async run({ page, open, api }) {
    const { run_id: id } = await submit(api, { flow_name: "nap", tag: "twice" });
    await open(`#/runs/${id}`);
    await page.getByRole("button", { name: "Run again" }).dblclick();
    await page.waitForURL((url) => !url.hash.includes(id));
    await open("#/submit");
    const form = page.locator("form", { hasText: "by its name" });
    await form.getByLabel("Name").fill("nap");
    await form.getByLabel("Tag").fill("twice");
    await form.getByRole("button", { name: "Run" }).dblclick();
    await page.waitForURL(/#\/runs\//);
    assert.equal((await api("GET", "/runs?tag=twice")).length, 3);
  } },

  { name: "closes a question about what is left", async run({ page, open, api }) {
    const { run_id: id } = await submit(api, { tag: "nobody" });
    await open("#/runs");
    await page.goto(`${page.url().split("#")[0]}#/runs/${id}`);
    await page.getByRole("button", { name: "Edit params and run" }).click();
    await page.getByRole("dialog").waitFor();
    await page.goBack();
    await page.locator(".run-row").first().waitFor();
    assert.equal(await page.getByRole("dialog").count(), 0);
  } },

  { name: "says that a link is broken", async run({ page, open }) {
    await open("#/nowhere/100%");
    await page.getByText("There is no such page.").waitFor();
  } },

  { name: "gets a section once the connection is back", async run({ page, context, open }) {
    await open("#/runs");
    await page.locator(".run-row").first().waitFor();
    await context.setOffline(true);
    await page.getByRole("link", { name: "Queues" }).click();
    await page.locator("main").getByText("No connection; trying again").waitFor();
    await page.waitForRequest(/\/health/); // it asks before it loads itself anew: else nothing of the page would be left
    await page.waitForRequest(/\/health/);
    await context.setOffline(false);
    await page.getByText("The last hour").waitFor();
  } },

  { name: "draws no edge across a task, and no name beyond its box", async run({ page, open }) {
    await open("#/submit");
    const editor = page.getByRole("textbox", { name: /Document/ });
    await editor.fill(WIDE);
    await page.getByText("It is fine: 13 tasks.").waitFor();
    const faults = await page.evaluate(() => {
      const boxOf = (node) => node.querySelector("rect").getBoundingClientRect();
      const nodes = [...document.querySelectorAll(".graph-node")];
      const found = nodes.filter((node) => node.querySelector(".graph-name").getBoundingClientRect().right > boxOf(node).right).map((node) => node.textContent);
      for (const edge of document.querySelectorAll(".graph-edge")) {
        const matrix = edge.getScreenCTM();
        for (let part = 0.02; part < 0.99; part += 0.01) {
          const { x, y } = edge.getPointAtLength(edge.getTotalLength() * part).matrixTransform(matrix);
          const hit = [...nodes, ...document.querySelectorAll(".graph-frame")].find((node) => {
            const box = boxOf(node);
            return x > box.left + 1 && x < box.right - 1 && y > box.top + 1 && y < box.bottom - 1 && !(node.matches(".graph-frame") && isInside(edge, box, matrix));
          });
          if (hit) found.push(`an edge crosses ${hit.textContent}`);
        }
      }
      function isInside(edge, box, matrix) { // an edge between tasks of that frame
        const { x } = edge.getPointAtLength(0).matrixTransform(matrix);
        const { y } = edge.getPointAtLength(0).matrixTransform(matrix);
        return x > box.left && x < box.right && y > box.top && y < box.bottom;
      }
      return [...new Set(found)];
    });
    assert.deepEqual(faults, []);
  } },
];
