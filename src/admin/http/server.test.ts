import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { Agent, type IncomingMessage, type RequestOptions, request, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { FakeHandle } from "../../../test/support/fakeHandle.ts";
import { ControllerError } from "../../base/errors.ts";
import type { EventRecord, Operation, OperationAccepted, Status } from "../api.ts";
import type { TokenCheck } from "./auth.ts";
import { createControlServer, createTcpServer, type Peer } from "./server.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-server-"));
after(() => rmSync(directory, { recursive: true }));

interface Front {
  readonly handle: FakeHandle;
  readonly server: Server;
  readonly to: RequestOptions;
}

let fronts = 0;
/** Runs `body` with a front on a socket in a temporary directory, or on a free TCP port. */
async function withFront(
  kind: "control" | "tcp",
  body: (front: Front) => Promise<void>,
  isToken?: TokenCheck,
  isProxy?: (peer: Peer) => boolean,
): Promise<void> {
  const handle = new FakeHandle();
  const readPeer = () => ({ uid: 7, pid: 8, gid: 9 });
  const server = kind === "control" ? createControlServer(handle, readPeer, isProxy) : createTcpServer(handle, isToken);
  const socketPath = join(directory, `${fronts++}.sock`);
  server.listen(kind === "control" ? socketPath : { port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  const to = kind === "control" ? { socketPath } : { host: "127.0.0.1", port: (server.address() as AddressInfo).port };
  try {
    await body({ handle, server, to });
  } finally {
    server.close();
    server.closeAllConnections();
    await once(server, "close");
  }
}

interface Answer {
  readonly status: number | undefined;
  readonly headers: IncomingMessage["headers"];
  readonly text: string;
}

async function ask(to: RequestOptions, method: string, path: string, body?: Buffer, agent?: Agent): Promise<Answer> {
  const asked = request({ ...to, method, path, ...(agent === undefined ? {} : { agent }) });
  asked.end(body);
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode, headers: response.headers, text: Buffer.concat(chunks).toString() };
}

function errorCode({ text }: Answer): string {
  return (JSON.parse(text) as { error: { code: string } }).error.code;
}

/** Server-sent events of a stream: `[name, data]` each. */
async function* sse(response: IncomingMessage): AsyncGenerator<{ name: string; id: string; data: unknown }> {
  let text = "";
  for await (const chunk of response) {
    text += String(chunk);
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = new Map(
        text
          .slice(0, end)
          .split("\n")
          .map((line) => line.split(/: (.*)/su, 2) as [string, string]),
      );
      text = text.slice(end + 2);
      yield {
        name: lines.get("event") ?? "message",
        id: lines.get("id") ?? "",
        data: JSON.parse(lines.get("data") ?? "null"),
      };
    }
  }
}

async function open(to: RequestOptions, path: string): Promise<IncomingMessage> {
  const asked = request({ ...to, path });
  asked.end();
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  assert.equal(response.headers["content-type"], "text/event-stream");
  return response;
}

async function take<T>(stream: AsyncGenerator<T>, count: number): Promise<T[]> {
  const taken: T[] = [];
  while (taken.length < count) {
    const next = await stream.next();
    assert.equal(next.done, false, "the stream ended early");
    taken.push(next.value as T);
  }
  return taken;
}

test("the control socket refuses a proxy on every route", async () => {
  const isProxy = ({ pid }: Peer) => pid === 8;
  await withFront(
    "control",
    async ({ to, handle }) => {
      for (const [method, path] of [
        ["POST", "/v1/shutdown"],
        ["GET", "/v1/status"],
        ["GET", "/metrics"],
        ["GET", "/no/such"],
      ] as const) {
        const { status, text } = await ask(to, method, path);
        assert.equal(status, 403, path);
        assert.match(text, /ACCESS_DENIED.*Envoy may not use the control socket/u);
      }
      assert.deepEqual([handle.orders, handle.audits], [[], []]);
    },
    undefined,
    isProxy,
  );
});

test("both fronts serve metrics with type and length, in the requested format", async () => {
  for (const kind of ["tcp", "control"] as const) {
    await withFront(kind, async ({ to }) => {
      const { status, headers, text } = await ask({ ...to, headers: { accept: "openmetrics" } }, "GET", "/metrics?x=1");
      assert.deepEqual([status, text], [200, "# größe openmetrics\n"]);
      assert.equal(headers["content-type"], "text/plain; version=0.0.4");
      assert.equal(headers["content-length"], String(Buffer.byteLength(text)));
    });
  }
});

