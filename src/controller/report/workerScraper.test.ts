import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { workerView } from "../../../test/support/view.ts";
import type { LogFields } from "../../base/log.ts";
import type { Ownership } from "../../runtime/socket/socketOwners.ts";
import { WorkerScraper } from "./workerScraper.ts";

/** A server that answers `/metrics` with 200 and other paths with 404, and a scraper that believes `ownership`. */
async function rig(context: TestContext) {
  const requests: string[] = [];
  const server = createServer(({ url = "" }, response) => {
    requests.push(url);
    response.writeHead(url.startsWith("/metrics") ? 200 : 404).end("seen_total 1\n");
  });
  server.listen(0, "127.0.0.1");
  context.after(() => server.close());
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const warnings: string[] = [];
  const log = { debug() {}, info() {}, error() {}, warn: (message: string, _?: LogFields) => warnings.push(message) };
  const scene = { port, requests, warnings, ownership: { kind: "owned" } as Ownership };
  const scraper = new WorkerScraper({ judge: () => Promise.resolve(scene.ownership) }, log);
  const scrape = (path: string) =>
    scraper.scrape(workerView(0, "ready"), { address: { port }, path, siblings: () => [] });
  return Object.assign(scene, { scraper, scrape });
}

test("a worker is scraped at its path, and an error status is a failure", async (context) => {
  const { scrape, requests } = await rig(context);
  assert.deepEqual(await scrape("/metrics?name=a b"), { kind: "success", text: "seen_total 1\n" });
  assert.deepEqual(await scrape("/missing"), { kind: "failure" });
  assert.deepEqual(requests, ["/metrics?name=a%20b", "/missing"]);
});

test("a foreign process at the address receives no request and is named once", async (context) => {
  const scene = await rig(context);
  const { scrape, port, warnings, requests } = scene;
  const warning = `cannot scrape worker "web-0": pid 7 listens on port ${port} and is not a process of this worker`;
  scene.ownership = { kind: "foreign", holder: "pid 7" };
  assert.deepEqual(await scrape("/metrics"), { kind: "foreign" });
  assert.deepEqual(await scrape("/metrics"), { kind: "foreign" });
  assert.deepEqual(warnings, [warning]);
  assert.deepEqual(requests, []);
  scene.ownership = { kind: "owned" };
  assert.equal((await scrape("/metrics")).kind, "success");
  scene.ownership = { kind: "foreign", holder: "pid 7" };
  await scrape("/metrics");
  assert.deepEqual(warnings, [warning, warning]);
});
