import assert from "node:assert/strict";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { FakeHandle } from "../../test/support/fakeHandle.ts";
import { ControllerError } from "../base/errors.ts";
import { createTcpServer } from "./http/server.ts";

interface Answer {
  readonly status: number | undefined;
  readonly headers: IncomingMessage["headers"];
  readonly bytes: Buffer;
  readonly text: string;
}

interface Front {
  readonly handle: FakeHandle;
  readonly port: number;
  ask(method: string, path: string, body?: string, host?: string): Promise<Answer>;
}

async function start(context: TestContext): Promise<Front> {
  const handle = new FakeHandle();
  const server = createTcpServer(handle);
  server.listen({ port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  context.after(async () => {
    server.close();
    server.closeAllConnections();
    await once(server, "close");
  });
  const { port } = server.address() as AddressInfo;
  return {
    handle,
    port,
    async ask(method, path, body, host = "localhost") {
      const asked = request({ host: "127.0.0.1", port, method, path, agent: false, headers: { host } });
      asked.end(body);
      const [response] = (await once(asked, "response")) as [IncomingMessage];
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk as Buffer);
      const bytes = Buffer.concat(chunks);
      return { status: response.statusCode, headers: response.headers, bytes, text: bytes.toString() };
    },
  };
}

test("a dump request reaches the right worker and is audited", async (context) => {
  const { handle, ask } = await start(context);
  const { status, text } = await ask("POST", "/v1/workers/web-1/dump");
  assert.equal(status, 200);
  assert.equal((JSON.parse(text) as { id: string }).id, "web-1");
  assert.deepEqual(handle.orders, ["dump 0/1"]);
  assert.match(handle.audits.join(), /: dump worker "web-1"$/u);
  assert.equal((await ask("POST", "/v1/workers/web-1/dump", '{"pid": 12}')).status, 200);
  assert.equal(handle.orders.at(-1), "dump 0/1 pid 12");
  assert.match(handle.audits.join(), /: dump pid 12 of worker "web-1"$/u);
  for (const body of ['{"pid":0}', '{"pid":"12"}', '{"pid":1.5}', '{"pid":4194305}', '{"tid":1}'])
    assert.equal((await ask("POST", "/v1/workers/web-1/dump", body)).status, 400, body);
});

test("a profile is sent as bytes with its engine, pid and note as headers", async (context) => {
  const { handle, ask } = await start(context);
  const { status, headers, bytes } = await ask("POST", "/v1/workers/web-1/profile", '{"seconds": 3, "hz": 7}');
  assert.deepEqual([status, [...bytes]], [200, [31, 139, 0, 255]]);
  assert.equal(headers["x-monoceros-engine"], "proc");
  assert.equal(headers["x-monoceros-note"], "it is short");
  assert.equal(headers["content-disposition"], 'attachment; filename="web-1.pb.gz"');
  assert.match(handle.audits.join(), /: profile worker "web-1"$/u);
  assert.equal(headers["x-monoceros-pid"], "4711");
  await ask("POST", "/v1/workers/my%20jobs-0/profile", '{"pid": 12}');
  await ask("POST", "/debug/pprof/profile");
  await ask("POST", "/debug/pprof/heap?seconds=60");
  assert.deepEqual(handle.orders, [
    "profile 0/1: 3 s, 7 Hz",
    "profile 1/0: 10 s, 50 Hz, pid 12",
    "profile cpu: 10 s",
    "profile heap: 60 s",
  ]);
});

test("a profile request out of bounds returns 400 and profiles nothing", async (context) => {
  const { handle, ask } = await start(context);
  const bodies = ["[]", "x", '{"seconds":0}', '{"seconds":61}', '{"hz":101}', '{"hz":"9"}', '{"hz":1.5}', '{"s":1}'];
  for (const body of bodies) assert.equal((await ask("POST", "/v1/workers/web-0/profile", body)).status, 400, body);
  for (const seconds of ["0", "61", "", "x", "1e1", "-1", "99999999999999999999"])
    for (const subject of ["profile", "heap"])
      assert.equal((await ask("POST", `/debug/pprof/${subject}?seconds=${seconds}`)).status, 400, seconds);
  assert.equal((await ask("POST", "/v1/workers/web-9/profile")).status, 404);
  assert.equal((await ask("POST", "/v1/workers/web-9/dump")).status, 404);
  assert.deepEqual([handle.orders, handle.audits], [[], []]);
});

test("dumps and profiles need permission", async (context) => {
  const { handle, ask } = await start(context);
  for (const [method, path] of [
    ["POST", "/v1/workers/web-0/dump"],
    ["POST", "/v1/workers/web-0/profile"],
    ["POST", "/debug/pprof/profile"],
    ["POST", "/debug/pprof/heap"],
  ] as const)
    assert.equal((await ask(method, path, undefined, "rebound.example")).status, 403, path);
  assert.deepEqual(handle.orders, []);
});

test("a profile ends when its client disconnects", async (context) => {
  const { handle, port } = await start(context);
  const begun = Promise.withResolvers<AbortSignal>();
  handle.takeProfile = (signal) => {
    begun.resolve(signal);
    return new Promise(() => {});
  };
  const asked = request({ host: "127.0.0.1", port, method: "POST", path: "/debug/pprof/profile", agent: false });
  asked.on("error", () => {});
  asked.end();
  const signal = await begun.promise;
  assert.equal(signal.aborted, false);
  const aborted = once(signal, "abort");
  asked.destroy();
  await aborted;
});

test("a refused profile returns an error; a failed one only closes the connection", async (context) => {
  const { handle, ask } = await start(context);
  handle.takeProfile = () => Promise.reject(new ControllerError("REQUEST_REFUSED", "Cannot profile: busy"));
  const { status, text } = await ask("POST", "/debug/pprof/heap");
  assert.equal(status, 409);
  assert.match(text, /Cannot profile: busy/u);
  handle.takeProfile = () => Promise.reject(new TypeError("a bug"));
  await assert.rejects(ask("POST", "/debug/pprof/heap"), /socket hang up|ECONNRESET/u);
  assert.equal((await ask("GET", "/health/live")).status, 200);
});