test("health follows the view, and live is always 200", async () => {
  await withFront("tcp", async ({ handle, to }) => {
    const codes = async () =>
      Promise.all(
        ["/health", "/health/ready", "/health/live"].map(async (path) => (await ask(to, "GET", path)).status),
      );
    assert.deepEqual(await codes(), [503, 503, 200]);
    handle.current = { ...handle.current, healthy: true };
    assert.deepEqual(await codes(), [200, 503, 200]);
    handle.current = { ...handle.current, ready: true };
    assert.deepEqual(await codes(), [200, 200, 200]);
    const { text } = await ask(to, "GET", "/health");
    assert.equal(text, "ok, running\nweb: 0 of 2 ready\nmy jobs: 0 of 2 ready\nweb-proxy: 0 of 1 ready\n");
  });
});

test("over TCP, routes that are not open need the token or a loopback name", async () => {
  const closed = [
    ["GET", "/dashboard"],
    ["GET", "/v1/status"],
    ["GET", "/v1/events"],
    ["GET", "/v1/logs"],
    ["GET", "/v1/nothing"],
    ["POST", "/v1/shutdown"],
    ["POST", "/v1/workers/web-0/stop"],
    ["POST", "/metrics"],
  ] as const;
  const check = async (to: RequestOptions, headers: Record<string, string>, expected: number) => {
    for (const [method, path] of closed) {
      const answer = await ask({ ...to, headers }, method, path);
      assert.deepEqual([answer.status, errorCode(answer)], [expected, "ACCESS_DENIED"], path);
      assert.equal(answer.headers["www-authenticate"], expected === 401 ? 'Bearer realm="monoceros"' : undefined);
    }
    assert.equal((await ask({ ...to, headers }, "GET", "/metrics")).status, 200);
  };
  await withFront("tcp", async ({ handle, to }) => {
    await check(to, { host: "evil.example" }, 403);
    assert.equal((await ask(to, "GET", "/v1/status")).status, 200);
    assert.equal((await ask(to, "GET", "/v1/nothing")).status, 404);
    assert.deepEqual(handle.orders, []);
  });
  await withFront(
    "tcp",
    async ({ handle, to }) => {
      await check(to, { host: "evil.example", authorization: "Bearer wrong" }, 401);
      assert.deepEqual(handle.orders, []);
      const headers = { host: "pod:9000", authorization: "Bearer right" };
      assert.equal((await ask({ ...to, headers }, "POST", "/v1/workers/web-0/stop")).status, 202);
      assert.deepEqual(handle.audits, ['the token: stop worker "web-0"']);
    },
    (text) => text === "right",
  );
});

test("the dashboard follows the rules of /v1, but with a token its page is open to all", async () => {
  const isRefused = async (to: RequestOptions, headers: Record<string, string>) =>
    [401, 403].includes((await ask({ ...to, headers }, "GET", "/")).status ?? 0);
  await withFront("tcp", async ({ to }) => {
    assert.equal(await isRefused(to, { host: "evil.example" }), true);
    assert.equal(await isRefused(to, {}), false);
  });
  await withFront(
    "tcp",
    async ({ to }) => {
      assert.equal(await isRefused(to, { host: "pod:9000" }), false);
      const stranger = { ...to, headers: { host: "pod:9000" } };
      for (const [method, path] of [["POST", "/"] as const, ["GET", "/v1/status"] as const])
        assert.equal(errorCode(await ask(stranger, method, path)), "ACCESS_DENIED", path);
    },
    (text) => text === "right",
  );
  await withFront("control", async ({ to }) => {
    assert.deepEqual((await ask(to, "POST", "/")).headers.allow, "GET");
  });
});

test("a page of another origin can change nothing over TCP", async () => {
  await withFront("tcp", async ({ handle, to }) => {
    for (const headers of [{ origin: "http://evil.example" }, { origin: "null" }, { "sec-fetch-site": "cross-site" }]) {
      const answer = await ask({ ...to, headers }, "POST", "/v1/pools/web/restart");
      assert.deepEqual([answer.status, errorCode(answer)], [403, "ACCESS_DENIED"], JSON.stringify(headers));
    }
    assert.deepEqual(handle.orders, []);
    const origin = `http://127.0.0.1:${to.port}`;
    assert.equal((await ask({ ...to, headers: { origin } }, "POST", "/v1/pools/web/restart")).status, 202);
  });
});

test("every change is audited with its requester before it happens", async () => {
  await withFront("control", async ({ handle, to }) => {
    const audited: number[] = [];
    handle.onOrder = () => audited.push(handle.audits.length);
    await ask(to, "POST", "/v1/pools/web/restart");
    await ask(to, "POST", "/v1/pools/web/scale", Buffer.from('{"replicas": 3}'));
    await ask(to, "POST", "/v1/workers/web-0/start");
    const shutdown = Promise.withResolvers<void>();
    handle.onOrder = shutdown.resolve;
    await ask(to, "POST", "/v1/shutdown");
    await shutdown.promise;
    assert.deepEqual(audited, [1, 2, 3]);
    assert.deepEqual(
      handle.audits,
      ['restart pool "web"', 'scale pool "web" to 3', 'start worker "web-0"', "shut down"].map(
        (what) => `uid 7, pid 8: ${what}`,
      ),
    );
    const count = handle.audits.length;
    for (const path of ["/v1/status", "/v1/operations", "/metrics"]) await ask(to, "GET", path);
    await ask(to, "POST", "/v1/pools/nobody/restart");
    assert.equal(handle.audits.length, count);
  });
});

