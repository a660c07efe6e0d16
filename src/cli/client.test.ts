import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { eventRecord, FakeController, statusOf, workerStatus } from "../../test/support/fakeController.ts";
import type { ErrorCode } from "../base/errors.ts";
import { ControllerError } from "../base/errors.ts";
import { ControlClient } from "./client.ts";
import { findSocket } from "./findSocket.ts";

function isError(code: ErrorCode, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ControllerError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}

async function collect<Entry>(stream: AsyncIterable<Entry>): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of stream) entries.push(entry);
  return entries;
}

test("findSocket uses the first socket that accepts a connection", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(statusOf(workerStatus()));
  const found = await findSocket([join(fake.directory, "none.sock"), fake.socketPath, "/never/tried"]);
  assert.equal(found.path, fake.socketPath);
  const client = new ControlClient(found.path, found);
  assert.deepEqual(await client.status(), statusOf(workerStatus()));
});

test("a status with names that a shell or terminal could interpret is rejected", async () => {
  await using fake = await FakeController.start();
  for (const id of ["$(touch x)", "web 0", "\u009b2J", "-x", ""]) {
    fake.answerStatus(statusOf(workerStatus({ id })));
    await assert.rejects(
      new ControlClient(fake.socketPath).status(),
      isError("NO_CONTROLLER", /its status contains the invalid name "/u),
    );
  }
});

test("without a controller, the error lists each path and its problem", async () => {
  await using fake = await FakeController.start();
  const file = join(fake.directory, "file");
  writeFileSync(file, "");
  await assert.rejects(
    findSocket(["/nowhere/a.sock", file, `/${"x".repeat(200)}`]),
    isError(
      "NO_CONTROLLER",
      /tried\n {2}\/nowhere\/a\.sock: no such file\n.*\/file: no process listens on it\n.*: path too long/u,
    ),
  );
  await assert.rejects(
    findSocket(["/nowhere/a.sock"]),
    isError("NO_CONTROLLER", /^Cannot find a controller at \/nowhere\/a\.sock: no such file$/u),
  );
});

test("errors of the API keep their code and message", async () => {
  await using fake = await FakeController.start();
  const client = new ControlClient(fake.socketPath);
  fake.answer("POST /v1/workers/a%2Fb/stop", 404, { error: { code: "WORKER_UNKNOWN", message: "no such worker" } });
  const target = { kind: "worker", name: "a/b" } as const;
  await assert.rejects(client.order(target, "stop"), isError("WORKER_UNKNOWN", /^no such worker$/u));
  fake.answer("POST /v1/shutdown", 409, { error: { code: "FROM_THE_FUTURE", message: "not now" } });
  await assert.rejects(client.shutdown(), isError("REQUEST_REFUSED", /^FROM_THE_FUTURE: not now$/u));
  fake.answers.set("GET /v1/status", (response) => response.writeHead(502).end("<html>"));
  await assert.rejects(client.status(), isError("REQUEST_REFUSED", /HTTP status 502/u));
});

test("the response of another program is reported as NO_CONTROLLER", async () => {
  await using fake = await FakeController.start();
  for (const body of ["<html>hello</html>", "7", "null", "{}"]) {
    fake.answers.set("GET /v1/status", (response) => response.end(body));
    await assert.rejects(
      new ControlClient(fake.socketPath).status(),
      isError("NO_CONTROLLER", /another program may listen there/u),
    );
  }
});

test("a controller that does not respond in time is reported as NO_CONTROLLER", async () => {
  await using fake = await FakeController.start();
  fake.answers.set("GET /v1/status", () => {});
  await assert.rejects(
    new ControlClient(fake.socketPath, { timeoutMs: 20 }).status(),
    isError("NO_CONTROLLER", /within 0\.02 s/u),
  );
});

test("a response that breaks off is reported as NO_CONTROLLER", async () => {
  await using fake = await FakeController.start();
  fake.answers.set("GET /v1/status", (response) => {
    response.writeHead(200, { "content-length": 100 });
    response.write("{", () => response.destroy());
  });
  await assert.rejects(
    new ControlClient(fake.socketPath).status(),
    isError("NO_CONTROLLER", /the controller closed the connection/u),
  );
});

test("events start after the given number; followed events end when the controller exits", async () => {
  await using fake = await FakeController.start();
  const lines = `id: 4\ndata: ${JSON.stringify(eventRecord(4, "a"))}\n\nevent: lost\ndata: {"lost":7}\n\n`;
  fake.answers.set("GET /v1/events", (response, path) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    if (path.includes("follow=0")) response.end(lines);
    else response.write(lines, () => response.destroy());
  });
  const client = new ControlClient(fake.socketPath);
  const lost: number[] = [];
  const onLost = async (count: number) => {
    lost.push(count);
  };
  assert.deepEqual(await collect(client.events({ since: 3, isFollowing: false, onLost })), [eventRecord(4, "a")]);
  assert.deepEqual(await collect(client.events({ since: 0, isFollowing: true, onLost })), [eventRecord(4, "a")]);
  assert.deepEqual(lost, [7, 7]);
  assert.deepEqual(fake.requests, ["GET /v1/events?since=3&follow=0", "GET /v1/events?since=0"]);
});

test("events that break off are an error unless followed", async () => {
  await using fake = await FakeController.start();
  fake.answers.set("GET /v1/events", (response) => {
    response.writeHead(200);
    response.write("data", () => response.destroy());
  });
  const client = new ControlClient(fake.socketPath);
  await assert.rejects(
    collect(client.events({ since: 0, isFollowing: false })),
    isError("NO_CONTROLLER", /the controller closed the connection/u),
  );
});

test("leaving the loop closes the stream", async () => {
  await using fake = await FakeController.start();
  const closed = Promise.withResolvers<void>();
  fake.answers.set("GET /v1/logs", (response) => {
    response.once("close", closed.resolve);
    response.write('data: {"stream":"stdout","line":"über"}\n\n');
  });
  for await (const { line } of new ControlClient(fake.socketPath).logs()) {
    assert.equal(line, "über");
    break;
  }
  await closed.promise;
});

test("operations are requested with the right path and body", async () => {
  await using fake = await FakeController.start();
  const accepted = { accepted: true, operation: "op-1", since: 7 };
  for (const request of ["POST /v1/pools/my%20web/restart", "POST /v1/pools/web/scale", "POST /v1/workers/web-0/start"])
    fake.answer(request, 202, accepted);
  const client = new ControlClient(fake.socketPath);
  assert.deepEqual(await client.order({ kind: "pool", name: "my web" }, "restart"), accepted);
  assert.deepEqual(await client.order({ kind: "worker", name: "web-0" }, "start"), accepted);
  assert.deepEqual(await client.scale("web", 8), accepted);
  assert.deepEqual(fake.bodies.slice(-3), ["", "", '{"replicas":8}']);
});

test("aborting the signal ends a stream, before and after its first entry", async () => {
  await using fake = await FakeController.start();
  const { promise: left, resolve } = Promise.withResolvers<void>();
  fake.answers.set("GET /v1/events", (response) => {
    response.once("close", resolve);
    response.write(`data: ${JSON.stringify(eventRecord(4, "a"))}\n\n`);
  });
  const client = new ControlClient(fake.socketPath);
  const leaving = new AbortController();
  for await (const { seq } of client.events({ since: 3, isFollowing: true, signal: leaving.signal })) {
    assert.equal(seq, 4);
    leaving.abort();
  }
  await left;
  assert.deepEqual(await collect(client.events({ since: 3, isFollowing: true, signal: leaving.signal })), []);
});
