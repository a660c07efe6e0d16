/** The dashboard in a real browser (Chromium, if installed) with the real executable. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { type Browser, chromium, type Page } from "playwright-core";
import { ControllerUnderTest, poolOf } from "../support/controller.ts";
import { freePorts } from "../support/ports.ts";
import { proxyPool } from "../support/traffic.ts";

const CHROMIUM = "/usr/bin/chromium";
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // A name that resolves to this machine but is not a loopback name, as in a pod.
  "--host-resolver-rules=MAP pod.example 127.0.0.1",
];
const SKIP = existsSync(CHROMIUM) ? false : `there is no ${CHROMIUM}; scripts/testTools.sh installs it`;

const directory = mkdtempSync(join(tmpdir(), "monoceros-dashboard-"));
let browser: Promise<Browser> | undefined;
after(async () => {
  await (await browser)?.close();
  rmSync(directory, { recursive: true });
});

/** Opens a page, runs `body`, and fails if the browser reported an error, such as a violation of the page's policy. */
async function withPage(url: string, body: (page: Page) => Promise<void>): Promise<void> {
  browser ??= chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  const page = await (await browser).newPage();
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    // The browser reports every failed response and connection itself.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource"))
      complaints.push(message.text());
  });
  try {
    await page.goto(url);
    await body(page);
    assert.deepEqual(complaints, []);
  } finally {
    await page.close();
  }
}

function sleepers(replicas: number): string {
  return poolOf({ name: "web", replicas, exec: "sleep", args: [100000], startup_wait_time: "0s" });
}