test("an unknown path returns 404, a wrong method 405 with Allow", async () => {
  await withFront("control", async ({ handle, to }) => {
    for (const path of ["/v2/status", "/metrics/", "/health/none", "/v1/workers/web-0/kill", "/v1/workers/a/b/stop"]) {
      const answer = await ask(to, "GET", path);
      assert.deepEqual([answer.status, errorCode(answer)], [404, "REQUEST_INVALID"], path);
    }
    const wrong = await ask(to, "POST", "/metrics");
    assert.deepEqual([wrong.status, wrong.headers.allow, errorCode(wrong)], [405, "GET", "REQUEST_INVALID"]);
    for (const method of ["GET", "HEAD", "PUT", "DELETE"])
      assert.deepEqual((await ask(to, method, "/v1/shutdown")).headers.allow, "POST", method);
    assert.deepEqual(handle.orders, []);
  });
});

test("a request target that is not a path returns 400", async () => {
  await withFront("tcp", async ({ to }) => {
    for (const path of ["*", "http://elsewhere/metrics"]) assert.equal((await ask(to, "GET", path)).status, 400, path);
  });
});

test("HEAD returns the headers of GET", async () => {
  await withFront("control", async ({ to }) => {
    for (const path of ["/metrics", "/v1/status", "/health/live"]) {
      const got = await ask(to, "GET", path);
      const head = await ask(to, "HEAD", path);
      assert.deepEqual([head.status, head.text, head.headers["content-type"]], [200, "", got.headers["content-type"]]);
    }
  });
});

test("HEAD of a stream ends, and the connection stays usable", async () => {
  await withFront("control", async ({ to }) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (const path of ["/v1/events", "/v1/logs"]) {
      const head = await ask(to, "HEAD", path, undefined, agent);
      assert.deepEqual([head.status, head.headers["content-type"]], [200, "text/event-stream"]);
      assert.equal((await ask(to, "GET", "/health/live", undefined, agent)).status, 200);
    }
    agent.destroy();
  });
});

test("a body that is too large returns 413 and changes nothing", async () => {
  await withFront("control", async ({ handle, to }) => {
    const answer = await ask(to, "POST", "/v1/shutdown", Buffer.alloc(65_537));
    assert.deepEqual([answer.status, errorCode(answer), answer.headers.connection], [413, "REQUEST_INVALID", "close"]);
    assert.deepEqual(handle.orders, []);
  });
});

test("an unused body within the limit is discarded", async () => {
  await withFront("control", async ({ handle, to }) => {
    assert.equal((await ask(to, "POST", "/v1/shutdown", Buffer.alloc(65_536))).status, 202);
    assert.equal(handle.orders.length, 1);
  });
});

test("the status document reflects the current view", async () => {
  await withFront("control", async ({ to }) => {
    const { status, headers, text } = await ask(to, "GET", "/v1/status");
    assert.deepEqual([status, headers["content-type"]], [200, "application/json"]);
    const document = JSON.parse(text) as Status;
    assert.deepEqual(
      [document.version, document.pid, document.phase, document.uptime_s, document.pools.length],
      ["1.2.3", process.pid, "running", 3.5, 3],
    );
    assert.deepEqual(document.pools[0]?.workers[0], {
      id: "web-0",
      pool: "web",
      slot: 0,
      phase: "down",
      incarnation: 0,
      pid: null,
      uptime_s: null,
      phase_s: 3.5,
      next_s: null,
      proving: false,
      standby: false,
      in_flight: null,
      restarts: 0,
      last_exit: null,
      reason: "not started yet",
      waits_for: null,
      reports: null,
    });
  });
});

test("a shutdown starts after its response is sent", async () => {
  await withFront("control", async ({ handle, server, to }) => {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const { promise: answered, resolve: answering } = Promise.withResolvers<ServerResponse>();
    server.once("request", (_, response) => answering(response));
    handle.onOrder = () => void answered.then((response) => resolve(response.writableFinished));
    const { status, text } = await ask(to, "POST", "/v1/shutdown");
    assert.deepEqual([status, text], [202, '{"accepted":true}\n']);
    assert.equal(await promise, true);
    assert.deepEqual(handle.orders, ["shutdown: requested through the API"]);
  });
});

