/** Workers that refuse a Host they do not know, as frameworks with a list of allowed hosts do. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ControllerUnderTest, poolOf } from "../support/controller.ts";
import { freePorts } from "../support/ports.ts";
import { said } from "../support/watch.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-hosts-"));
after(() => rmSync(directory, { recursive: true }));
const SERVER = join(directory, "server.cjs");
writeFileSync(
  SERVER,
  `require("node:http").createServer(({ headers, url }, response) => {
     if (headers.host !== "app.example") {
       console.log("refused " + headers.host);
       response.writeHead(400);
     } else console.log("asked " + url);
     response.end();
   }).listen(process.env.PORT, "127.0.0.1");`,
);

async function start(keys: (port: number) => Readonly<Record<string, unknown>>): Promise<ControllerUnderTest> {
  const port = await freePorts(4);
  const workers = poolOf({ name: "web", exec: process.execPath, args: [SERVER], ...keys(port) });
  return ControllerUnderTest.start({ workers });
}

const server = (port: number) => ({
  start_port: port + 1,
  listener_address: "127.0.0.1",
  listener_port: port,
  health_check_path: "/healthz",
});

test("the controller's first probe and Envoy's health check send health_check_host", async () => {
  await using controller = await start((port) => ({
    server: { ...server(port), health_check_host: "app.example" },
  }));
  await controller.ready();
  assert.deepEqual(
    controller.stdout.filter((line) => line.includes("refused")),
    [],
  );
});

test("without health_check_host they send localhost, which such a worker rejects", async () => {
  await using controller = await start((port) => ({ server: server(port) }));
  await said(controller, "web-0", "refused localhost");
  assert.equal((await controller.worker("web-0")).phase, "starting");
});

test("a probe sends the Host of its configured headers", async () => {
  await using controller = await start((port) => ({
    probes: { readiness: { http: { path: "/readyz", headers: { Host: "app.example" } } } },
    server: { start_port: port + 1, listener_address: "127.0.0.1", listener_port: port },
  }));
  await controller.ready();
  await said(controller, "web-0", "asked /readyz");
});