test("the dashboard shows workers, a SIGKILL, and the results of operations", { skip: SKIP }, async () => {
  const port = await freePorts(1);
  await using controller = await ControllerUnderTest.start({ workers: sleepers(3), port });
  await controller.ready();
  await withPage(`http://localhost:${port}/`, async (page) => {
    const table = page.getByRole("region", { name: "Workers of web" });
    const row = (id: string) => table.getByRole("row").filter({ has: page.getByRole("rowheader", { name: id }) });
    const pid = await controller.pidOf("web-1");
    await row("web-1").getByText(String(pid)).waitFor();
    for (const id of ["web-0", "web-1", "web-2"]) await row(id).getByText("ready", { exact: true }).waitFor();

    process.kill(pid, "SIGKILL");
    const events = page.getByRole("list", { name: "Events, newest first" });
    await events.getByText(`worker "web-1" was killed by SIGKILL`).waitFor();
    await row("web-1").getByText("SIGKILL", { exact: true }).waitFor();

    const before = await controller.pids();
    await page.getByRole("button", { name: "Restart pool web" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("Replaces all workers").waitFor();
    assert.deepEqual(await controller.pids(), before, "nothing happens before the confirmation");
    await dialog.getByRole("button", { name: "Restart" }).click();
    const results = page.getByRole("log", { name: "Results" });
    await results.getByText(/restart of pool "web" \(op-1\) finished/u).waitFor();
    const pids = Object.values(await controller.pids());
    assert.equal(pids.length, 3);
    assert.ok(!Object.values(before).some((old) => pids.includes(old)));

    await page.getByRole("button", { name: "Scale pool web" }).click();
    await dialog.getByRole("spinbutton", { name: "Replicas" }).fill("5");
    await dialog.getByRole("button", { name: "Scale" }).click();
    await results.getByText(/scale of pool "web" \(op-2\) finished/u).waitFor();
    await page.getByText("5 of 5 ready").waitFor();

    controller.configure({ workers: sleepers(4) });
    await page.getByRole("button", { name: "Reload…" }).click();
    await dialog.getByText(/replicas/u).waitFor();
    await dialog.getByRole("button", { name: "Reload" }).click();
    await page.getByText("4 of 4 ready").waitFor();

    controller.configure({ workers: sleepers(0) });
    await page.getByRole("button", { name: "Reload…" }).click();
    await dialog.getByRole("alert").getByText("replicas").waitFor();
    await dialog.getByRole("button", { name: "Cancel" }).click();
    await page.locator("button:focus").getByText("Reload…").waitFor();
  });
});

test("the dashboard shows which change a reload could not apply, and why", { skip: SKIP }, async () => {
  const port = await freePorts(1);
  const { workers, target } = await proxyPool({ replicas: 1 });
  assert.ok("port" in target);
  await using controller = await ControllerUnderTest.start({ workers, port });
  await controller.ready();
  const holder = createServer().listen(0, "127.0.0.1");
  await once(holder, "listening");
  const taken = (holder.address() as AddressInfo).port;
  try {
    controller.configure({ workers: workers.replace(`"listener_port":${target.port}`, `"listener_port":${taken}`) });
    await withPage(`http://localhost:${port}/`, async (page) => {
      await page.getByRole("button", { name: "Reload…" }).click();
      const dialog = page.getByRole("dialog");
      await dialog.getByText(/listener_port/u).waitFor();
      await dialog.getByRole("button", { name: "Reload" }).click();
      const results = page.getByRole("log", { name: "Results" });
      await results.getByText(/Reload: supervisor\.workers\[0\]\.server was not changed: .*in use/u).waitFor();
    });
  } finally {
    holder.close();
  }
});

test("the dashboard asks for the token and shows an error for a wrong one", { skip: SKIP }, async () => {
  const port = await freePorts(1);
  const file = join(directory, "token");
  const token = "correct-horse-battery-staple-0123456789";
  writeFileSync(file, `${token}\n`, { mode: 0o600 });
  const admin = `  token_file: ${file}`;
  await using controller = await ControllerUnderTest.start({ workers: sleepers(1), port, admin });
  await controller.ready();
  await withPage(`http://pod.example:${port}/`, async (page) => {
    const field = page.getByLabel("Token (content of admin.token_file)");
    await field.fill("wrong");
    assert.equal(await page.getByText("web-0").count(), 0);
    await page.getByRole("button", { name: "Connect" }).click();
    await page.getByRole("alert").getByText("the token is wrong").waitFor();
    await field.fill(token);
    await page.getByRole("button", { name: "Connect" }).click();
    await page.getByRole("rowheader", { name: "web-0" }).waitFor();
    await page.getByText(/controller is ready/u).waitFor();
    await page.reload();
    await page.getByRole("rowheader", { name: "web-0" }).waitFor();
  });
});

test("the dashboard reports an unreachable controller and reconnects to the next one", { skip: SKIP }, async () => {
  const port = await freePorts(1);
  const first = await ControllerUnderTest.start({ workers: sleepers(2), port });
  await withPage(`http://127.0.0.1:${port}/`, async (page) => {
    await page.getByText("2 of 2 ready").waitFor();
    await first[Symbol.asyncDispose]();
    await page.getByRole("status").getByText("The controller has not responded since").waitFor();
    assert.equal(await page.getByRole("button", { name: "Restart pool web" }).isDisabled(), true);
    await using next = await ControllerUnderTest.start({ workers: sleepers(1), port });
    await page.getByText("1 of 1 ready").waitFor();
    await page.getByText(String(next.pid), { exact: true }).waitFor();
    await page.getByText(/controller is starting: 1 pool, 1 worker/u).waitFor();
  });
});

test("the dashboard shows 500 workers in pages and finds one by its id", { skip: SKIP }, async () => {
  const port = await freePorts(1);
  await using controller = await ControllerUnderTest.start({ workers: sleepers(500), port });
  await controller.ready();
  await withPage(`http://localhost:${port}/`, async (page) => {
    await page.getByText("500 of 500 ready").waitFor();
    const rows = page.getByRole("region", { name: "Workers of web" }).getByRole("rowheader");
    assert.equal(await rows.count(), 50);
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByText("51–100 of 500").waitFor();
    await page.getByRole("searchbox", { name: "Filter workers" }).fill("web-499");
    await page.getByRole("rowheader", { name: "web-499" }).waitFor();
    assert.equal(await rows.count(), 1);
  });
});