test("a shutdown happens even if its client has disconnected", async () => {
  await withFront("control", async ({ handle, to }) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    handle.onOrder = resolve;
    const socket = connect(String(to.socketPath));
    socket.write("POST /v1/shutdown HTTP/1.1\r\nhost: c\r\ncontent-length: 0\r\n\r\n", () => socket.destroy());
    await promise;
    assert.equal(handle.orders.length, 1);
  });
});

test("operations reach the right slots and return their id", async () => {
  await withFront("control", async ({ handle, to }) => {
    handle.events.add({ kind: "controller_ready", afterMs: 5 });
    const first = await ask(to, "POST", "/v1/workers/web-1/stop");
    assert.equal(first.status, 202);
    assert.deepEqual(JSON.parse(first.text) as OperationAccepted, { accepted: true, operation: "op-1", since: 1 });
    for (const path of [
      "/v1/workers/my%20jobs-0/start",
      "/v1/workers/web-0/restart",
      "/v1/pools/my%20jobs/restart",
      "/v1/pools/web/stop",
      "/v1/pools/web/start",
      "/v1/pools/web-proxy/restart",
      "/v1/workers/web-proxy-0/restart",
    ])
      assert.equal((await ask(to, "POST", path)).status, 202, path);
    assert.equal((await ask(to, "POST", "/v1/pools/web/scale", Buffer.from('{"replicas": 8}'))).status, 202);
    assert.deepEqual(handle.orders, [
      "stop 0/1: stopped by an operator",
      "start 1/0: started by an operator",
      "restart 0/0: restarted by an operator",
      "restart 1/*: restarted by an operator",
      "stop 0/*: stopped by an operator",
      "start 0/*: started by an operator",
      "restart 2/*: restarted by an operator",
      "restart 2/0: restarted by an operator",
      "scale 0/to 8: scaled by an operator",
    ]);
  });
});

test("a proxy can be neither stopped nor scaled", async () => {
  await withFront("control", async ({ handle, to }) => {
    for (const path of ["/v1/pools/web-proxy/stop", "/v1/workers/web-proxy-0/stop", "/v1/pools/web-proxy/scale"]) {
      const answer = await ask(to, "POST", path, Buffer.from('{"replicas": 2}'));
      assert.deepEqual([answer.status, errorCode(answer)], [409, "REQUEST_REFUSED"], path);
    }
    assert.deepEqual(handle.orders, []);
  });
});

test("an invalid scale request returns 400 and names the expected body", async () => {
  await withFront("control", async ({ handle, to }) => {
    const cases: readonly (readonly [body: string, words: RegExp])[] = [
      ["", /body is empty, expected .*replicas/u],
      ["{", /body is not JSON/u],
      ["[4]", /body is not an object/u],
      ["null", /body is not an object/u],
      ["4", /body is not an object/u],
      ["{}", /whole number from 1 .*got nothing/u],
      ['{"replicas": 0}', /got 0/u],
      ['{"replicas": -1}', /got -1/u],
      ['{"replicas": 1.5}', /got 1\.5/u],
      ['{"replicas": 1e9}', /from 1 to 10000, got 1000000000/u],
      ['{"replicas": "4"}', /got \\"4\\"/u],
      ['{"replicas": null}', /got null/u],
      [`{"replicas": "${"x".repeat(1000)}"}`, /got \\"x{59}…/u],
      ['{"replica": 4}', /unknown key \\"replica\\"/u],
      ['{"replicas": 4, "__proto__": 1}', /unknown key/u],
    ];
    for (const [body, words] of cases) {
      const answer = await ask(to, "POST", "/v1/pools/web/scale", Buffer.from(body));
      assert.deepEqual([answer.status, errorCode(answer)], [400, "REQUEST_INVALID"], body);
      assert.match(answer.text, words);
    }
    const unknown = await ask(to, "POST", "/v1/pools/nobody/scale", Buffer.from('{"replicas": 4}'));
    assert.deepEqual([unknown.status, errorCode(unknown)], [404, "POOL_UNKNOWN"]);
    assert.deepEqual(handle.orders, []);
  });
});

test("operations are listed and shown, and pending ones are in the status", async () => {
  await withFront("control", async ({ handle, to }) => {
    await ask(to, "POST", "/v1/pools/web/restart");
    const running: Operation = {
      id: "op-1",
      pool: "web",
      what: "restart",
      state: "running",
      done: 0,
      total: 1,
      reason: "restarted by an operator",
      started_at: "1970-01-01T00:00:00.000Z",
      ended_at: null,
    };
    const shown = async (path: string) => JSON.parse((await ask(to, "GET", path)).text);
    assert.deepEqual(await shown("/v1/operations/op-1"), running);
    assert.deepEqual(await shown("/v1/operations"), { operations: [running] });
    assert.deepEqual(((await shown("/v1/status")) as Status).pools[0]?.operations, [running]);
    const reason = "done";
    handle.operations.handle({
      kind: "operation_finished",
      pool: "web",
      operation: "op-1",
      what: "restart",
      done: 1,
      total: 1,
      reason,
    });
    assert.equal(((await shown("/v1/operations/op-1")) as Operation).state, "succeeded");
    assert.deepEqual(((await shown("/v1/status")) as Status).pools[0]?.operations, []);
    const unknown = await ask(to, "GET", "/v1/operations/op-2");
    assert.deepEqual([unknown.status, errorCode(unknown)], [404, "OPERATION_UNKNOWN"]);
  });
});

test("the 51st pending operation is refused", async () => {
  await withFront("control", async ({ handle, to }) => {
    for (let count = 0; count < 50; count++) assert.equal((await ask(to, "POST", "/v1/pools/web/restart")).status, 202);
    const refused = await ask(to, "POST", "/v1/pools/web/restart");
    assert.deepEqual([refused.status, errorCode(refused)], [409, "REQUEST_REFUSED"]);
    assert.equal(handle.orders.length, 50);
  });
});

test("an unknown worker returns 404, however its id is written", async () => {
  await withFront("control", async ({ handle, to }) => {
    for (const id of ["web-99", "nobody-0", "%E0%A4%A", "web-0%00"]) {
      const answer = await ask(to, "POST", `/v1/workers/${id}/stop`);
      assert.deepEqual([answer.status, errorCode(answer)], [404, "WORKER_UNKNOWN"], id);
    }
    assert.deepEqual(handle.orders, []);
  });
});

test("operations are refused with 409 during a shutdown, but not during the boot", async () => {
  await withFront("control", async ({ handle, to }) => {
    for (const phase of ["leaving", "stopping", "stopped"] as const) {
      handle.current = { ...handle.current, phase };
      const answer = await ask(to, "POST", "/v1/workers/web-0/start");
      assert.deepEqual([answer.status, errorCode(answer)], [409, "REQUEST_REFUSED"], phase);
    }
    handle.current = { ...handle.current, phase: "booting" };
    assert.equal((await ask(to, "POST", "/v1/workers/web-0/start")).status, 202);
    assert.equal(handle.orders.length, 1);
  });
});

test("an error of the controller is returned with its code", async () => {
  await withFront("control", async ({ handle, to }) => {
    handle.onOrder = () => {
      throw new ControllerError("REQUEST_REFUSED", 'Cannot stop worker "web-0": not now');
    };
    const answer = await ask(to, "POST", "/v1/workers/web-0/stop");
    assert.equal(answer.status, 409);
    assert.match(answer.text, /not now/u);
  });
});

test("the event stream sends past events first, then new ones", async () => {
  await withFront("control", async ({ handle, to }) => {
    handle.events.add({ kind: "controller_started", reason: "1 pool" });
    handle.events.add({ kind: "controller_ready", afterMs: 5 });
    const response = await open(to, "/v1/events");
    const stream = sse(response);
    const known = await take(stream, 2);
    handle.events.add({ kind: "controller_stopping", reason: "line\nbreak" });
    const [next] = await take(stream, 1);
    assert.deepEqual(
      [...known, next].map((event) => [event?.name, event?.id, (event?.data as EventRecord | undefined)?.kind]),
      [
        ["message", "1", "controller_started"],
        ["message", "2", "controller_ready"],
        ["message", "3", "controller_stopping"],
      ],
    );
    assert.equal((next?.data as { reason: string } | undefined)?.reason, "line\nbreak");
    response.destroy();
  });
});

test("follow=0 ends the stream after past events, and since skips older ones", async () => {
  await withFront("control", async ({ handle, to }) => {
    for (let afterMs = 1; afterMs <= 5; afterMs++) handle.events.add({ kind: "controller_ready", afterMs });
    const ids = async (query: string) => {
      const found: string[] = [];
      for await (const { id } of sse(await open(to, `/v1/events?follow=0${query}`))) found.push(id);
      return found;
    };
    assert.deepEqual(await ids(""), ["1", "2", "3", "4", "5"]);
    assert.deepEqual(await ids("&since=3"), ["4", "5"]);
    assert.deepEqual(await ids("&since=5"), []);
    assert.deepEqual(await ids("&since="), ["1", "2", "3", "4", "5"]);
    for (const wrong of ["since=nonsense", "since=-1", "since=1.5", "since=1e400", "follow=2", "follow=0x"]) {
      const answer = await ask(to, "GET", `/v1/events?${wrong}`);
      assert.deepEqual([answer.status, errorCode(answer)], [400, "REQUEST_INVALID"], wrong);
    }
  });
});

test("a client that reconnects with Last-Event-ID receives what it missed, or everything from a new controller", async () => {
  await withFront("control", async ({ handle, to }) => {
    for (let afterMs = 1; afterMs <= 5; afterMs++) handle.events.add({ kind: "controller_ready", afterMs });
    const ids = async (lastEventId: string, query = "") => {
      const found: string[] = [];
      const again = { ...to, headers: { "last-event-id": lastEventId } };
      for await (const { id } of sse(await open(again, `/v1/events?follow=0${query}`))) found.push(id);
      return found;
    };
    assert.deepEqual(await ids("3"), ["4", "5"]);
    assert.deepEqual(await ids("3", "&since=1"), ["4", "5"], "it is newer than the address");
    assert.deepEqual(await ids("5"), []);
    assert.deepEqual(await ids("700", "&since=4"), ["5"]);
    assert.deepEqual(await ids("what"), ["1", "2", "3", "4", "5"]);
  });
});

test("bytes that are not a request get a JSON error and a closed connection", async () => {
  await withFront("tcp", async ({ to }) => {
    const exchange = async (bytes: string | Buffer): Promise<string> => {
      const socket = connect(Number(to.port), "127.0.0.1");
      socket.write(bytes);
      let text = "";
      socket.on("data", (chunk) => {
        text += chunk;
      });
      await once(socket, "end");
      socket.destroy();
      return text;
    };
    const head = "GET /health HTTP/1.1\r\nHost: localhost\r\n";
    for (const [bytes, status] of [
      ["hello\r\n\r\n", 400],
      [Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00]), 400],
      [`${head}X-Long: ${"a".repeat(20_000)}\r\n\r\n`, 431],
      [`${head}Expect: the-unexpected\r\nConnection: close\r\n\r\n`, 417],
      ["GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n", 400],
      ["GET //v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404],
    ] as const) {
      const text = await exchange(bytes);
      assert.ok(text.startsWith(`HTTP/1.1 ${status} `), text);
      const [, body = ""] = text.split("\r\n\r\n");
      assert.equal((JSON.parse(body) as { error: { code: string } }).error.code, "REQUEST_INVALID");
    }
  });
});

test("HEAD of a stream ends", async () => {
  await withFront("control", async ({ handle, to }) => {
    for (const path of ["/v1/events", "/v1/logs"]) {
      const answer = await ask(to, "HEAD", path);
      assert.deepEqual([answer.status, answer.headers["content-type"]], [200, "text/event-stream"]);
    }
    assert.equal(handle.taps.size, 0);
  });
});

test("a disconnected client is no longer notified", async () => {
  await withFront("control", async ({ handle, server, to }) => {
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    server.once("request", (_, response) => response.once("close", resolve));
    const response = await open(to, "/v1/logs");
    assert.equal(handle.taps.size, 1);
    response.destroy();
    await closed;
    assert.equal(handle.taps.size, 0);
    handle.log("stdout", "nobody reads this\n");
  });
});

test("a client that does not read loses events within its buffer limit and receives their number", async () => {
  await withFront("control", async ({ handle, server, to }) => {
    const { promise: serving, resolve } = Promise.withResolvers<ServerResponse>();
    server.once("request", (_, response) => resolve(response));
    const response = await open(to, "/v1/events");
    const onServer = await serving;
    const reason = "x".repeat(100_000);
    const total = 200;
    for (let event = 0; event < total; event++) handle.events.add({ kind: "controller_started", reason });
    assert.ok(
      onServer.writableLength <= (1 << 20) + 2 * reason.length + 4096,
      `${onServer.writableLength} bytes unread`,
    );
    assert.ok(onServer.writableLength > 1 << 20);
    const drained = once(onServer, "drain");
    const stream = sse(response);
    const [first] = await take(stream, 1);
    assert.equal(first?.id, "1");
    let received = 1;
    let lost = 0;
    const reading = (async () => {
      for await (const { name, data } of stream) {
        if (name === "lost") lost += (data as { lost: number }).lost;
        else received++;
        if ((data as EventRecord).kind === "controller_stopping") return;
      }
    })();
    await drained;
    handle.events.add({ kind: "controller_stopping", reason: "the end" });
    await reading;
    assert.ok(lost > 0);
    assert.equal(received + lost, total + 1);
    response.destroy();
  });
});

test("log followers that do not read share bounded buffers", async () => {
  await withFront("control", async ({ handle, server, to }) => {
    const serving: ServerResponse[] = [];
    server.on("request", (_, response) => serving.push(response));
    const followers = await Promise.all([...Array(8)].map(() => open(to, "/v1/logs")));
    assert.equal(handle.taps.size, 1, "one look at each line");
    const line = `${"x".repeat(99)}\n`;
    const before = process.memoryUsage().arrayBuffers;
    for (let turn = 0; turn < 400; turn++) handle.log("stdout", line.repeat(500));
    for (const { writableLength } of serving) assert.ok(writableLength < 2 << 20, `${writableLength} bytes unread`);
    const heldBytes = process.memoryUsage().arrayBuffers - before;
    assert.ok(heldBytes < 40 << 20, `${heldBytes} bytes for all`);
    const stream = sse(followers[0] as IncomingMessage);
    const drained = once(serving[0] as ServerResponse, "drain");
    await take(stream, 1);
    let lost = 0;
    let received = 1;
    const reading = (async () => {
      for await (const { name, data } of stream) {
        if (name === "lost") lost += (data as { lost: number }).lost;
        else received++;
        if ((data as { line?: string }).line === "the end") return;
      }
    })();
    await drained;
    handle.log("stdout", "the end\n");
    await reading;
    assert.ok(lost > 0);
    assert.equal(received + lost, 400 * 500 + 1);
    for (const follower of followers) follower.destroy();
  });
});

test("concurrent scrapes share one exposition", async () => {
  await withFront("tcp", async ({ handle, to }) => {
    let expositions = 0;
    let isSameTurn = false;
    // The controller gives all scrapes of one turn the same text.
    handle.metrics = () => {
      if (!isSameTurn) {
        expositions++;
        for (const until = performance.now() + 20; performance.now() < until; );
      }
      isSameTurn = true;
      setImmediate(() => {
        isSameTurn = false;
      });
      return { text: "x".repeat(100_000), contentType: "text/plain" };
    };
    const answers = await Promise.all([...Array(50)].map(() => ask(to, "GET", "/metrics")));
    assert.deepEqual(new Set(answers.map(({ status, text }) => `${status} ${text.length}`)), new Set(["200 100000"]));
    assert.ok(expositions < 25, `${expositions} for 50 scrapes`);
  });
});

test("a page of another origin may load only health and the dashboard", async () => {
  await withFront("tcp", async ({ handle, to }) => {
    const image = { "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image" };
    const page = { ...to, headers: { host: "localhost", ...image } };
    for (const path of [
      "/metrics",
      "/metrics/workers",
      "/v1/status?detail=1",
      "/v1/logs",
      "/v1/events",
      "/v1/openapi.json",
    ])
      assert.equal((await ask(page, "GET", path)).status, 403, path);
    for (const path of ["/debug/pprof/profile", "/debug/pprof/heap"]) {
      assert.equal((await ask(page, "POST", path)).status, 403, path);
      assert.equal((await ask({ ...to, headers: { host: "localhost" } }, "GET", path)).status, 405, path);
    }
    assert.equal((await ask(page, "GET", "/health/live")).status, 200);
    const link = { host: "localhost", ...image, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };
    assert.equal((await ask({ ...to, headers: link }, "GET", "/metrics")).status, 200);
    assert.deepEqual([handle.orders, handle.taps.size], [[], 0]);
  });
});

test("log lines are complete and keep their stream, however the chunks are split", async () => {
  await withFront("control", async ({ handle, to }) => {
    const response = await open(to, "/v1/logs");
    const stream = sse(response);
    const umlaut = Buffer.from("größe\n");
    handle.log("stdout", "one\ntwo\nthr");
    handle.log("stderr", "error\n");
    handle.log("stdout", "ee\n\n");
    handle.log("stdout", umlaut.subarray(0, 3));
    handle.log("stdout", umlaut.subarray(3));
    handle.log("stdout", "not yet whole");
    assert.deepEqual(
      (await take(stream, 6)).map(({ data }) => data),
      [
        { stream: "stdout", line: "one" },
        { stream: "stdout", line: "two" },
        { stream: "stderr", line: "error" },
        { stream: "stdout", line: "three" },
        { stream: "stdout", line: "" },
        { stream: "stdout", line: "größe" },
      ],
    );
    response.destroy();
  });
});

test("a client that does not speak HTTP is disconnected without affecting others", async () => {
  await withFront("tcp", async ({ to }) => {
    const socket = connect({ host: "127.0.0.1", port: Number(to.port) });
    socket.on("error", () => {});
    socket.end("\u0016\u0003\u0001 no HTTP\r\n\r\n");
    socket.resume();
    await once(socket, "close");
    assert.equal((await ask(to, "GET", "/health/live")).status, 200);
  });
});

test("a failed accept is not fatal", async () => {
  await withFront("control", async ({ server, to }) => {
    for (let failure = 0; failure < 3; failure++) server.emit("error", new Error("accept ENOBUFS"));
    assert.equal((await ask(to, "GET", "/health/live")).status, 200);
  });
});

test("a client that disconnects within a body does not affect others", async () => {
  await withFront("control", async ({ handle, server, to }) => {
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    server.once("request", (_, response) => response.once("close", resolve));
    const socket = connect(String(to.socketPath));
    socket.on("error", () => {});
    socket.write("POST /v1/shutdown HTTP/1.1\r\nhost: c\r\ncontent-length: 10\r\n\r\nhalf", () => socket.destroy());
    await closed;
    assert.equal((await ask(to, "GET", "/health/live")).status, 200);
    assert.deepEqual(handle.orders, []);
  });
});

test("idle clients never block new ones: the longest idle connection is closed", async () => {
  for (const kind of ["tcp", "control"] as const) {
    await withFront(kind, async ({ to }) => {
      const sockets: Socket[] = [];
      const closed = new Set<Socket>();
      const stream = await open(to, "/v1/events");
      for (let count = 0; count < 400; count++) {
        const socket = kind === "tcp" ? connect(Number(to.port), "127.0.0.1") : connect(String(to.socketPath));
        sockets.push(socket);
        socket.on("error", () => {});
        socket.on("close", () => closed.add(socket));
        await once(socket, "connect");
        // Half of them are slow, not silent.
        if (count % 2 === 0) socket.write("GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ");
      }
      assert.equal((await ask(to, "GET", "/health/live")).status, 200);
      assert.equal((await ask(to, "GET", "/metrics")).status, 200);
      const [first, last] = [sockets[0], sockets.at(-1)];
      assert.ok(first !== undefined && last !== undefined && closed.has(first) && !closed.has(last));
      assert.ok(!stream.destroyed, "a follower is not idle");
      stream.destroy();
      for (const socket of sockets) socket.destroy();
    });
  }
});

test("the number of followers is limited, and a disconnect frees a place", async () => {
  await withFront("control", async ({ server, to }) => {
    const streams: IncomingMessage[] = [];
    const left = new Promise<void>((resolve) => {
      server.once("request", (_, response) => response.once("close", resolve));
    });
    for (let count = 0; count < 32; count++) streams.push(await open(to, count % 2 === 0 ? "/v1/logs" : "/v1/events"));
    const refused = await ask(to, "GET", "/v1/logs");
    assert.deepEqual([refused.status, errorCode(refused)], [429, "REQUEST_REFUSED"]);
    assert.equal((await ask(to, "GET", "/v1/status")).status, 200);
    streams[0]?.destroy();
    await left;
    (await open(to, "/v1/logs")).destroy();
    for (const stream of streams) stream.destroy();
  });
});

test("clients that do not read their responses are disconnected before they use much memory", async () => {
  await withFront("tcp", async ({ handle, to }) => {
    const text = "x".repeat(8 << 20);
    handle.metrics = () => ({ text, contentType: "text/plain" });
    const sockets: Socket[] = [];
    for (let count = 0; count < 20; count++) {
      const socket = connect(Number(to.port), "127.0.0.1");
      sockets.push(socket.pause());
      socket.on("error", () => {});
      socket.write("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
      assert.equal((await ask(to, "GET", "/health/live")).status, 200);
    }
    assert.equal((await ask(to, "GET", "/metrics")).text.length, text.length);
    for (const socket of sockets) socket.resume();
    await Promise.all(sockets.map((socket) => socket.closed || once(socket, "close")));
    const whole = sockets.filter((socket) => socket.bytesRead >= text.length).length;
    assert.ok(whole <= 6, `${whole} of 20 answers of 8 MiB were kept for clients that did not read`);
  });
});

test("details of workers are sent only if requested", async () => {
  await withFront("control", async ({ to }) => {
    const plain = JSON.parse((await ask(to, "GET", "/v1/status")).text) as Status;
    assert.ok(
      plain.pools.every(({ balance, workers }) => balance === undefined && workers.every((each) => !each.detail)),
    );
    const detailed = JSON.parse((await ask(to, "GET", "/v1/status?detail=1")).text) as Status;
    const [web, jobs] = detailed.pools;
    assert.equal(web?.balance?.advice, "do something");
    assert.equal(web?.workers[0]?.detail?.open_fds, 17);
    assert.equal(web?.workers[1]?.detail, undefined);
    assert.equal(jobs?.balance, undefined);
    assert.equal(web?.workers[0]?.detail?.processes, undefined);
    const full = JSON.parse((await ask(to, "GET", "/v1/status?processes=1")).text) as Status;
    assert.equal(full.pools[0]?.workers[0]?.detail?.processes?.[0]?.command, "sh -c wait");
    const wrong = await ask(to, "GET", "/v1/status?detail=yes");
    assert.deepEqual([wrong.status, errorCode(wrong)], [400, "REQUEST_INVALID"]);
  });
});

test("the workers' metrics are open to all, and a failure closes the connection", async () => {
  await withFront("tcp", async ({ handle, to }) => {
    const { status, text } = await ask(to, "GET", "/metrics/workers");
    assert.deepEqual([status, text], [200, "of workers, for "]);
    handle.workerMetrics = () => Promise.reject(new Error("broken"));
    await assert.rejects(ask(to, "GET", "/metrics/workers"), { code: "ECONNRESET" });
  });
});
